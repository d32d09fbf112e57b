"""What this host must offer, checked once with a message that says what is missing."""

from __future__ import annotations

import os
from pathlib import Path

from pannier.base.errors import Denied, Unsupported

_OLDEST = (6, 1)
_CAP_SYS_ADMIN = 21
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


def check_host() -> None:
    """
    Raises:
        Denied: not root, or root without its capabilities.
        Unsupported: an old kernel, or one without a feature; the message names it.
    """
    if os.geteuid() != 0 or not _has_capability(_CAP_SYS_ADMIN):
        raise Denied("pannierd needs root with CAP_SYS_ADMIN", hint="start it with sudo")
    release = os.uname().release
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2])
    if numbers < _OLDEST:
        raise Unsupported(
            f"Linux {release} is too old", hint="pannier needs kernel 6.1 or later (Debian 12)"
        )
    for name in _NAMESPACES:
        if not Path(f"/proc/self/ns/{name}").exists():
            raise Unsupported(f"this kernel has no {name} namespaces (CONFIG_NAMESPACES)")
    known = Path("/proc/filesystems").read_text().split()
    if "overlay" not in known and not Path(f"/lib/modules/{release}").is_dir():
        raise Unsupported(
            "this kernel has no overlay file system (CONFIG_OVERLAY_FS)", hint="modprobe overlay"
        )


def _has_capability(number: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False
