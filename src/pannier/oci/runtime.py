"""The OCI runtime specification as plain JSON dictionaries with types (config.md, config-linux.md).

Only what Linux uses. No behaviour and no validation belong here: a specification is made by the
engine or read by ``pannier-runtime``, and carried out by ``runtime``. Importing this module loads
``typing``, so the keeper's modules import it under a ``TYPE_CHECKING = False`` guard only.
"""

from __future__ import annotations

from typing import Literal, Required, TypedDict

SPEC_VERSION = "1.2.0"

NamespaceType = Literal["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"]
DeviceType = Literal["a", "b", "c", "p", "u"]
SeccompAction = Literal[
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
]
SeccompOperator = Literal[
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
]


class User(TypedDict, total=False):
    """Ids as seen inside the container."""

    uid: Required[int]
    gid: Required[int]
    umask: int
    additionalGids: list[int]
    username: str


class Capabilities(TypedDict, total=False):
    """Five sets of names such as ``CAP_CHOWN`` (capabilities(7))."""

    bounding: list[str]
    effective: list[str]
    inheritable: list[str]
    permitted: list[str]
    ambient: list[str]


class Rlimit(TypedDict):
    """``type`` as in getrlimit(2), e.g. ``RLIMIT_NOFILE``."""

    type: str
    hard: int
    soft: int


class ConsoleSize(TypedDict):
    """Characters."""

    height: int
    width: int


class Process(TypedDict, total=False):
    """What runs as the first process, or by exec."""

    terminal: bool
    consoleSize: ConsoleSize
    user: Required[User]
    args: Required[list[str]]
    env: list[str]
    cwd: Required[str]
    capabilities: Capabilities
    rlimits: list[Rlimit]
    noNewPrivileges: bool
    apparmorProfile: str
    oomScoreAdj: int
    selinuxLabel: str


class Root(TypedDict, total=False):
    """The root file system."""

    path: Required[str]
    readonly: bool


class IdMapping(TypedDict):
    """One line of uid_map (user_namespaces(7))."""

    containerID: int
    hostID: int
    size: int


class Mount(TypedDict, total=False):
    """One mount, in list order; pannier adds the option ``idmap``: by the container's map."""

    destination: Required[str]
    type: str
    source: str
    options: list[str]
    uidMappings: list[IdMapping]
    gidMappings: list[IdMapping]


class Namespace(TypedDict, total=False):
    """A namespace to make, or with ``path`` to join."""

    type: Required[NamespaceType]
    path: str


class Device(TypedDict, total=False):
    """A node below /dev. ``fileMode`` is a number of permission bits."""

    type: Required[DeviceType]
    path: Required[str]
    major: int
    minor: int
    fileMode: int
    uid: int
    gid: int


class DeviceRule(TypedDict, total=False):
    """A rule of the device cgroup; a missing number means all."""

    allow: Required[bool]
    type: DeviceType
    major: int
    minor: int
    access: str


class Memory(TypedDict, total=False):
    """Bytes; -1 is no limit. ``swap`` is memory + swap together, as on cgroup v1."""

    limit: int
    reservation: int
    swap: int
    kernel: int
    kernelTCP: int
    swappiness: int
    disableOOMKiller: bool
    useHierarchy: bool
    checkBeforeUpdate: bool


class Cpu(TypedDict, total=False):
    """``quota``, ``period``, ``burst`` in microseconds; ``shares`` 2 to 262144, default 1024."""

    shares: int
    quota: int
    burst: int
    period: int
    realtimeRuntime: int
    realtimePeriod: int
    cpus: str
    mems: str
    idle: int


class Pids(TypedDict):
    """``limit`` 0 or -1 is no limit."""

    limit: int


class WeightDevice(TypedDict, total=False):
    """Share of one block device, 10 to 1000."""

    major: Required[int]
    minor: Required[int]
    weight: int
    leafWeight: int


class ThrottleDevice(TypedDict):
    """Bytes or operations per second on one block device."""

    major: int
    minor: int
    rate: int


class BlockIO(TypedDict, total=False):
    """Weights 10 to 1000; throttles per device."""

    weight: int
    leafWeight: int
    weightDevice: list[WeightDevice]
    throttleReadBpsDevice: list[ThrottleDevice]
    throttleWriteBpsDevice: list[ThrottleDevice]
    throttleReadIOPSDevice: list[ThrottleDevice]
    throttleWriteIOPSDevice: list[ThrottleDevice]


class HugepageLimit(TypedDict):
    """``pageSize`` as ``2MB``; ``limit`` in bytes."""

    pageSize: str
    limit: int


class Resources(TypedDict, total=False):
    """What cgroups hold a container to."""

    devices: list[DeviceRule]
    memory: Memory
    cpu: Cpu
    pids: Pids
    blockIO: BlockIO
    hugepageLimits: list[HugepageLimit]
    unified: dict[str, str]


class SyscallArg(TypedDict, total=False):
    """A condition on one argument of a system call; ``valueTwo`` is used by MASKED_EQ."""

    index: Required[int]
    value: Required[int]
    valueTwo: int
    op: Required[SeccompOperator]


class SyscallRule(TypedDict, total=False):
    """One action for several calls, if all ``args`` hold."""

    names: Required[list[str]]
    action: Required[SeccompAction]
    errnoRet: int
    args: list[SyscallArg]


class Seccomp(TypedDict, total=False):
    """A system call filter (seccomp(2))."""

    defaultAction: Required[SeccompAction]
    defaultErrnoRet: int
    architectures: list[str]
    flags: list[str]
    listenerPath: str
    listenerMetadata: str
    syscalls: list[SyscallRule]


class Linux(TypedDict, total=False):
    """The part of the specification that only Linux has."""

    uidMappings: list[IdMapping]
    gidMappings: list[IdMapping]
    sysctl: dict[str, str]
    resources: Resources
    cgroupsPath: str
    namespaces: list[Namespace]
    devices: list[Device]
    seccomp: Seccomp
    rootfsPropagation: str
    maskedPaths: list[str]
    readonlyPaths: list[str]
    mountLabel: str


class Hook(TypedDict, total=False):
    """A program run at one point of the life cycle; ``timeout`` in seconds."""

    path: Required[str]
    args: list[str]
    env: list[str]
    timeout: int


class Hooks(TypedDict, total=False):
    """Programs by point of the life cycle."""

    prestart: list[Hook]
    createRuntime: list[Hook]
    createContainer: list[Hook]
    startContainer: list[Hook]
    poststart: list[Hook]
    poststop: list[Hook]


class Spec(TypedDict, total=False):
    """A whole ``config.json``."""

    ociVersion: Required[str]
    process: Process
    root: Root
    hostname: str
    domainname: str
    mounts: list[Mount]
    hooks: Hooks
    annotations: dict[str, str]
    linux: Linux


class State(TypedDict, total=False):
    """What ``state`` prints (runtime.md, State)."""

    ociVersion: Required[str]
    id: Required[str]
    status: Required[Literal["creating", "created", "running", "stopped"]]
    pid: int
    bundle: Required[str]
    annotations: dict[str, str]
