"""Removing a tree that a container has filled: by file descriptors, without following a link, and
however deep it is."""

from __future__ import annotations

import errno
import os

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 200  # below it directories are moved to the top: each level costs a file descriptor


def remove_tree(path: str) -> None:
    """Remove the directory *path* with all it holds; fine if it is gone already.

    Raises:
        OSError: EBUSY, something is mounted in it; nothing below the mount point is touched.
    """
    try:
        top = os.open(path, _FLAGS)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        os.unlink(path)
        return
    try:
        device = os.fstat(top).st_dev
        while _empty(top, top, device, 0):
            pass
    finally:
        os.close(top)
    os.rmdir(path)


def _empty(top: int, directory: int, device: int, depth: int) -> bool:
    """Remove what is in *directory*; true if something was moved to *top* and waits there."""
    moved = False
    with os.scandir(directory) as entries:
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in names:
        if not is_directory:
            os.unlink(name, dir_fd=directory)
        elif depth >= _DEEPEST:
            os.rename(name, os.urandom(8).hex(), src_dir_fd=directory, dst_dir_fd=top)
            moved = True
        else:
            moved |= _remove_directory(top, directory, name, device, depth)
    return moved


def _remove_directory(top: int, parent: int, name: str, device: int, depth: int) -> bool:
    fd = os.open(name, _FLAGS, dir_fd=parent)
    try:
        if os.fstat(fd).st_dev != device:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), name)
        moved = _empty(top, fd, device, depth + 1)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)
    return moved
