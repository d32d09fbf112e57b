"""Into a container's files from outside: ``cp``, ``export``, ``diff``.

A path inside is hostile: it is always resolved by openat2(2) with RESOLVE_IN_ROOT from a descriptor
of the container's root, so no link leads out of it, and no program of the container is run
(CVE-2019-14271). A running container's own mounts are seen; a stopped one is mounted briefly.
Owners in archives are as the container sees them.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pannier.base.errors import Conflict, InvalidArgument, KernelError, NotFound
from pannier.base.units import rfc3339
from pannier.engine import resting
from pannier.engine.ground import Ground
from pannier.engine.model import Container
from pannier.kernel.fsids import FilesystemIds
from pannier.kernel.overlay import Stack
from pannier.kernel.rooted import open_in_root
from pannier.wire.states import PathStat

_GO_TYPES = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
    stat.S_IFCHR: (1 << 26) | (1 << 21),
}
_GO_BITS = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))


class ContainerFiles:
    """Blocking; the engine calls it in a thread."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    @contextmanager
    def root(self, container: Container) -> Iterator[tuple[int, int]]:
        """A descriptor of its root directory, and the number to take from each owner's id."""
        if container.running:
            # The magic link leads to the process' root in its own mount namespace (proc(5)).
            fd = self._open_root(container)
            try:
                yield fd, container.record.id_base
            finally:
                os.close(fd)
            return
        with self._mounted(container) as fd:
            yield fd, 0

    def _open_root(self, container: Container) -> int:
        pid, group = container.state.pid, self._ground.cgroup(container.record)
        with suppress(FileNotFoundError, ProcessLookupError):
            fd = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY)
            # If it has just ended, the number may be another process', of the host even.
            if pid in self._ground.cgroups.processes(group):
                return fd
            os.close(fd)
        raise Conflict(f"Container {container.id} is not running")

    @contextmanager
    def _mounted(self, container: Container) -> Iterator[int]:
        """A resting container's layers, volumes and binds; the caller keeps it at rest."""
        record = container.record
        upper = self._ground.upper(record)
        stack = Stack(self._ground.roots(record), upper, str(Path(upper).parent / "work"))
        with resting.mounted(stack, record.mounts, self._ground.instance.tmp) as fd:
            yield fd

    def stat(self, container: Container, path: str) -> PathStat:
        """
        Raises:
            NotFound: Docker's wording.
        """
        with self.root(container) as (root, _):
            return _path_stat(root, path, container.name)

    def write_tar(self, container: Container, path: str, out: IO[bytes]) -> None:
        """Stream *path* as a tar whose members begin with its last component."""
        with self.root(container) as (root, shift):
            facts = _path_stat(root, path, container.name)
            parent = _open(root, _parent(path), os.O_PATH | os.O_DIRECTORY, container.name)
            try:
                with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                    _add_tree(tar, parent, facts.name, shift)
            finally:
                os.close(parent)

    def export(self, container: Container, out: IO[bytes]) -> None:
        """The whole root file system as one tar, without what is mounted over it."""
        with self.root(container) as (root, shift):
            directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=root)
            try:
                with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                    for name in sorted(os.listdir(directory)):
                        _add_tree(tar, root, name, shift, device=os.fstat(root).st_dev)
            finally:
                os.close(directory)

    def extract(
        self, container: Container, path: str, source: IO[bytes], *, keep_kind: bool = False
    ) -> None:
        """Unpack a tar into the directory *path*.

        Args:
            keep_kind: refuse to replace a directory by something else, and the reverse.

        Raises:
            KernelError: a full disk, an owner outside the container's range, ...
            NotFound: no such directory.
            InvalidArgument: not a tar, or it is cut short.
            Conflict: the root file system is read-only, or *keep_kind* forbids a member.
        """
        if container.host_config.readonly_rootfs and not container.running:
            raise Conflict("container rootfs is marked read-only")
        with self.root(container) as (root, shift):
            base = _open(root, path, os.O_PATH | os.O_DIRECTORY, container.name)
            try:
                with (
                    FilesystemIds(shift, shift),
                    tarfile.open(fileobj=source, mode="r|*") as tar,
                ):
                    for member in tar:
                        _extract(tar, member, base, shift, keep_kind=keep_kind)
            except tarfile.TarError as error:
                raise InvalidArgument(f"invalid archive: {error}") from error
            except OSError as error:
                raise KernelError(error.errno or 0, "unpack below", path) from error
            finally:
                os.close(base)


def _parent(path: str) -> str:
    return os.path.dirname("/" + path.strip("/")) or "/"


def _open(root: int, path: str, flags: int, owner: str) -> int:
    try:
        return open_in_root(root, path, flags)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"Could not find the file {path} in container {owner}") from None


def _path_stat(root: int, path: str, owner: str) -> PathStat:
    fd = _open(root, path, os.O_PATH | os.O_NOFOLLOW, owner)
    try:
        facts = os.fstat(fd)
        link = os.readlink("", dir_fd=fd) if stat.S_ISLNK(facts.st_mode) else ""
    finally:
        os.close(fd)
    mode = facts.st_mode & 0o777 | _GO_TYPES.get(stat.S_IFMT(facts.st_mode), 0)
    for bit, go_bit in _GO_BITS:
        mode |= go_bit if facts.st_mode & bit else 0
    name = os.path.basename(path.rstrip("/")) or "/"
    return PathStat(
        name=name,
        size=facts.st_size,
        mode=mode,
        mtime=rfc3339(facts.st_mtime_ns),
        link_target=link,
    )


