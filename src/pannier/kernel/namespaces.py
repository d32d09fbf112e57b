"""Namespaces: their names, files and how a single-threaded process visits them.

Who joins what, and in which order, is decided in ``runtime``.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

from pannier.kernel import _libc
from pannier.kernel._libc import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# OCI name of a namespace -> (clone flag, file below /proc/PID/ns).
TYPES: dict[str, tuple[int, str]] = {
    "user": (CLONE_NEWUSER, "user"),
    "mount": (CLONE_NEWNS, "mnt"),
    "uts": (CLONE_NEWUTS, "uts"),
    "ipc": (CLONE_NEWIPC, "ipc"),
    "network": (CLONE_NEWNET, "net"),
    "pid": (CLONE_NEWPID, "pid"),
    "cgroup": (CLONE_NEWCGROUP, "cgroup"),
    "time": (CLONE_NEWTIME, "time"),
}


def open_namespace(pid: int | str, kind: str) -> int:
    """An fd of the *kind* (OCI name) of namespace that *pid* (or "self") is in."""
    return os.open(f"/proc/{pid}/ns/{TYPES[kind][1]}", os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def visiting(
    targets: Sequence[tuple[int, int]], homes: Sequence[tuple[int, int]]
) -> Iterator[None]:
    """Be in other namespaces for a while; not for user namespaces, which have no way back.

    Args:
        targets: (namespace fd, CLONE_NEW* flag) pairs to enter.
        homes: the same for the way back, one for each kind in *targets*.
    """
    try:
        for fd, flag in targets:
            _libc.setns(fd, flag)
        yield
    finally:
        wanted = 0
        for _, flag in targets:
            wanted |= flag
        for fd, flag in homes:
            if flag & wanted:
                _libc.setns(fd, flag)
