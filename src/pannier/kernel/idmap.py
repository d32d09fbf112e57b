"""User namespaces and their id maps (user_namespaces(7)), and arithmetic on maps.

A map is a list of (first id inside, first id outside, count). Which range a container gets is
decided in ``engine``.
"""

from __future__ import annotations

import os

from pannier.base.errors import KernelError
from pannier.kernel import _libc, namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    IdMap = Sequence[Sequence[int]]


def to_host(inside: int, mapping: IdMap) -> int:
    """The id outside for an id *inside*; without a map they are the same.

    Raises:
        ValueError: the id has no place in the map.
    """
    if not mapping:
        return inside
    for first, outside, count in mapping:
        if first <= inside < first + count:
            return outside + inside - first
    raise ValueError(f"id {inside} is not mapped into this container")


def write_maps(pid: int, uid_map: IdMap, gid_map: IdMap) -> None:
    """Give the user namespace of *pid* its maps; works once per namespace."""
    for name, mapping in (("gid_map", gid_map), ("uid_map", uid_map)):
        # one write(2) each: the kernel refuses a second one
        text = "".join(f"{a} {b} {c}\n" for a, b, c in mapping)
        write_file(f"/proc/{pid}/{name}", text)


def new_user_namespace(uid_map: IdMap, gid_map: IdMap) -> int:
    """A user namespace that no process is in, as an fd; for single-threaded processes only."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    pid, pidfd = _libc.clone3(_libc.CLONE_NEWUSER)
    if pid == 0:
        os.close(write_end)
        os.read(read_end, 1)  # ends with the parent, at the latest
        os._exit(0)
    try:
        write_maps(pid, uid_map, gid_map)
        return namespaces.open_namespace(pid, "user")
    finally:
        os.close(read_end)
        os.close(write_end)
        os.close(pidfd)
        os.waitpid(pid, 0)


def write_file(path: str, text: str) -> None:
    """Write a kernel file with one write(2), so that its errors are seen.

    Raises:
        KernelError: naming the file.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError(error.errno or 0, "write", path) from error
