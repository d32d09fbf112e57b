"""What stacks need of the floors below, as narrow interfaces.

The daemon hands in the engine's own objects; tests hand in fakes.  Nothing here knows compose.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from pannier.wire.containers import CreateBody
from pannier.wire.images import ImageDelete, ImageInspect, RegistryAuth
from pannier.wire.networks import Network, NetworkCreate
from pannier.wire.system import Progress
from pannier.wire.volumes import Volume, VolumeCreate, VolumeList


class Health(Protocol):
    @property
    def status(self) -> str:
        """``starting``, ``healthy`` or ``unhealthy``."""
        ...


class State(Protocol):
    @property
    def status(self) -> str:
        """``created``, ``running``, ``paused``, ``restarting``, ``exited`` or ``dead``."""
        ...

    @property
    def exit_code(self) -> int: ...
    @property
    def restart_count(self) -> int: ...
    @property
    def health(self) -> Health | None:
        """None for a container without a health check."""
        ...


class Container(Protocol):
    """A container as it is now: the attributes follow its life."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def image_id(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def state(self) -> State: ...


class LogRecord(Protocol):
    @property
    def data(self) -> bytes: ...


class LogWish(Protocol):
    """What to read of a log; times in nanoseconds since the epoch."""

    @property
    def stdout(self) -> bool: ...
    @property
    def stderr(self) -> bool: ...
    @property
    def follow(self) -> bool: ...
    @property
    def tail(self) -> int | None: ...
    @property
    def since_ns(self) -> int: ...
    @property
    def until_ns(self) -> int | None: ...


class Containers(Protocol):
    """``engine.containers``."""

    def all(self) -> Iterable[Container]: ...
    def get(self, ref: str) -> Container:
        """
        Raises:
            NotFound: no such container.
        """
        ...

    async def create(self, name: str | None, body: CreateBody) -> Container: ...
    async def start(self, ref: str) -> None:
        """Returns when its process runs; its names are in DNS from then on."""
        ...

    async def stop(self, ref: str, timeout: float | None = None) -> None:
        """
        Raises:
            NotModified: it does not run.
        """
        ...

    async def restart(self, ref: str, timeout: float | None = None) -> None: ...
    async def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None: ...
    async def rename(self, ref: str, name: str) -> None: ...
    async def inspect(self, ref: str) -> Mapping[str, Any]: ...
    def logs(self, ref: str, options: LogWish) -> AsyncIterator[LogRecord]: ...
    def withdraw(self, ref: str) -> None:
        """Take its names out of DNS; it goes on running and keeps its connections."""
        ...

    def announce(self, ref: str) -> None:
        """Put its names into DNS (again)."""
        ...


class Networks(Protocol):
    """``engine.networks``."""

    async def create(self, body: NetworkCreate) -> str: ...
    async def summaries(self, filters: Mapping[str, list[str]]) -> Sequence[Network]: ...
    async def remove(self, ref: str) -> None: ...


class Volumes(Protocol):
    """``engine.volumes``."""

    async def create(self, body: VolumeCreate) -> Volume: ...
    async def summaries(self, filters: Mapping[str, list[str]]) -> VolumeList: ...
    async def remove(self, name: str, *, force: bool = False) -> None: ...


class Images(Protocol):
    """``engine.images``."""

    async def inspect(self, ref: str) -> ImageInspect:
        """
        Raises:
            NotFound: it is not here.
        """
        ...

    async def pull(
        self,
        ref: str,
        *,
        auth: RegistryAuth | None,
        platform: str,
        report: Callable[[Progress], None],
    ) -> None: ...

    async def remove(self, ref: str, *, force: bool, noprune: bool) -> Sequence[ImageDelete]: ...
