"""What the engine knows of one container, as one record that is stored as JSON.

Who changes a record holds the container's lock and saves it (`store.ContainerStore`). Rendering it
for clients belongs to `views`.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from typing import Literal

import msgspec

from pannier.oci.image import ContainerDefaults
from pannier.wire.containers import ContainerConfig, EndpointSettings, HostConfig, PortBinding

Kind = Literal["app", "os"]
Status = Literal["created", "running", "paused", "restarting", "exited", "dead"]


class HealthProbe(msgspec.Struct):
    """One run of a health check; times in nanoseconds."""

    start_ns: int
    end_ns: int
    exit_code: int
    output: str


class Health(msgspec.Struct):
    status: Literal["starting", "healthy", "unhealthy"] = "starting"
    failing_streak: int = 0
    log: list[HealthProbe] = []


class State(msgspec.Struct):
    """Where the container is in its life."""

    status: Status = "created"
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_ns: int = 0
    finished_ns: int = 0
    restart_count: int = 0
    stopped_by_user: bool = False
    health: Health | None = None


class Root(msgspec.Struct, frozen=True):
    """One root file system: an image's layers and a private upper directory.

    Args:
        image_id: ``sha256:...``
        image_ref: how the user called it.
        layers: layer ids, base first.
        generation: names the directory of upper and work below the container's own.
        defaults: what the image says about running it; kept, so that the image may be retagged.
        upper: an upper directory of somebody else (a build step's), with ``work`` beside it.
    """

    image_id: str
    image_ref: str
    layers: tuple[str, ...]
    generation: int
    defaults: ContainerDefaults
    upper: str = ""


class MountPoint(msgspec.Struct, frozen=True):
    """A volume, bind or tmpfs, with everything looked up.

    Args:
        type: ``volume``, ``bind`` or ``tmpfs``.
        name: the volume's name.
        source: host path (volume: its data directory).
        destination: absolute path inside.
        options: OCI mount options.
        subpath: what is mounted below *source*; links of the volume's own lead nowhere else.
    """

    type: str
    source: str
    destination: str
    writable: bool = True
    name: str = ""
    propagation: str = ""
    options: tuple[str, ...] = ()
    anonymous: bool = False
    subpath: str = ""


class Record(msgspec.Struct):
    """The stored part of a container; ``published`` are the host's ports while it runs."""

    id: str
    name: str
    kind: Kind
    created_ns: int
    config: ContainerConfig
    host_config: HostConfig
    networks: dict[str, EndpointSettings]
    root: Root
    id_base: int = 0
    mounts: list[MountPoint] = []
    previous: list[Root] = []
    undone: list[Root] = []
    state: State = msgspec.field(default_factory=State)
    hostname: str = ""
    argv: list[str] = []
    published: dict[str, list[PortBinding]] = {}

    @property
    def roots(self) -> tuple[Root, ...]:
        """The root file system in place, and those it can go back to."""
        return (self.root, *self.previous, *self.undone)


class Container:
    """A record and what lives only in the daemon: its lock and who waits for it."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.lock = asyncio.Lock()
        self.warnings: list[str] = []
        self.exited = asyncio.Event()
        self.removed = asyncio.Event()
        self.starts = 0
        self.exits = 0
        self.changed = asyncio.Condition()
        self.output_done = asyncio.Event()
        self.start_untold = False
        self._log_hold = -1
        self.readers = 0  # attached clients, who are to get all of its output
        # What the last run has left on the host is gone: only then it may be started again.
        self.drained = asyncio.Event()
        self.drained.set()
        # Who has stopped it is about to start it again: its end is not the end of a --rm.
        self.comes_back = False
        if record.state.status not in {"running", "paused"}:
            self.exited.set()
            self.output_done.set()

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def kind(self) -> Kind:
        return self.record.kind

    @property
    def state(self) -> State:
        return self.record.state

    @property
    def config(self) -> ContainerConfig:
        return self.record.config

    @property
    def host_config(self) -> HostConfig:
        return self.record.host_config

    @property
    def labels(self) -> dict[str, str]:
        return self.record.config.labels

    @property
    def image_id(self) -> str:
        return self.record.root.image_id

    @property
    def running(self) -> bool:
        return self.record.state.status in {"running", "paused"}

    def hold_log(self, path: str) -> None:
        """Lock the log for attached clients that do not read yet, so that none of it goes."""
        if self.readers and self._log_hold < 0:
            self._log_hold = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._log_hold, fcntl.LOCK_SH)

    def release_log(self) -> None:
        """They read, with a lock of their own, or are gone."""
        if self._log_hold >= 0:
            os.close(self._log_hold)
            self._log_hold = -1

    async def wait_read(self) -> None:
        """Until every attached client has got all output, or is gone."""
        async with self.changed:
            await self.changed.wait_for(lambda: not self.readers)

    async def notify(self) -> None:
        """Wake everybody who waits for a change of state."""
        async with self.changed:
            self.changed.notify_all()
