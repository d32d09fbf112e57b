"""Where this host has its control groups, and in which of the two versions."""

from __future__ import annotations

import os

from pannier.base.errors import Unsupported
from pannier.kernel.cgroup_files import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_V1_CONTROLLERS = ("memory", "cpu", "cpuacct", "cpuset", "devices", "blkio", "pids", "hugetlb")


class Layout:
    """Where the hierarchies are mounted.

    Args:
        v1: controller -> mount point of its version 1 hierarchy (several may share one).
        v2: mount point of version 2, if there is one.
        v2_controllers: those that version 2 has.
    """

    __slots__ = ("v1", "v2", "v2_controllers")

    def __init__(self, v1: dict[str, str], v2: str | None, v2_controllers: Iterable[str]) -> None:
        self.v1 = v1
        self.v2 = v2
        self.v2_controllers = frozenset(v2_controllers)

    @property
    def mode(self) -> str:
        """``hybrid``, ``unified`` or ``legacy``."""
        if self.v2 is None:
            return "legacy"
        return "hybrid" if self.v1 else "unified"

    def mounts(self) -> list[str]:
        """The mount points that are used, each once."""
        found = dict.fromkeys(self.v1.values())
        if self.v2 is not None:
            found[self.v2] = None
        return list(found)


def probe(mountinfo: str = "/proc/self/mountinfo") -> Layout:
    """Read the layout of this host from a mountinfo file (proc_pid_mountinfo(5)).

    Raises:
        Unsupported: no control groups are mounted.
    """
    v1: dict[str, str] = {}
    v2 = None
    for line in read(mountinfo).splitlines():
        head, _, tail = line.partition(" - ")
        fstype, _, options = tail.split(" ", 2)
        target = head.split(" ")[4]
        if fstype == "cgroup2":
            v2 = v2 or target
        elif fstype == "cgroup":
            for name in options.split(","):
                if name in (*_V1_CONTROLLERS, "freezer"):
                    v1.setdefault(name, target)
    if v2 is not None:
        v1.pop("freezer", None)
    elif not v1:
        raise Unsupported(
            "no control groups are mounted on this host",
            hint="mount -t cgroup2 none /sys/fs/cgroup",
        )
    controllers = read(os.path.join(v2, "cgroup.controllers")).split() if v2 else ()
    return Layout(v1, v2, controllers)
