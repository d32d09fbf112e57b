"""Tars made and unpacked piece by piece, for build contexts and cp.

Made without holding files in memory; unpacked without following anything that the tar itself put
there: it comes out of a container and may be made to reach other files (CVE-2018-15664's kind).
"""

from __future__ import annotations

import os
import stat
import tarfile
from contextlib import suppress

from pannier.base.errors import Conflict, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import IO

_BLOCK = 256 * 1024
_RECORD = 512
_END = bytes(2 * _RECORD)


def add_bytes(name: str, data: bytes) -> Iterator[bytes]:
    """A file that exists only in memory."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    yield info.tobuf(tarfile.PAX_FORMAT)
    yield data + bytes(-len(data) % _RECORD)


def add_path(path: str, name: str, *, owner: bool) -> Iterator[bytes]:
    """One file, directory or link as *name*; sockets give nothing.

    Args:
        owner: keep uid and gid; otherwise they are 0.
    """
    facts = os.lstat(path)
    info = _info(path, name, facts)
    if info is None:
        return
    if owner:
        info.uid, info.gid = facts.st_uid, facts.st_gid
    yield info.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")
    if info.isreg():
        yield from _content(path, info.size)


def _info(path: str, name: str, facts: os.stat_result) -> tarfile.TarInfo | None:
    info = tarfile.TarInfo(name)
    info.mode = stat.S_IMODE(facts.st_mode)
    info.mtime = facts.st_mtime
    kind = stat.S_IFMT(facts.st_mode)
    if kind == stat.S_IFREG:
        info.size = facts.st_size
    elif kind == stat.S_IFDIR:
        info.type = tarfile.DIRTYPE
    elif kind == stat.S_IFLNK:
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)
    elif kind in {stat.S_IFCHR, stat.S_IFBLK}:
        info.type = tarfile.CHRTYPE if kind == stat.S_IFCHR else tarfile.BLKTYPE
        info.devmajor, info.devminor = os.major(facts.st_rdev), os.minor(facts.st_rdev)
    elif kind == stat.S_IFIFO:
        info.type = tarfile.FIFOTYPE
    else:
        return None
    return info


def _content(path: str, size: int) -> Iterator[bytes]:
    """Exactly *size* bytes: a file that grows meanwhile must not spoil the tar."""
    left = size
    with open(path, "rb") as stream:
        while left:
            piece = stream.read(min(left, _BLOCK))
            if not piece:
                raise Conflict(f"{path} became shorter while it was read", hint="try again")
            left -= len(piece)
            yield piece
    yield bytes(-size % _RECORD)


def tree(root: str, name: str, *, owner: bool, follow: bool = False) -> Iterator[bytes]:
    """A file or a whole directory as *name*, with the end of the tar."""
    top = os.path.realpath(root) if follow else root
    yield from add_path(top, name, owner=owner)
    if os.path.isdir(top) and not os.path.islink(top):
        for directory, names, files in os.walk(top):
            inside = os.path.relpath(directory, top)
            prefix = name if inside == "." else f"{name}/{inside}"
            names.sort()
            for entry in sorted([*names, *files]):
                yield from add_path(f"{directory}/{entry}", f"{prefix}/{entry}", owner=owner)
    yield _END


def end() -> bytes:
    """What closes a tar."""
    return _END


class PieceReader:
    """Pieces of bytes as a file to read from."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        out = bytearray()
        while size < 0 or len(out) < size:
            if not self._rest:
                self._rest = next(self._pieces, b"")
                if not self._rest:
                    break
            take = len(self._rest) if size < 0 else size - len(out)
            out += self._rest[:take]
            self._rest = self._rest[take:]
        return bytes(out)


def unpack(
    pieces: Iterable[bytes], directory: str, rename: Callable[[str], str | None], *, owner: bool
) -> int:
    """Unpack a tar below *directory*.

    Args:
        rename: the path below *directory* for an entry's name; None leaves it out.
        owner: set uid and gid as recorded.

    Returns:
        the bytes written.

    Raises:
        InvalidArgument: an entry points outside of *directory*.
    """
    written = 0
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with tarfile.open(fileobj=_as_file(pieces), mode="r|*") as archive:
            for member in archive:
                name = rename(member.name)
                if name is None:
                    continue
                _Entry(root, archive, member, owner=owner).put(_parts(name))
                written += member.size
    finally:
        os.close(root)
    return written


def _as_file(pieces: Iterable[bytes]) -> IO[bytes]:
    reader: IO[bytes] = PieceReader(pieces)  # type: ignore[assignment] # only read is called
    return reader


def _parts(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise InvalidArgument(f"the archive holds a path that leads outside: {name}")
    return parts


class _Entry:
    """One member of a tar and where it goes; works on descriptors, follows no link."""

    def __init__(
        self, root: int, archive: tarfile.TarFile, member: tarfile.TarInfo, *, owner: bool
    ) -> None:
        self._root = root
        self._archive = archive
        self._member = member
        self._owner = owner

    def put(self, parts: list[str]) -> None:
        if not parts:
            return
        parent = self._open_parent(parts[:-1])
        try:
            self._make(parent, parts[-1])
        finally:
            os.close(parent)

    def _open_parent(self, parts: list[str]) -> int:
        fd = os.dup(self._root)
        for part in parts:
            try:
                deeper = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            except FileNotFoundError:
                os.mkdir(part, 0o755, dir_fd=fd)
                deeper = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            finally:
                os.close(fd)
            fd = deeper
        return fd

    def _make(self, parent: int, name: str) -> None:
        member = self._member
        if member.isdir():
            self._make_directory(parent, name)
            return
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent)
        if member.issym():
            os.symlink(member.linkname, name, dir_fd=parent)
        elif member.islnk():
            self._link(parent, name)
        elif member.isreg():
            self._write(parent, name)
        elif member.isfifo():
            os.mkfifo(name, member.mode, dir_fd=parent)
        elif member.isdev():
            kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
            device = os.makedev(member.devmajor, member.devminor)
            os.mknod(name, kind | member.mode, device, dir_fd=parent)
        if self._owner:
            os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
            if not member.issym():  # chown takes set-user-id bits away
                os.chmod(name, member.mode, dir_fd=parent)

    def _make_directory(self, parent: int, name: str) -> None:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            if self._owner:
                os.fchown(fd, self._member.uid, self._member.gid)
            os.fchmod(fd, self._member.mode)
        finally:
            os.close(fd)

    def _link(self, parent: int, name: str) -> None:
        target = _parts(self._member.linkname)
        source = self._open_parent(target[:-1])
        try:
            os.link(target[-1], name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)

    def _write(self, parent: int, name: str) -> None:
        source = self._archive.extractfile(self._member)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        fd = os.open(name, flags, 0o600, dir_fd=parent)
        with open(fd, "wb") as target:
            while source is not None and (piece := source.read(_BLOCK)):
                target.write(piece)
            os.fchmod(target.fileno(), self._member.mode)
            target.flush()
            os.utime(target.fileno(), (self._member.mtime, self._member.mtime))
