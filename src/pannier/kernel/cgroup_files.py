"""Reading and writing the small files of a cgroup directory.

One write is one ``write(2)``: Python's buffered files send the data when they are closed and lose
the error there, so a refused limit (EBUSY, EINVAL) would look like success.
"""

from __future__ import annotations

import errno
import os

from pannier.base.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_READ_SIZE = 1 << 16

_HINTS = {
    errno.EACCES: "pannier needs to own this cgroup: run it as root, outside of a container",
    errno.EROFS: "cgroups are mounted read-only here",
    errno.EINVAL: "the kernel refuses this value here",
    errno.ENOSPC: "a limit of cgroups is reached",
}


def write(path: str, value: str, *, hint: str | None = None) -> None:
    """Write *value* to the kernel file *path*.

    Raises:
        KernelError: with *hint*, or a general one for the error number.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        number = error.errno or errno.EIO
        raise KernelError(number, f"write {value!r} to", path, hint or _HINTS.get(number)) from None


def read(path: str) -> str:
    """The content of *path*, without the last newline.

    Raises:
        KernelError: it is not there, or the cgroup is gone (ENODEV).
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            parts = []
            while part := os.read(fd, _READ_SIZE):
                parts.append(part)
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError(error.errno or errno.EIO, "read", path) from None
    return b"".join(parts).decode().rstrip("\n")


def exists(path: str) -> bool:
    return os.access(path, os.F_OK)


def read_int(path: str, default: int = 0) -> int:
    """A file with one number; ``max`` is -1; *default* if it does not exist."""
    try:
        value = read(path)
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
            return default
        raise
    return -1 if value == "max" else int(value)


def read_pairs(path: str) -> dict[str, int]:
    """A flat keyed file (``name number`` per line); empty if it does not exist."""
    try:
        lines = read(path).splitlines()
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
            return {}
        raise
    return {name: int(value) for name, _, value in (line.partition(" ") for line in lines)}


def read_pids(path: str) -> list[int]:
    """A list of process ids, one per line; empty if the cgroup is gone."""
    try:
        return [int(line) for line in read(path).splitlines()]
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
            return []
        raise


def tree(directory: str) -> Iterator[str]:
    """*directory* and all cgroups below it, children first."""
    try:
        with os.scandir(directory) as entries:
            children = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    for child in children:
        yield from tree(child)
    yield directory
