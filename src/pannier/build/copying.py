"""Writing selected files into a root file system, by COPY's rules. Runs in a worker process.

The root file system is an image's, so it is not to be trusted: every path in it is resolved through
a descriptor of its root (openat2(2), RESOLVE_IN_ROOT), and its links lead nowhere else.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pannier.base.errors import InvalidArgument
from pannier.build.selection import Selected
from pannier.build.trees import Entry, Tree, walk
from pannier.kernel.rooted import open_in_root

_DIRECTORY = os.O_PATH | os.O_DIRECTORY
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NODES = {"char": stat.S_IFCHR, "block": stat.S_IFBLK, "fifo": stat.S_IFIFO}
_DIRECTORY_MODE = 0o755


@dataclass(frozen=True, slots=True)
class Owner:
    uid: int
    gid: int


class Target:
    """A root file system to write into.

    Args:
        root: a descriptor of its root directory; stays the caller's.
        owner: of everything that is made; None keeps that of the source.
        mode: permission bits of everything that is copied; None keeps those of the source.
    """

    def __init__(self, root: int, owner: Owner | None = None, mode: int | None = None) -> None:
        self._root = root
        self._owner = owner
        self._mode = mode
        self._links: dict[tuple[int, int], str] = {}

    def is_directory(self, path: str) -> bool:
        try:
            with self._opened(path, _DIRECTORY):
                return True
        except (FileNotFoundError, NotADirectoryError):
            return False

    @contextmanager
    def directory(self, path: str, like: Entry | None = None) -> Iterator[int]:
        """A descriptor of the directory *path*, made with all above it if need be.

        Args:
            path: absolute inside.
            like: gives a new directory its mode and owner.

        Raises:
            InvalidArgument: something on the way is no directory, or a link that leads nowhere.
        """
        try:
            self._ensure(path, like)
            with self._opened(path, _DIRECTORY) as fd:
                yield fd
        except NotADirectoryError as error:
            raise InvalidArgument(f"cannot copy to non-directory: {path}") from error

    def copy(self, tree: Tree, entry: Entry, path: str) -> None:
        """Put one file that is no directory at *path*; what is there is replaced."""
        parent, name = posixpath.split(path)
        with self.directory(parent) as directory:
            self._make_room(directory, name, path)
            if entry.inode is not None and self._linked(entry, directory, name, path):
                return
            self._create(tree, entry, directory, name)

    def overwrite(self, tree: Tree, entry: Entry, path: str) -> None:
        """As ``copy`` for a destination that was named: a link there is followed."""
        try:
            with self._opened(path, os.O_PATH | os.O_NOFOLLOW) as fd:
                is_link = stat.S_ISLNK(os.fstat(fd).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            is_link = False
        if not is_link or entry.kind != "file":
            self.copy(tree, entry, path)
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK
        with self._opened(path, flags, 0o600) as fd:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise InvalidArgument(f"cannot copy to non-regular file: {path}")
            _write(fd, tree.read(entry))
            self._finish_file(fd, entry)

    def _ensure(self, path: str, like: Entry | None) -> None:
        try:
            with self._opened(path, _DIRECTORY):
                return
        except FileNotFoundError:
            parent, name = posixpath.split(path.rstrip("/"))
        self._ensure(parent, None)
        with self._opened(parent, _DIRECTORY) as directory:
            try:
                os.mkdir(name, _DIRECTORY_MODE, dir_fd=directory)
            except FileExistsError as error:
                raise InvalidArgument(f"{path} is a link that leads nowhere") from error
            self._finish_directory(f"/proc/self/fd/{directory}/{name}", like)

    def _finish_directory(self, handle: str, like: Entry | None) -> None:
        entry = like or Entry("", "dir", _DIRECTORY_MODE)
        owner = self._owner or Owner(entry.uid, entry.gid)
        os.chown(handle, owner.uid, owner.gid)
        mode = entry.mode if self._mode is None or like is None else self._mode
        os.chmod(handle, mode)
        _set_xattrs(handle, entry)

    def _make_room(self, directory: int, name: str, path: str) -> None:
        try:
            os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            return
        except IsADirectoryError as error:
            raise InvalidArgument(f"cannot replace directory {path} with a file") from error

    def _linked(self, entry: Entry, directory: int, name: str, path: str) -> bool:
        """Make a further name of a file that was copied under another one already."""
        assert entry.inode is not None
        known = self._links.setdefault(entry.inode, path)
        if known == path:
            return False
        parent, first = posixpath.split(known)
        with self._opened(parent, _DIRECTORY) as source:
            os.link(first, name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
        return True

    def _create(self, tree: Tree, entry: Entry, directory: int, name: str) -> None:
        if entry.kind == "file":
            fd = os.open(name, _NEW_FILE, 0o600, dir_fd=directory)
            try:
                _write(fd, tree.read(entry))
                self._finish_file(fd, entry)
            finally:
                os.close(fd)
            return
        owner = self._owner or Owner(entry.uid, entry.gid)
        if entry.kind == "link":
            os.symlink(entry.target, name, dir_fd=directory)
        else:
            os.mknod(name, _NODES[entry.kind] | 0o600, entry.device, dir_fd=directory)
        os.chown(name, owner.uid, owner.gid, dir_fd=directory, follow_symlinks=False)
        if entry.kind != "link":
            os.chmod(name, entry.mode if self._mode is None else self._mode, dir_fd=directory)
        times = (entry.mtime_ns, entry.mtime_ns)
        os.utime(name, ns=times, dir_fd=directory, follow_symlinks=False)

    def _finish_file(self, fd: int, entry: Entry) -> None:
        """Owner first: chown(2) clears set-id bits and file capabilities."""
        owner = self._owner or Owner(entry.uid, entry.gid)
        os.fchown(fd, owner.uid, owner.gid)
        os.fchmod(fd, entry.mode if self._mode is None else self._mode)
        _set_xattrs(fd, entry)
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))

    @contextmanager
    def _opened(self, path: str, flags: int, mode: int = 0) -> Iterator[int]:
        fd = open_in_root(self._root, path or "/", flags, mode)
        try:
            yield fd
        finally:
            os.close(fd)


def copy_selected(
    tree: Tree, selected: Sequence[Selected], destination: str, target: Target, what: str
) -> None:
    """Copy by the rules of COPY: a directory stands for its content.

    Args:
        tree: where *selected* is from.
        destination: absolute; with a slash at the end it is a directory.
        target: where to.
        what: ``COPY`` or ``ADD``, for messages.

    Raises:
        InvalidArgument: several sources and a destination that is no directory.
    """
    if len(selected) > 1 and not destination.endswith("/"):
        raise InvalidArgument(
            f"When using {what} with more than one source file, the destination must be a "
            "directory and end with a /"
        )
    for source in selected:
        if source.entry.kind == "dir":
            _copy_directory(tree, source.entry, destination, target)
        elif destination.endswith("/") or target.is_directory(destination):
            with target.directory(destination):
                target.overwrite(tree, source.entry, posixpath.join(destination, source.name))
        else:
            target.overwrite(tree, source.entry, destination)


def _copy_directory(tree: Tree, entry: Entry, destination: str, target: Target) -> None:
    base = destination.rstrip("/") or "/"
    with target.directory(base):
        pass
    for below in walk(tree, entry.path):
        path = posixpath.join(base, below.path[len(entry.path) :].lstrip("/"))
        if below.kind == "dir":
            with target.directory(path, below):
                continue
        target.copy(tree, below, path)


def _write(fd: int, chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            view = view[os.write(fd, view) :]


def _set_xattrs(target: int | str, entry: Entry) -> None:
    for name, value in entry.xattrs:
        try:
            os.setxattr(target, name, value)
        except OSError as error:
            # user.* is refused by file systems without it (xattr(7)); the file itself is right.
            if not (name.startswith("user.") and error.errno in (errno.ENOTSUP, errno.EPERM)):
                raise
