"""Where COPY reads from: a context's tar or directory, or another root file system, as one shape.

A tree is never unpacked and never entered by path strings: a tar is read at its members' offsets, a
directory through descriptors that cannot leave it (openat2(2), RESOLVE_IN_ROOT). Paths are relative
with ``/`` between their parts; ``""`` is the root. Selecting sources and writing them belong to
`selection` and `copying`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from pannier.base.ignore import Ignore
from pannier.images import tarformat
from pannier.images.extract import split
from pannier.images.tarformat import TarReader, malformed
from pannier.images.tree import KEPT_XATTR_PREFIX, KEPT_XATTRS
from pannier.kernel.rooted import open_in_root

Kind = Literal["file", "dir", "link", "char", "block", "fifo"]

_CHUNK = 1 << 20
_LINK_DEPTH = 40
_KINDS: dict[int, Kind] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
}
_TAR_KINDS: dict[bytes, Kind] = {
    tarformat.REGULAR: "file",
    tarformat.DIRECTORY: "dir",
    tarformat.SYMLINK: "link",
    tarformat.CHARACTER: "char",
    tarformat.BLOCK_DEVICE: "block",
    tarformat.FIFO: "fifo",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One file.

    Args:
        path: where it is in its tree.
        mode: permission bits.
        size: bytes of a regular file.
        target: of a symbolic link.
        device: of a device node.
        offset: where a tar's member has its data.
        inode: names a file with several hard links, to keep them; None for others.
    """

    path: str
    kind: Kind
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    target: str = ""
    device: int = 0
    xattrs: tuple[tuple[str, bytes], ...] = ()
    offset: int = 0
    inode: tuple[int, int] | None = None


class Tree(Protocol):
    """A read-only tree of files."""

    def get(self, path: str) -> Entry | None:
        """The file at *path*, a link itself and not what it leads to; None if there is none."""
        ...

    def names(self, path: str) -> list[str]:
        """What the directory *path* holds, sorted."""
        ...

    def read(self, entry: Entry) -> Iterator[bytes]:
        """The bytes of a regular file, in pieces of up to 1 MiB."""
        ...


def walk(tree: Tree, path: str) -> Iterator[Entry]:
    """Everything below the directory *path*, each directory before its content."""
    for name in tree.names(path):
        entry = tree.get(f"{path}/{name}" if path else name)
        if entry is None:
            continue
        yield entry
        if entry.kind == "dir":
            yield from walk(tree, entry.path)


def resolve(tree: Tree, path: str) -> Entry | None:
    """What *path* leads to, links followed as a process inside the tree would.

    Links that lead nowhere, or round in a circle, lead to None.
    """
    todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    done: list[str] = []
    followed = 0
    entry = tree.get("")
    while todo:
        part = todo.pop()
        if part == "..":
            done = done[:-1]
            entry = tree.get("/".join(done))
            continue
        entry = tree.get("/".join([*done, part]))
        if entry is None or (todo and entry.kind not in ("dir", "link")):
            return None
        if entry.kind != "link":
            done.append(part)
            continue
        followed += 1
        if followed > _LINK_DEPTH:
            return None
        if entry.target.startswith("/"):
            done = []
        todo += [p for p in reversed(entry.target.split("/")) if p not in ("", ".")]
        entry = tree.get("/".join(done))
    return entry


class TarTree:
    """A tar archive in an open file.

    Args:
        fd: an uncompressed archive; stays the caller's.
        ignore: what counts as absent.

    Raises:
        InvalidArgument: malformed, or a name that leads out of the archive.
    """

    def __init__(self, fd: int, ignore: Ignore | None = None) -> None:
        self._fd = fd
        self._entries: dict[str, Entry] = {"": Entry("", "dir")}
        self._children: dict[str, set[str]] = {"": set()}
        self._scan()
        if ignore:
            self.ignore(ignore)

    def get(self, path: str) -> Entry | None:
        return self._entries.get(path)

    def names(self, path: str) -> list[str]:
        return sorted(self._children.get(path, ()))

    def read(self, entry: Entry) -> Iterator[bytes]:
        position, left = entry.offset, entry.size
        while left:
            chunk = os.pread(self._fd, min(left, _CHUNK), position)
            if not chunk:
                raise malformed("unexpected end of file")
            yield chunk
            position += len(chunk)
            left -= len(chunk)

    def ignore(self, ignore: Ignore) -> None:
        """Take out what *ignore* matches; the directories above what stays are kept."""
        kept = {path for path in self._entries if path and not ignore.matches(path)}
        needed = {parent for path in kept for parent in _parents(path)}
        self._entries = {
            path: entry for path, entry in self._entries.items() if path in kept or path in needed
        }
        self._children = {"": set()}
        for path, entry in self._entries.items():
            self._register(path, is_directory=entry.kind == "dir")

    def _scan(self) -> None:
        os.lseek(self._fd, 0, os.SEEK_SET)
        source = _Positioned(self._fd)
        for member in TarReader(source):
            parent, name = split(member.name)
            if name:
                path = os.fsdecode(parent + b"/" + name if parent else name)
                self._add(path, member, source.position)

    def _add(self, path: str, member: tarformat.Entry, offset: int) -> None:
        if member.kind == tarformat.HARDLINK:
            known = self._entries.get(os.fsdecode(b"/".join(filter(None, split(member.link)))))
            if known is None:
                raise malformed(f"{path}: hard link to a file that is not in the archive")
            entry = replace(known, path=path)
        else:
            kind = _TAR_KINDS.get(member.kind)
            if kind is None:
                raise malformed(f"{path}: member type {member.kind!r}")
            entry = _from_member(path, kind, member, offset)
        if entry.kind != "dir":
            self._children.pop(path, None)
        self._entries[path] = entry
        self._register(path, is_directory=entry.kind == "dir")

    def _register(self, path: str, *, is_directory: bool) -> None:
        if is_directory:
            self._children.setdefault(path, set())
        if not path:
            return
        parent, _, name = path.rpartition("/")
        if parent not in self._children:
            # Archives may leave out the directories above their members.
            if self._entries.setdefault(parent, Entry(parent, "dir")).kind != "dir":
                raise malformed(f"{parent} is not a directory")
            self._register(parent, is_directory=True)
        self._children[parent].add(name)


