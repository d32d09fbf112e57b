"""What a container gets when nobody says otherwise, as plain data: the defaults of Docker (moby
``oci/defaults.go``, ``oci/caps/defaults.go``), and those of OS containers where they differ.

Choosing between them is the work of ``engine.kinds``; carrying them out that of ``runtime``.
"""

from __future__ import annotations

from pannier.oci.runtime import Device, DeviceRule, Mount, Namespace, Rlimit

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

DEFAULT_CAPABILITIES: tuple[str, ...] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)

# In the order of their kernel numbers (linux/capability.h): index == number.
ALL_CAPABILITIES: tuple[str, ...] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)

# An OS container's init gets everything its user namespace gives it but these. CAP_SYS_RAWIO is the
# ConditionCapability of systemd's sys-kernel-debug.mount and sys-kernel-tracing.mount: with it in
# the bounding set both units fail and the system is "degraded".
OS_DROPPED_CAPABILITIES: tuple[str, ...] = (
    "CAP_SYS_RAWIO",
    "CAP_SYS_MODULE",
    "CAP_SYS_TIME",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
)

MASKED_PATHS: tuple[str, ...] = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)

READONLY_PATHS: tuple[str, ...] = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)

DEFAULT_MOUNTS: tuple[Mount, ...] = (
    {
        "destination": "/proc",
        "type": "proc",
        "source": "proc",
        "options": ["nosuid", "noexec", "nodev"],
    },
    {
        "destination": "/dev",
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    {
        "destination": "/sys",
        "type": "sysfs",
        "source": "sysfs",
        "options": ["nosuid", "noexec", "nodev", "ro"],
    },
    {
        "destination": "/sys/fs/cgroup",
        "type": "cgroup",
        "source": "cgroup",
        "options": ["ro", "nosuid", "noexec", "nodev"],
    },
    {
        "destination": "/dev/mqueue",
        "type": "mqueue",
        "source": "mqueue",
        "options": ["nosuid", "noexec", "nodev"],
    },
    {
        "destination": "/dev/shm",
        "type": "tmpfs",
        "source": "shm",
        "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"],
    },
)

DEFAULT_SHM_SIZE = 64 * 1024 * 1024

DEFAULT_NAMESPACES: tuple[Namespace, ...] = (
    {"type": "mount"},
    {"type": "network"},
    {"type": "uts"},
    {"type": "pid"},
    {"type": "ipc"},
    {"type": "cgroup"},
    {"type": "user"},
)


def _node(path: str, major: int, minor: int) -> Device:
    return {
        "path": path,
        "type": "c",
        "major": major,
        "minor": minor,
        "fileMode": 0o666,
        "uid": 0,
        "gid": 0,
    }


# Numbers from the kernel's Documentation/admin-guide/devices.txt. In a user namespace mknod(2) is
# refused (EPERM), so there the runtime binds the host's nodes instead.
DEFAULT_NODES: tuple[Device, ...] = (
    _node("/dev/null", 1, 3),
    _node("/dev/zero", 1, 5),
    _node("/dev/full", 1, 7),
    _node("/dev/random", 1, 8),
    _node("/dev/urandom", 1, 9),
    _node("/dev/tty", 5, 0),
)

DEFAULT_LINKS: tuple[tuple[str, str], ...] = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/core", "/proc/kcore"),
)


def _allow(kind: str, major: int | None, minor: int | None, access: str) -> DeviceRule:
    rule: DeviceRule = {"allow": True, "type": "c" if kind == "c" else "b", "access": access}
    if major is not None:
        rule["major"] = major
    if minor is not None:
        rule["minor"] = minor
    return rule


# First everything is denied, then: making any node, which is harmless without opening it; the nodes
# above; the console, the pty multiplexer and all ptys (136 to 143 are the Unix98 slaves).
DEFAULT_DEVICE_RULES: tuple[DeviceRule, ...] = (
    {"allow": False, "access": "rwm"},
    _allow("c", None, None, "m"),
    _allow("b", None, None, "m"),
    *(_allow("c", node["major"], node["minor"], "rwm") for node in DEFAULT_NODES),
    _allow("c", 5, 1, "rwm"),
    _allow("c", 5, 2, "rwm"),
    _allow("c", 136, None, "rwm"),
)

ALL_DEVICES_RULES: tuple[DeviceRule, ...] = ({"allow": True, "access": "rwm"},)

DEFAULT_RLIMITS: tuple[Rlimit, ...] = ()

# Inside their own network and ipc namespace these are harmless and programs want them: ports below
# 1024 and ping for every user (moby `daemon/oci_linux.go`).
DEFAULT_SYSCTLS: dict[str, str] = {
    "net.ipv4.ip_unprivileged_port_start": "0",
    "net.ipv4.ping_group_range": "0 2147483647",
}