def _add_tree(
    tar: tarfile.TarFile, parent: int, name: str, shift: int, *, device: int | None = None
) -> None:
    """Add *name* below the descriptor *parent* and all below it, never following links."""
    if name in {"/", ""}:
        name = "."
    facts = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if device is not None and facts.st_dev != device:
        return
    _add_tree_member(tar, parent, name, name, facts, shift, device)


def _add_tree_member(
    tar: tarfile.TarFile,
    parent: int,
    name: str,
    arcname: str,
    facts: os.stat_result,
    shift: int,
    device: int | None,
) -> None:
    info = _tar_info(parent, name, arcname, facts, shift)
    if info is None:
        return
    if stat.S_ISREG(facts.st_mode):
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)
        with os.fdopen(fd, "rb") as file:
            info.size = os.fstat(file.fileno()).st_size
            tar.addfile(info, file)
        return
    tar.addfile(info)
    if not stat.S_ISDIR(facts.st_mode):
        return
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        for child in sorted(os.listdir(fd)):
            below = os.stat(child, dir_fd=fd, follow_symlinks=False)
            if device is None or below.st_dev == device:
                _add_tree_member(tar, fd, child, f"{arcname}/{child}", below, shift, device)
    finally:
        os.close(fd)


def _tar_info(
    parent: int, name: str, arcname: str, facts: os.stat_result, shift: int
) -> tarfile.TarInfo | None:
    info = tarfile.TarInfo(arcname)
    info.mode = stat.S_IMODE(facts.st_mode)
    info.uid = facts.st_uid - shift if facts.st_uid >= shift else facts.st_uid
    info.gid = facts.st_gid - shift if facts.st_gid >= shift else facts.st_gid
    info.mtime = int(facts.st_mtime)
    match stat.S_IFMT(facts.st_mode):
        case stat.S_IFREG:
            info.type = tarfile.REGTYPE
        case stat.S_IFDIR:
            info.type = tarfile.DIRTYPE
        case stat.S_IFLNK:
            info.type = tarfile.SYMTYPE
            info.linkname = os.readlink(name, dir_fd=parent)
        case stat.S_IFIFO:
            info.type = tarfile.FIFOTYPE
        case stat.S_IFCHR | stat.S_IFBLK as kind:
            info.type = tarfile.CHRTYPE if kind == stat.S_IFCHR else tarfile.BLKTYPE
            info.devmajor, info.devminor = os.major(facts.st_rdev), os.minor(facts.st_rdev)
        case _:
            return None  # a socket has no meaning in an archive
    return info


def _extract(
    tar: tarfile.TarFile, member: tarfile.TarInfo, base: int, shift: int, *, keep_kind: bool
) -> None:
    parts = [part for part in member.name.split("/") if part not in {"", "."}]
    if not parts:
        return
    parent = _make_parents(base, parts[:-1])
    try:
        name = parts[-1]
        if name == "..":
            raise InvalidArgument(f"invalid archive: member {member.name} leads out of it")
        _make_room(parent, name, member, keep_kind=keep_kind)
        _create(tar, member, parent, name, base)
        _restore(member, parent, name, shift)
    finally:
        os.close(parent)


def _make_parents(base: int, parts: Sequence[str]) -> int:
    """Walk down inside *base*, creating what is missing; links on the way stay inside."""
    here = os.dup(base)
    for part in parts:
        try:
            below = open_in_root(here, part, os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            os.mkdir(part, 0o755, dir_fd=here)
            below = open_in_root(here, part, os.O_PATH | os.O_DIRECTORY)
        finally:
            os.close(here)
        here = below
    return here


def _make_room(parent: int, name: str, member: tarfile.TarInfo, *, keep_kind: bool) -> None:
    try:
        facts = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    there_is_directory = stat.S_ISDIR(facts.st_mode)
    if there_is_directory and member.isdir():
        return
    if keep_kind and there_is_directory != member.isdir():
        kinds = ("directory", "non-directory")
        old, new = kinds if there_is_directory else reversed(kinds)
        raise InvalidArgument(f"cannot overwrite {old} {name} with {new} {member.name}")
    if there_is_directory:
        raise Conflict(f"cannot replace the directory {name} by a file")
    os.unlink(name, dir_fd=parent)


def _create(
    tar: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str, base: int
) -> None:
    if member.isdir():
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            return
    elif member.issym():
        os.symlink(member.linkname, name, dir_fd=parent)
    elif member.islnk():
        source = open_in_root(base, member.linkname, os.O_PATH | os.O_NOFOLLOW)
        try:
            os.link(f"/proc/self/fd/{source}", name, dst_dir_fd=parent, follow_symlinks=True)
        finally:
            os.close(source)
    elif member.isfifo():
        os.mkfifo(name, 0o600, dir_fd=parent)
    elif member.isreg():
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        fd = os.open(name, flags, 0o600, dir_fd=parent)
        content = tar.extractfile(member)
        with os.fdopen(fd, "wb") as file:
            while content and (chunk := content.read(1 << 20)):
                file.write(chunk)
    else:
        raise InvalidArgument(f"invalid archive: {member.name} is a device")


def _restore(member: tarfile.TarInfo, parent: int, name: str, shift: int) -> None:
    """Owner, mode and time, through a descriptor: the name may be swapped by the container."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=parent)
    try:
        made = f"/proc/self/fd/{fd}"
        is_link = stat.S_ISLNK(os.fstat(fd).st_mode)
        # The descriptor's link leads to a symbolic link itself, not through it.
        os.chown(made, member.uid + shift, member.gid + shift)
        if not is_link and not member.islnk():
            # After chown, which clears the set-id bits.
            os.chmod(made, member.mode & 0o7777)
            os.utime(made, (member.mtime, member.mtime))
    finally:
        os.close(fd)