def _parents(path: str) -> Iterator[str]:
    yield ""
    for at, char in enumerate(path):
        if char == "/":
            yield path[:at]


def _from_member(path: str, kind: Kind, member: tarformat.Entry, offset: int) -> Entry:
    return Entry(
        path=path,
        kind=kind,
        mode=member.mode,
        uid=member.uid,
        gid=member.gid,
        size=member.size,
        mtime_ns=member.mtime_ns,
        target=os.fsdecode(member.link) if kind == "link" else "",
        device=os.makedev(member.major, member.minor),
        xattrs=tuple(sorted((os.fsdecode(k), v) for k, v in member.xattrs.items() if _kept(k))),
        offset=offset,
    )


def _kept(name: str | bytes) -> bool:
    text = os.fsdecode(name)
    return text in KEPT_XATTRS or text.startswith(KEPT_XATTR_PREFIX)


class _Positioned:
    """A file that knows how far it was read."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.position = 0

    def read(self, size: int, /) -> bytes:
        data = os.read(self._fd, size)
        self.position += len(data)
        return data


class DirectoryTree:
    """A directory on disk.

    Args:
        root: a descriptor of it; stays the caller's.
        ignore: what counts as absent.
    """

    def __init__(self, root: int, ignore: Ignore | None = None) -> None:
        self._root = root
        self._ignore = ignore or Ignore([])

    def ignore(self, ignore: Ignore) -> None:
        self._ignore = ignore

    def get(self, path: str) -> Entry | None:
        parent, _, name = path.rpartition("/")
        try:
            with _opened(self._root, parent or ".", os.O_PATH | os.O_DIRECTORY) as directory:
                entry = _from_disk(path, directory, name or ".")
        except (FileNotFoundError, NotADirectoryError):
            return None
        return None if entry is None or self._is_ignored(entry) else entry

    def names(self, path: str) -> list[str]:
        with _opened(self._root, path or ".", os.O_RDONLY | os.O_DIRECTORY) as directory:
            return sorted(os.listdir(directory))

    def read(self, entry: Entry) -> Iterator[bytes]:
        # O_NONBLOCK: it may have become a FIFO since it was looked at.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        with _opened(self._root, entry.path, flags) as fd:
            while chunk := os.read(fd, _CHUNK):
                yield chunk

    def _is_ignored(self, entry: Entry) -> bool:
        if not entry.path or not self._ignore.matches(entry.path):
            return False
        if entry.kind != "dir" or not self._ignore.has_exceptions:
            return True
        below = (f"{entry.path}/{name}" for name in self.names(entry.path))
        return all(self.get(path) is None for path in below)


@contextmanager
def _opened(root: int, path: str, flags: int) -> Iterator[int]:
    fd = open_in_root(root, path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def _from_disk(path: str, directory: int, name: str) -> Entry | None:
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None:  # a socket has no meaning without the process behind it
        return None
    linked = kind != "dir" and status.st_nlink > 1
    return Entry(
        path=path,
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        size=status.st_size if kind == "file" else 0,
        mtime_ns=status.st_mtime_ns,
        target=os.readlink(name, dir_fd=directory) if kind == "link" else "",
        device=status.st_rdev,
        xattrs=_xattrs(f"/proc/self/fd/{directory}/{name}"),
        inode=(status.st_dev, status.st_ino) if linked else None,
    )


def _xattrs(handle: str) -> tuple[tuple[str, bytes], ...]:
    try:
        names = os.listxattr(handle, follow_symlinks=False)
        return tuple(
            (name, os.getxattr(handle, name, follow_symlinks=False))
            for name in sorted(names)
            if _kept(name)
        )
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENODATA, errno.EPERM):
            return ()
        raise
