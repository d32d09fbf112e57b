"""What the routes need from the floors below, as narrow Protocols; one for each resource.

Nothing here is implemented here: the daemon hands in objects of these shapes (`Backend`). Every
method raises errors of `base.errors`; `api.status` turns them into answers. ``ref`` is a name, an
id or an unambiguous beginning of one. Methods without ``async`` look only at memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pannier.wire import containers as c
from pannier.wire import images as i
from pannier.wire import networks as n
from pannier.wire import stacks as s
from pannier.wire import states as st
from pannier.wire import system as sy
from pannier.wire import volumes as v

Filters = Mapping[str, list[str]]
Bytes = AsyncIterator[bytes]
Report = Callable[[sy.Progress], None]
Json = Mapping[str, Any]


class Attachment(Protocol):
    """A running process's streams; made before start, so that no byte is lost.

    ``output`` ends when the process has ended and everything it wrote has been handed out.
    """

    def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Chunks with their stream: 1 stdout (all of a tty's output), 2 stderr."""
        ...

    async def write_stdin(self, data: bytes) -> None:
        """Write all of ``data``; waits while the pipe is full; ignored once nobody reads."""
        ...

    async def close_stdin(self) -> None:
        """End of file for the process (a container without a tty, or with StdinOnce)."""
        ...

    async def close(self) -> None:
        """Let go: the process lives on. May be called at any time, and twice."""
        ...


class LogRecord(Protocol):
    """A piece of a line. ``data`` holds the bytes as written, with the line's newline if it ends.

    ``stream`` is "stdout" or "stderr"; ``partial`` says that the line goes on in the next record.
    """

    @property
    def time_ns(self) -> int: ...
    @property
    def stream(self) -> str: ...
    @property
    def partial(self) -> bool: ...
    @property
    def data(self) -> bytes: ...


class Container(Protocol):
    """What the routes look at of a container."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def config(self) -> c.ContainerConfig: ...
    @property
    def host_config(self) -> c.HostConfig: ...
    @property
    def warnings(self) -> list[str]:
        """What its owner should know, though it is no error."""
        ...


class Containers(Protocol):
    """``engine.containers``."""

    def get(self, ref: str) -> Container: ...
    async def create(self, name: str | None, body: c.CreateBody) -> Container: ...
    async def start(self, ref: str) -> None: ...
    async def stop(self, ref: str, timeout: float | None, signal: int | None) -> None: ...
    async def restart(self, ref: str, timeout: float | None, signal: int | None) -> None: ...
    async def kill(self, ref: str, signal: int) -> None: ...
    async def pause(self, ref: str) -> None: ...
    async def unpause(self, ref: str) -> None: ...
    async def remove(self, ref: str, *, force: bool, volumes: bool) -> None: ...
    async def rename(self, ref: str, name: str) -> None: ...
    async def update(self, ref: str, body: c.UpdateBody) -> Sequence[str]:
        """Returns warnings."""
        ...

    def wait(self, ref: str, condition: WaitCondition) -> Awaitable[int]:
        """The exit code. What counts as "next" is fixed before the first suspension."""
        ...

    async def summaries(
        self, *, all_: bool, filters: Filters, limit: int, size: bool
    ) -> Sequence[st.ContainerSummary]:
        """Newest first; ``limit`` of 0 means no limit (otherwise it implies ``all_``)."""
        ...

    async def inspect(self, ref: str, *, size: bool) -> Json: ...
    def logs(self, ref: str, options: LogOptions) -> AsyncIterator[LogRecord]:
        """Ends at the end of the file, or with ``follow`` when the container has ended."""
        ...

    async def attach(
        self, ref: str, *, stdin: bool, stdout: bool, stderr: bool, logs: bool, stream: bool
    ) -> Attachment:
        """``logs`` starts with what was written before; without ``stream`` it ends there."""
        ...

    async def resize(self, ref: str, rows: int, columns: int) -> None: ...
    async def top(self, ref: str, ps_args: str) -> Json:
        """``Titles`` and ``Processes``."""
        ...

    async def stats(self, ref: str) -> Json:
        """One sample in Docker's shape, without ``precpu_stats``."""
        ...

    async def changes(self, ref: str) -> Sequence[st.Change]: ...
    async def archive_stat(self, ref: str, path: str) -> st.PathStat: ...
    async def archive_get(self, ref: str, path: str) -> tuple[st.PathStat, Bytes]: ...
    async def archive_put(
        self, ref: str, path: str, tar: Bytes, *, keep_kind: bool, copy_ids: bool
    ) -> None:
        """``keep_kind``: a directory never replaces a file nor a file a directory."""
        ...

    async def export(self, ref: str) -> Bytes: ...
    async def commit(self, ref: str, options: CommitOptions) -> str:
        """Returns the id of the new image."""
        ...

    async def replace_image(self, ref: str, image: str) -> Json:
        """Go on from another image; the one that is left can be rolled back to."""
        ...

    async def rollback(self, ref: str, *, undo: bool) -> Json:
        """Returns at least ``Image``, the image that is in place now."""
        ...

    async def prune(self, filters: Filters) -> tuple[Sequence[str], int]:
        """Ids removed, bytes freed."""
        ...


WaitCondition = Literal["not-running", "next-exit", "removed"]


@dataclass(frozen=True, slots=True)
class LogOptions:
    """``tail`` None means all lines; times are nanoseconds since the epoch."""

    stdout: bool = True
    stderr: bool = True
    follow: bool = False
    tail: int | None = None
    since_ns: int = 0
    until_ns: int | None = None


