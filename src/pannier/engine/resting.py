"""The files of a container that does not run: its layers, with its volumes and binds in their
places, mounted for a moment in the daemon's own mount namespace."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pannier.engine.model import MountPoint
from pannier.kernel import mount, scratch
from pannier.kernel._libc import MOUNT_ATTR_RDONLY
from pannier.kernel.overlay import Stack, mount_overlay
from pannier.kernel.rooted import open_in_root


@contextmanager
def mounted(stack: Stack, points: Sequence[MountPoint], tmp: Path) -> Iterator[int]:
    """A descriptor of the root directory; what is mounted goes at the end.

    Args:
        stack: the layers and the container's own.
        points: tmpfs among them is left out: it is empty.
        tmp: for the mount point, where files are mounted on the root.
    """
    root = mount_overlay(stack)
    try:
        sources = [p for p in points if p.type != "tmpfs"]
        if not sources:
            yield root
            return
        with _attached(root, tmp) as place:
            for point in sorted(sources, key=lambda p: p.destination.count("/")):
                # As with a missing source at the start, which then fails: here the rest is there.
                with suppress(FileNotFoundError):
                    _attach(point, place)
            yield place
    finally:
        os.close(root)


@contextmanager
def _attached(root: int, tmp: Path) -> Iterator[int]:
    """Something is mounted on attached mounts only (before Linux 6.15)."""
    directory = tempfile.mkdtemp(dir=tmp, prefix="files-")
    try:
        below = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            mount.attach(root, below)
        finally:
            os.close(below)
        try:
            yield root
        finally:
            scratch.umount(directory)
    finally:
        # Never more than this: were it still mounted, its files would be a volume's.
        os.rmdir(directory)


def _attach(point: MountPoint, root: int) -> None:
    source = os.open(point.source, os.O_PATH | os.O_CLOEXEC)
    try:
        if point.subpath:
            outer, source = source, open_in_root(source, point.subpath, os.O_PATH)
            os.close(outer)
        target = _target(root, point.destination, stat.S_ISDIR(os.fstat(source).st_mode))
        try:
            _clone(source, target, writable=point.writable)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _clone(source: int, target: int, *, writable: bool) -> None:
    tree = mount.clone_tree("", recursive=True, dirfd=source)
    try:
        mount.set_attributes(tree, 0 if writable else MOUNT_ATTR_RDONLY, 0)
        mount.attach(tree, target)
    finally:
        os.close(tree)


def _target(root: int, path: str, directory: bool) -> int:
    """The place of a mount, made as a start would make it."""
    with suppress(FileNotFoundError):
        return open_in_root(root, path, os.O_PATH)
    parent, name = os.path.split(path)
    if parent != "/":
        above = _target(root, parent, directory=True)
    else:
        above = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    try:
        if directory:
            os.mkdir(name, 0o755, dir_fd=above)
        else:
            os.mknod(name, 0o644 | stat.S_IFREG, dir_fd=above)
    finally:
        os.close(above)
    return open_in_root(root, path, os.O_PATH)
