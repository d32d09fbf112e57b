"""What the engine hands to the runtime, and what it gets back. Daemon side; plain data only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from pannier.base.ids import new_id
from pannier.oci.defaults import ALL_CAPABILITIES, DEFAULT_PATH

if TYPE_CHECKING:
    from pannier.kernel.netlink_types import Interface
    from pannier.oci.runtime import Spec


@dataclass(frozen=True, slots=True)
class Rootfs:
    """The layers of a container's root; ids on disk are unshifted.

    Args:
        lowers: directories, top layer first.
        upper: directory for changes.
        work: beside *upper*, for overlayfs itself.
        volatile: never synced to disk: for containers that are removed when they end.
        readonly: the container cannot change it (mounts still can be writable).
    """

    lowers: list[str]
    upper: str
    work: str
    volatile: bool = False
    readonly: bool = False


@dataclass(frozen=True, slots=True)
class Stdio:
    """How the first process talks to the outside.

    Args:
        tty: it gets a terminal; its master is kept by the keeper.
        stdin: keep standard input open (else it is /dev/null). Always so with a tty.
        rows: size of the terminal, 0 for unknown.
        cols: the same.
        uid: of the process, inside the container: pipes are given to it, since programs reopen
            /dev/stdout (nginx's logs do).
        gid: the same.
    """

    tty: bool = False
    stdin: bool = False
    rows: int = 0
    cols: int = 0
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class LogPolicy:
    """Where output is logged: *max_size* in bytes per file, *max_files* of them."""

    path: str
    max_size: int = 10 << 20
    max_files: int = 3


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything needed to start one container.

    Args:
        id: of the container.
        spec: OCI specification. ``linux.uidMappings`` decides about a user namespace. The option
            ``idmap`` of a bind mount maps its source by the container's own map.
        rootfs: its layers.
        interfaces: of its network namespace, if it has one of its own.
        stdio: of its first process.
        log: for the keeper when it replays this launch with the daemon down.
        init: run tini as PID 1 in front of the command.
        cgroup: path below every hierarchy, from ``CgroupManager.path_for``; "" for none.
        cgroup_owned: the container's root may manage cgroups below its own (version 2).
        replay: start again by itself when PID 1 asks the kernel for a reboot and no daemon is
            connected: OS containers.
    """

    id: str
    spec: Spec
    rootfs: Rootfs
    interfaces: list[Interface] = field(default_factory=list)
    stdio: Stdio = Stdio()
    log: LogPolicy | None = None
    init: bool = False
    cgroup: str = ""
    cgroup_owned: bool = False
    replay: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """A process as it stays recognisable: *start_time* in clock ticks after boot."""

    pid: int
    start_time: int


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """A further process in a running container. It gets the container's seccomp filter.

    Args:
        id: of the container.
        exec_id: chosen by the caller, unique.
        args: program, looked up in the container's PATH, and arguments.
        env: whole; nothing is inherited from anywhere.
        cwd: directory inside.
        uid: who it runs as, inside the container.
        gid: the same.
        groups: supplementary groups.
        capabilities: names; effective only for uid 0 (capabilities(7)).
        tty: give it a terminal of the container's; then no files are handed over.
        rows: size of the terminal, 0 for unknown.
        cols: the same.
        no_new_privileges: as in the container.
        umask: None for the default, 0o022.
    """

    id: str
    exec_id: str
    args: list[str]
    env: list[str] = field(default_factory=list)
    cwd: str = "/"
    uid: int = 0
    gid: int = 0
    groups: list[int] = field(default_factory=list)
    capabilities: list[str] = field(default_factory=list)
    tty: bool = False
    rows: int = 0
    cols: int = 0
    no_new_privileges: bool = False
    umask: int | None = None

    @classmethod
    def internal(cls, container_id: str, args: list[str]) -> Self:
        """One that the engine runs itself, such as ``init 0``: as root, with all that root has."""
        return cls(
            container_id,
            new_id(),
            args,
            [f"PATH={DEFAULT_PATH}"],
            capabilities=list(ALL_CAPABILITIES),
        )


@dataclass(frozen=True, slots=True)
class Executed:
    """A started exec: *tty_fd* is the terminal's master, for the caller to close."""

    pid: int
    tty_fd: int | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """How the first process of a container ended.

    Args:
        id: of the container.
        pid: on the host.
        exit_code: as Docker shows it: the status, or 128 + signal; 255 if nobody saw it.
        signal: 0 if it was not ended by one. SIGHUP and SIGINT may come from reboot(2) inside.
        oom_killed: the kernel's OOM killer struck in it.
        time_ns: when, in nanoseconds after the epoch.
        known: False if nobody saw the exit: all of pannier's processes were gone.
    """

    id: str
    pid: int
    exit_code: int
    signal: int
    oom_killed: bool
    time_ns: int
    known: bool = True


@dataclass(frozen=True, slots=True)
class ExecExit:
    """How an exec'd process ended; fields as in `Exit`."""

    id: str
    exec_id: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Known:
    """One container as the keeper knows it.

    Args:
        id: of the container.
        state: ``created`` (waits for its go), ``running`` or ``exited``.
        pid: of its first process.
        start_time: in clock ticks after boot.
        started_ns: when it got its go, in nanoseconds after the epoch; 0 before.
        replayed: the keeper has started it again by itself since the daemon was last connected.
        exit: set if it has exited.
        execs: ids of exec'd processes that run.
    """

    id: str
    state: str
    pid: int
    start_time: int
    started_ns: int = 0
    replayed: bool = False
    exit: Exit | None = None
    execs: list[str] = field(default_factory=list)

    @property
    def running(self) -> bool:
        return self.state == "running"