@dataclass(frozen=True, slots=True)
class CommitOptions:
    """``changes`` are Dockerfile instructions; ``config`` overrides the container's own."""

    repository: str = ""
    tag: str = ""
    comment: str = ""
    author: str = ""
    pause: bool = True
    changes: tuple[str, ...] = ()
    config: c.CommitConfig | None = None


class Execs(Protocol):
    """``engine.execs``."""

    async def create(self, ref: str, config: c.ExecConfig) -> str: ...
    def startable(self, exec_id: str) -> c.ExecConfig:
        """Its configuration, or the reason why it cannot be started now."""
        ...

    async def start(
        self, exec_id: str, *, detach: bool, size: tuple[int, int] | None
    ) -> Attachment | None:
        """None when detached. ``size`` is rows and columns."""
        ...

    async def inspect(self, exec_id: str) -> Json: ...
    async def resize(self, exec_id: str, rows: int, columns: int) -> None: ...


class Images(Protocol):
    """``engine.images``."""

    async def summaries(self, *, all_: bool, filters: Filters) -> Sequence[i.ImageSummary]: ...
    async def inspect(self, ref: str) -> i.ImageInspect: ...
    async def history(self, ref: str) -> Sequence[i.HistoryItem]: ...
    async def tag(self, ref: str, name: str) -> None:
        """``name`` with its tag, e.g. ``docker.io/library/x:1``."""
        ...

    async def remove(self, ref: str, *, force: bool, noprune: bool) -> Sequence[i.ImageDelete]: ...
    async def prune(self, filters: Filters) -> tuple[Sequence[i.ImageDelete], int]: ...
    async def pull(
        self, ref: str, *, auth: i.RegistryAuth | None, platform: str, report: Report
    ) -> None: ...
    async def push(self, ref: str, *, auth: i.RegistryAuth | None, report: Report) -> None: ...
    async def import_tar(
        self, tar: Bytes, *, name: str, changes: Sequence[str], comment: str
    ) -> str:
        """Makes a one-layer image of a root file system; returns its id."""
        ...

    async def save(self, refs: Sequence[str]) -> Bytes: ...
    async def load(self, tar: Bytes, report: Report) -> None: ...
    async def bootstrap(self, body: i.BootstrapBody, report: Report) -> str:
        """Returns the image's id."""
        ...


class Builder(Protocol):
    """``build``: a Dockerfile and a context -> an image."""

    async def build(self, context: Bytes, options: i.BuildOptions, report: Report) -> str:
        """``context`` is a tar, compressed or not. Output goes to ``report``; returns the id."""
        ...

    async def prune(self, filters: Filters, *, all_: bool, keep: int) -> tuple[Sequence[str], int]:
        """``keep`` bytes stay; returns ids removed and bytes freed."""
        ...


class Networks(Protocol):
    """``engine.networks``."""

    async def create(self, body: n.NetworkCreate) -> str: ...
    async def summaries(self, filters: Filters) -> Sequence[n.Network]: ...
    async def inspect(self, ref: str) -> n.Network: ...
    async def remove(self, ref: str) -> None: ...
    async def connect(self, ref: str, body: n.NetworkConnect) -> None: ...
    async def disconnect(self, ref: str, body: n.NetworkDisconnect) -> None: ...
    async def prune(self, filters: Filters) -> Sequence[str]: ...


class Volumes(Protocol):
    """``engine.volumes``."""

    async def create(self, body: v.VolumeCreate) -> v.Volume: ...
    async def summaries(self, filters: Filters) -> v.VolumeList: ...
    async def inspect(self, name: str) -> v.Volume: ...
    async def remove(self, name: str, *, force: bool) -> None: ...
    async def prune(self, filters: Filters) -> tuple[Sequence[str], int]: ...


class Event(Protocol):
    """What happened to what; see `wire.system.EventMessage`."""

    @property
    def type(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def actor(self) -> str: ...
    @property
    def attributes(self) -> Mapping[str, str]: ...
    @property
    def time_ns(self) -> int: ...


class Events(Protocol):
    """``engine.events``."""

    def subscribe(
        self, since_ns: int | None = None, until_ns: int | None = None
    ) -> AsyncIterator[Event]: ...


class System(Protocol):
    """``engine.system``."""

    def version(self) -> sy.Version: ...
    async def info(self) -> Json: ...
    async def disk_usage(self) -> sy.DiskUsage: ...
    async def shutdown(self, *, force: bool) -> None:
        """End the engine with all its processes, rules and bridges; ``force`` stops containers."""
        ...


class Stacks(Protocol):
    """``stack``: compose projects at work. ``name`` is the project's."""

    def up(self, name: str, body: s.StackUp) -> AsyncIterator[s.StackEvent]: ...
    def down(self, name: str, body: s.StackDown) -> AsyncIterator[s.StackEvent]: ...
    def scale(self, name: str, body: s.StackScale) -> AsyncIterator[s.StackEvent]: ...
    def rollback(self, name: str, body: s.StackRollback) -> AsyncIterator[s.StackEvent]: ...
    async def status(self, name: str) -> s.StackStatus: ...
    async def summaries(self) -> Sequence[s.StackStatus]: ...


class Backend(Protocol):
    """Everything the API serves, put together by the daemon."""

    @property
    def containers(self) -> Containers: ...
    @property
    def execs(self) -> Execs: ...
    @property
    def images(self) -> Images: ...
    @property
    def builder(self) -> Builder: ...
    @property
    def networks(self) -> Networks: ...
    @property
    def volumes(self) -> Volumes: ...
    @property
    def events(self) -> Events: ...
    @property
    def system(self) -> System: ...
    @property
    def stacks(self) -> Stacks: ...
