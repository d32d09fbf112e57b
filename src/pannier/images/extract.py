"""A tar stream into a directory that it cannot leave.

Every path is resolved by openat2(2) with RESOLVE_IN_ROOT, so that links in the archive lead nowhere
else; the last component is never followed (CVE-2018-15664, CVE-2019-14271 were paths that were).
For layers, whiteouts become overlayfs' marks; ``trusted.*`` attributes never come from an archive.
Undoing a failed extraction is the caller's: throw the directory away.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterable
from typing import Literal

from pannier.base.errors import InvalidArgument, KernelError
from pannier.images import tarformat
from pannier.images.tarformat import Entry, Reader, TarReader, malformed
from pannier.images.tree import (
    KEPT_XATTR_PREFIX,
    KEPT_XATTRS,
    OPAQUE,
    OPAQUE_NAME,
    WHITEOUT_PREFIX,
    is_whiteout,
)
from pannier.kernel import _libc

Whiteouts = Literal["overlay", "keep"]

_AUFS_PREFIX = b".wh..wh."
_LARGEST_ID = 0xFFFFFFFE
_RESOLVE = _libc.RESOLVE_IN_ROOT | _libc.RESOLVE_NO_MAGICLINKS
# A file where a directory should be, a dangling link as a parent, an impossible name.
_ARCHIVES_FAULT = (errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL)
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = _libc.O_PATH | os.O_DIRECTORY


def extract(source: Reader, root: str, *, whiteouts: Whiteouts = "overlay") -> int:
    """Unpack the uncompressed archive *source* below *root*.

    Args:
        source: read to its end.
        root: an existing directory.
        whiteouts: ``overlay`` for a layer; ``keep`` takes ``.wh.`` names as plain files.

    Returns:
        the bytes of all regular files.

    Raises:
        InvalidArgument: malformed, cut off, or a path that leads out of the archive.
        KernelError: a file cannot be made.
    """
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    extractor = _Extractor(fd, whiteouts)
    reader = TarReader(source)
    try:
        for entry in reader:
            try:
                extractor.add(entry, reader.data())
            except OSError as error:
                raise _explain(error, entry) from error
        extractor.finish()
    finally:
        extractor.close()
        os.close(fd)
    return extractor.content_size


def _explain(error: OSError, entry: Entry) -> Exception:
    """Which member it was; what an archive's own order or names cause is the archive's fault."""
    name = entry.name.decode(errors="replace")
    code = error.errno or errno.EIO
    if code in _ARCHIVES_FAULT:
        return malformed(f"{name}: {os.strerror(code)}")
    if code == errno.ENOENT and entry.kind == tarformat.HARDLINK:
        target = entry.link.decode(errors="replace")
        return malformed(f"{name}: hard link to {target}, which is not in the archive")
    if code == errno.EPERM and entry.kind in (tarformat.CHARACTER, tarformat.BLOCK_DEVICE):
        return KernelError(code, "mknod", name, "device nodes need root on the host")
    return KernelError(code, "unpack", name)


def split(name: bytes) -> tuple[bytes, bytes]:
    """Parent and last component, cleaned of ``.``, ``..`` and slashes; both empty for the root.

    Raises:
        InvalidArgument: the path leads out.
    """
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise malformed(f"{name.decode(errors='replace')} leads out of the archive")
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return (b"/".join(parts[:-1]), parts[-1]) if parts else (b"", b"")


class _Extractor:
    def __init__(self, root: int, whiteouts: Whiteouts) -> None:
        self._root = root
        self._whiteouts = whiteouts
        # Members mostly come in runs of one directory: keep the last one open.
        self._parent_path: bytes | None = None
        self._parent = -1
        # A directory's time changes with each entry made in it: set them at the end.
        self._directories: dict[bytes, Entry] = {}
        self.content_size = 0

    def add(self, entry: Entry, data: Iterable[bytes]) -> None:
        parent_path, name = split(entry.name)
        if not name:
            self._root_entry(entry)
            return
        parent = self._open_parent(parent_path)
        path = _join(parent_path, name)
        if self._whiteouts == "overlay" and name.startswith(WHITEOUT_PREFIX):
            self._add_whiteout(parent, name)
        elif entry.kind == tarformat.DIRECTORY:
            self._add_directory(parent, name, entry)
            self._directories[path] = entry
        else:
            self._directories.pop(path, None)
            self._make_room(parent, name, path)
            self._add_other(parent, name, entry, data)

    def finish(self) -> None:
        for path, entry in self._directories.items():
            self._set_time(path or b".", entry)

    def _set_time(self, path: bytes, entry: Entry) -> None:
        try:
            fd = _libc.openat2(self._root, path, _DIRECTORY | os.O_NOFOLLOW, 0, _RESOLVE)
        except OSError as error:
            # A later member replaced it by way of a link.
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return
            raise
        try:
            os.utime(f"/proc/self/fd/{fd}", ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def close(self) -> None:
        if self._parent >= 0:
            os.close(self._parent)

    def _root_entry(self, entry: Entry) -> None:
        if entry.kind != tarformat.DIRECTORY:
            raise malformed("the root is not a directory")
        _set_metadata(f"/proc/self/fd/{self._root}", entry)
        self._directories[b""] = entry

    def _open_parent(self, path: bytes) -> int:
        if path == self._parent_path:
            return self._parent
        self.close()
        self._parent, self._parent_path = -1, None
        self._parent = self._open_directory(path)
        self._parent_path = path
        return self._parent

    def _open_directory(self, path: bytes) -> int:
        """Open it below the root; what is missing is made, as by ``mkdir -p``."""
        try:
            return _libc.openat2(self._root, path or b".", _DIRECTORY, 0, _RESOLVE)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
        grandparent, _, name = path.rpartition(b"/")
        parent = self._open_directory(grandparent)
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        finally:
            os.close(parent)
        return _libc.openat2(self._root, path, _DIRECTORY, 0, _RESOLVE)

    def _add_whiteout(self, parent: int, name: bytes) -> None:
        if name == OPAQUE_NAME:
            os.setxattr(f"/proc/self/fd/{parent}", OPAQUE, b"y")
            return
        hidden = name.removeprefix(WHITEOUT_PREFIX)
        if name.startswith(_AUFS_PREFIX):  # notes of an old storage driver
            return
        if hidden in (b"", b".", b".."):
            raise malformed("whiteout without a name")
        status = _status(parent, hidden)
        if status is None:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent)
        elif stat.S_ISDIR(status.st_mode):
            # Whiteouts are about the layers below: this layer's own directory stays.
            _set_opaque(parent, hidden)

    def _add_directory(self, parent: int, name: bytes, entry: Entry) -> None:
        status = _status(parent, name)
        if status is None or not stat.S_ISDIR(status.st_mode):
            hidden = status is not None and is_whiteout(status)
            if status is not None:
                os.unlink(name, dir_fd=parent)
            os.mkdir(name, 0o700, dir_fd=parent)
            if hidden and self._whiteouts == "overlay":
                _set_opaque(parent, name)
        _set_metadata(f"/proc/self/fd/{parent}/{os.fsdecode(name)}", entry)

    def _make_room(self, parent: int, name: bytes, path: bytes) -> None:
        """A later member of the same name replaces an earlier one."""
        status = _status(parent, name)
        if status is None:
            return
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(name, dir_fd=parent)
            return
        shutil.rmtree(os.fsdecode(name), dir_fd=parent)
        for stale in [known for known in self._directories if known.startswith(path + b"/")]:
            del self._directories[stale]

    def _add_other(self, parent: int, name: bytes, entry: Entry, data: Iterable[bytes]) -> None:
        if entry.kind == tarformat.REGULAR:
            self._add_file(parent, name, entry, data)
        elif entry.kind == tarformat.HARDLINK:
            self._add_link(parent, name, entry)
        elif entry.kind == tarformat.SYMLINK:
            os.symlink(entry.link, name, dir_fd=parent)
            _set_link_metadata(parent, name, entry)
        elif entry.kind in (tarformat.CHARACTER, tarformat.BLOCK_DEVICE, tarformat.FIFO):
            self._add_node(parent, name, entry)
        else:
            raise malformed(f"member type {entry.kind!r}")

    def _add_file(self, parent: int, name: bytes, entry: Entry, data: Iterable[bytes]) -> None:
        fd = os.open(name, _NEW_FILE, 0o600, dir_fd=parent)
        try:
            for chunk in data:
                view = memoryview(chunk)
                while view:
                    view = view[os.write(fd, view) :]
            _set_metadata(fd, entry)
        finally:
            os.close(fd)
        self.content_size += entry.size

    def _add_link(self, parent: int, name: bytes, entry: Entry) -> None:
        source_path, source_name = split(entry.link)
        if not source_name:
            raise malformed("hard link to the root")
        source = _libc.openat2(self._root, source_path or b".", _DIRECTORY, 0, _RESOLVE)
        try:
            os.link(source_name, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)

    def _add_node(self, parent: int, name: bytes, entry: Entry) -> None:
        kinds = {
            tarformat.CHARACTER: stat.S_IFCHR,
            tarformat.BLOCK_DEVICE: stat.S_IFBLK,
            tarformat.FIFO: stat.S_IFIFO,
        }
        if entry.kind == tarformat.CHARACTER and (entry.major, entry.minor) == (0, 0):
            raise malformed("device node 0:0, which overlayfs takes for a deletion")
        device = os.makedev(entry.major, entry.minor) if entry.kind != tarformat.FIFO else 0
        os.mknod(name, kinds[entry.kind] | 0o600, device, dir_fd=parent)
        _set_metadata(f"/proc/self/fd/{parent}/{os.fsdecode(name)}", entry)


def _join(parent: bytes, name: bytes) -> bytes:
    return parent + b"/" + name if parent else name


def _status(parent: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _set_opaque(parent: int, name: bytes) -> None:
    os.setxattr(f"/proc/self/fd/{parent}/{os.fsdecode(name)}", OPAQUE, b"y", follow_symlinks=False)


def _check_owner(entry: Entry) -> None:
    if not (0 <= entry.uid <= _LARGEST_ID and 0 <= entry.gid <= _LARGEST_ID):
        raise InvalidArgument(f"invalid tar archive: owner {entry.uid}:{entry.gid} is no user id")


def _set_metadata(target: int | str, entry: Entry) -> None:
    """Owner first: chown(2) clears set-id bits and file capabilities.

    *target* is an fd, or the path of a file just made that is no link.
    """
    _check_owner(entry)
    os.chown(target, entry.uid, entry.gid)
    os.chmod(target, entry.mode)
    for key, value in entry.xattrs.items():
        name = os.fsdecode(key)
        if name in KEPT_XATTRS or name.startswith(KEPT_XATTR_PREFIX):
            _set_xattr(target, name, value)
    if entry.kind != tarformat.DIRECTORY:
        os.utime(target, ns=(entry.mtime_ns, entry.mtime_ns))


def _set_xattr(target: int | str, name: str, value: bytes) -> None:
    try:
        os.setxattr(target, name, value)
    except OSError as error:
        # user.* is refused on devices and FIFOs, and by file systems without it (xattr(7)).
        if not (name.startswith("user.") and error.errno in (errno.ENOTSUP, errno.EPERM)):
            raise


def _set_link_metadata(parent: int, name: bytes, entry: Entry) -> None:
    _check_owner(entry)
    os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
    os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)
