"""Capability sets (capabilities(7)): names to masks, and putting the five sets in force.

Which container gets which capabilities is decided in ``engine.kinds``.
"""

from __future__ import annotations

import os

from pannier.base.errors import InvalidArgument
from pannier.kernel import _libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# In the order of their kernel numbers (linux/capability.h): index == number.
_NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO "
    "SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME "
    "SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG "
    "WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()
_NUMBERS = {f"CAP_{name}": number for number, name in enumerate(_NAMES)}

CAP_SYS_ADMIN = 1 << _NUMBERS["CAP_SYS_ADMIN"]


def mask(names: Iterable[str]) -> int:
    """The bit mask of capability *names* such as ``CAP_CHOWN``.

    Raises:
        InvalidArgument: a name is unknown.
    """
    result = 0
    for name in names:
        number = _NUMBERS.get(name.upper())
        if number is None:
            raise InvalidArgument(f"unknown capability {name!r}")
        result |= 1 << number
    return result


def last_capability() -> int:
    """The highest capability number that the running kernel knows."""
    fd = os.open("/proc/sys/kernel/cap_last_cap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(os.read(fd, 16))
    finally:
        os.close(fd)


def drop_bounding(keep: int, last: int) -> None:
    """Drop all but *keep* (a mask) of the capabilities 0 to *last* from the bounding set."""
    for number in range(last + 1):
        if not keep & (1 << number):
            _libc.prctl(_libc.PR_CAPBSET_DROP, number)


def permitted(text: bytes) -> int:
    """The permitted set in the content of a ``/proc/PID/status``."""
    for line in text.splitlines():
        if line.startswith(b"CapPrm:"):
            return int(line.split()[1], 16)
    return 0


def raise_ambient(names_mask: int, last: int) -> None:
    """Make the ambient set exactly *names_mask*; each must be permitted and inheritable."""
    _libc.prctl(_libc.PR_CAP_AMBIENT, _libc.PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(last + 1):
        if names_mask & (1 << number):
            _libc.prctl(_libc.PR_CAP_AMBIENT, _libc.PR_CAP_AMBIENT_RAISE, number)
