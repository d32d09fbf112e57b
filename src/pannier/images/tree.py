"""A layer directory as a tar stream: overlay marks become OCI whiteouts, equal trees equal bytes.

On disk a deletion is a character device 0/0, and a directory that hides what is below it carries
``trusted.overlay.opaque`` (Documentation/filesystems/overlayfs.rst); in an archive they are
``.wh.name`` and ``.wh..wh..opq`` (image-spec layer.md). Order is by name, times are whole seconds,
owners are numbers. Walking goes by directory fds without following links, since a container may own
the tree.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pannier.base.errors import Internal, KernelError
from pannier.images import tarformat
from pannier.images.compression import HashingWriter, Writer
from pannier.images.tarformat import Entry

OPAQUE = "trusted.overlay.opaque"
WHITEOUT_PREFIX = b".wh."
OPAQUE_NAME = b".wh..wh..opq"

# Kept in archives; the rest (trusted.*, security.selinux, ima) belongs to this host.
KEPT_XATTRS = ("security.capability", "system.posix_acl_access", "system.posix_acl_default")
KEPT_XATTR_PREFIX = "user."
# What overlayfs notes about one mount; wrong for the next one and without use in a lower layer.
_MOUNT_STATE = (
    "trusted.overlay.origin", "trusted.overlay.impure", "trusted.overlay.nlink",
    "trusted.overlay.uuid",
)  # fmt: skip
_UNSUPPORTED = ("trusted.overlay.redirect", "trusted.overlay.metacopy")

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CHUNK = 1 << 20
_PLAIN_KINDS = {
    stat.S_IFREG: tarformat.REGULAR,
    stat.S_IFLNK: tarformat.SYMLINK,
    stat.S_IFCHR: tarformat.CHARACTER,
    stat.S_IFBLK: tarformat.BLOCK_DEVICE,
    stat.S_IFDIR: tarformat.DIRECTORY,
    stat.S_IFIFO: tarformat.FIFO,
}


@dataclass(frozen=True, slots=True)
class Node:
    """One file during a walk: its name inside the directory that ``dir_fd`` is open on."""

    path: str
    dir_fd: int
    name: str
    status: os.stat_result

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def handle(self) -> str:
        """A path for calls without a dir_fd argument; its last component is not followed."""
        return f"/proc/self/fd/{self.dir_fd}/{self.name}"


@contextmanager
def open_directory(name: str | os.PathLike[str], dir_fd: int | None = None) -> Iterator[int]:
    """An fd of a directory; a link in its last component is an error."""
    fd = os.open(name, _DIRECTORY_FLAGS, dir_fd=dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def walk(dir_fd: int, prefix: str = "") -> Iterator[Node]:
    """All files below, each directory before its content, in byte order of names."""
    for name in sorted(os.listdir(dir_fd), key=os.fsencode):
        status = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        node = Node(prefix + name, dir_fd, name, status)
        yield node
        if node.is_directory:
            with open_directory(name, dir_fd) as child:
                yield from walk(child, f"{node.path}/")


def is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(handle: str) -> bool:
    """Whether a directory hides what is below it."""
    try:
        return os.getxattr(handle, OPAQUE, follow_symlinks=False) == b"y"
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return False
        raise


class TarWriter:
    """Writes the archive of a layer directory.

    Args:
        target: gets the uncompressed archive.

    Attributes:
        content_size: bytes of all regular files, hard links once.
    """

    def __init__(self, target: Writer) -> None:
        self._target = target
        self._links: dict[tuple[int, int], bytes] = {}
        self.content_size = 0

    def write(self, root: str, *, strip: bool = False) -> None:
        """Write everything below *root* and the end mark.

        Args:
            root: the layer directory.
            strip: also take overlayfs' notes about a finished mount off the files.

        Raises:
            Internal: a file carries a redirect or metacopy mark, so its content is elsewhere.
            KernelError: a file cannot be read.
        """
        try:
            with open_directory(root) as fd:
                self._write_root(fd, strip=strip)
                for node in walk(fd):
                    self._add(node, strip=strip)
        except OSError as error:
            if isinstance(error, KernelError):
                raise
            path = f"{root}/{error.filename}" if error.filename else root
            raise KernelError(error.errno or errno.EIO, "read", path) from error
        self._target.write(tarformat.END)

    def _write_root(self, fd: int, *, strip: bool) -> None:
        """The root itself is only worth an entry where it is not the usual one."""
        handle, status = f"/proc/self/fd/{fd}", os.fstat(fd)
        xattrs = _read_xattrs(handle + "/.", strip=strip)
        if (status.st_mode & 0o7777, status.st_uid, status.st_gid) != (0o755, 0, 0) or xattrs:
            self._header(_entry(b"./", tarformat.DIRECTORY, status, xattrs))
        if is_opaque(handle + "/."):
            self._header(Entry(name=OPAQUE_NAME, kind=tarformat.REGULAR))

    def _add(self, node: Node, *, strip: bool) -> None:
        name = os.fsencode(node.path)
        if is_whiteout(node.status):
            parent, slash, base = name.rpartition(b"/")
            marker = parent + slash + WHITEOUT_PREFIX + base
            self._header(Entry(name=marker, kind=tarformat.REGULAR, mode=0))
            return
        kind = _PLAIN_KINDS.get(stat.S_IFMT(node.status.st_mode))
        if kind is None:  # a socket has no meaning without the process behind it
            return
        entry = _entry(name, kind, node.status, _read_xattrs(node.handle, strip=strip))
        if node.is_directory:
            entry.name += b"/"
            self._header(entry)
            if is_opaque(node.handle):
                self._header(Entry(name=entry.name + OPAQUE_NAME, kind=tarformat.REGULAR))
        else:
            self._add_file(node, entry)

    def _add_file(self, node: Node, entry: Entry) -> None:
        status = node.status
        inode = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and inode in self._links:
            entry.kind, entry.link, entry.size = tarformat.HARDLINK, self._links[inode], 0
            entry.xattrs = {}
            self._header(entry)
            return
        if status.st_nlink > 1:
            self._links[inode] = entry.name
        if entry.kind == tarformat.SYMLINK:
            entry.link = os.fsencode(os.readlink(node.name, dir_fd=node.dir_fd))
        self._header(entry)
        if entry.kind == tarformat.REGULAR and entry.size:
            self._copy(node, entry.size)

    def _copy(self, node: Node, size: int) -> None:
        fd = os.open(node.name, _FILE_FLAGS, dir_fd=node.dir_fd)
        try:
            left = size
            while left:
                chunk = os.read(fd, min(left, _CHUNK))
                if not chunk:  # cut meanwhile (a copy of a running container): as GNU tar does
                    chunk = bytes(min(left, _CHUNK))
                self._target.write(chunk)
                left -= len(chunk)
        finally:
            os.close(fd)
        self._target.write(tarformat.padding(size))
        self.content_size += size

    def _header(self, entry: Entry) -> None:
        self._target.write(tarformat.header(entry))


def _entry(name: bytes, kind: bytes, status: os.stat_result, xattrs: dict[bytes, bytes]) -> Entry:
    device = kind in (tarformat.CHARACTER, tarformat.BLOCK_DEVICE)
    return Entry(
        name=name,
        kind=kind,
        mode=stat.S_IMODE(status.st_mode) if kind != tarformat.SYMLINK else 0o777,
        uid=status.st_uid,
        gid=status.st_gid,
        size=status.st_size if kind == tarformat.REGULAR else 0,
        mtime_ns=status.st_mtime_ns,
        major=os.major(status.st_rdev) if device else 0,
        minor=os.minor(status.st_rdev) if device else 0,
        xattrs=xattrs,
    )


def _read_xattrs(handle: str, *, strip: bool) -> dict[bytes, bytes]:
    names = os.listxattr(handle, follow_symlinks=False)
    if not names:
        return {}
    for name in names:
        if name in _UNSUPPORTED:
            raise Internal(f"the layer has a file with {name}", path=handle)
        if strip and name in _MOUNT_STATE:
            os.removexattr(handle, name, follow_symlinks=False)
    return {
        os.fsencode(name): os.getxattr(handle, name, follow_symlinks=False)
        for name in names
        if name in KEPT_XATTRS or name.startswith(KEPT_XATTR_PREFIX)
    }


def hash_layer(arguments: dict[str, Any]) -> dict[str, Any]:
    """Digest and sizes of the archive of the layer directory ``path``; see ``TarWriter.write``."""
    target = HashingWriter()
    writer = TarWriter(target)
    writer.write(arguments["path"], strip=arguments.get("strip", False))
    return {"diff_id": target.digest, "tar_size": target.count, "size": writer.content_size}
