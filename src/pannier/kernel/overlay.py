"""Overlay file systems: layers to one mount, with or without an id map.

Where layers are kept, and which form one stack, is known above. An id map needs Linux 5.19 for
overlayfs; newer forms of handing in layers are used where the kernel knows them:

    layers by fd        Linux 6.15 (detached mounts; 6.13 took only attached ones)
    ``lowerdir+``       Linux 6.7: one path at a time, up to 500
    mount(2)            always: all options in 4 KiB

Forms that were refused are remembered for the life of the process.
"""

from __future__ import annotations

import errno
import os

from pannier.base.errors import KernelError, Unsupported
from pannier.kernel import _libc, mount
from pannier.kernel._libc import (
    MNT_DETACH,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_RDONLY,
    O_PATH,
)
from pannier.kernel.fsids import FilesystemIds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_OPTIONS = {"redirect_dir": "off", "metacopy": "off", "xino": "off"}
_PAGE = 4096  # mount(2) takes one page of options, silently cut
_ST_RDONLY = 1
# what a kernel answers that does not know a form
_REFUSALS = (errno.EINVAL, errno.EBADF, errno.EOPNOTSUPP, errno.ENOSYS)


class Stack:
    """What one overlay is made of.

    Args:
        lowers: directories, the top layer first.
        upper: where changes go, or "" for a read-only mount of at least two lowers.
        work: beside *upper*: overlayfs wants both on one mount.
        volatile: never sync; after a crash of the host the upper is lost.
        userxattr: marks in ``user.overlay.*``, for a mounter without CAP_SYS_ADMIN on the host.
    """

    __slots__ = ("lowers", "upper", "userxattr", "volatile", "work")

    def __init__(
        self,
        lowers: Sequence[str],
        upper: str = "",
        work: str = "",
        *,
        volatile: bool = False,
        userxattr: bool = False,
    ) -> None:
        self.lowers = list(lowers)
        self.upper = upper
        self.work = work
        self.volatile = volatile
        self.userxattr = userxattr

    @property
    def writable_parent(self) -> str:
        parent = os.path.commonpath([self.upper, self.work])
        if parent in (self.upper, self.work):
            raise Unsupported(f"upper {self.upper} and work {self.work} must lie beside each other")
        return parent

    @property
    def flags(self) -> list[str]:
        names = (("volatile", self.volatile and self.upper), ("userxattr", self.userxattr))
        return [name for name, wanted in names if wanted]


def mount_overlay(
    stack: Stack,
    *,
    userns_fd: int = -1,
    owner: tuple[int, int] = (0, 0),
    attributes: int = MOUNT_ATTR_NODEV,
) -> int:
    """Mount *stack* without attaching it anywhere.

    Args:
        stack: the layers.
        userns_fd: a user namespace: the files on disk stay unshifted and appear by its maps.
        owner: uid and gid on the host of that namespace's root. The overlay must be made with them
            as fsuid and fsgid: id 0 has no place in the idmapped upper, and the kernel then mounts
            it read-only without an error.
        attributes: MOUNT_ATTR_* of the mount.

    Returns:
        The fd of the detached mount.

    Raises:
        KernelError: the kernel refused; nothing is left behind.
        Unsupported: it is read-only although it has an upper, or its options are too long.
    """
    sources: list[int] = []
    try:
        if userns_fd >= 0:
            sources = _idmapped_sources(stack, userns_fd)
        with FilesystemIds(*owner) if userns_fd >= 0 else _Unchanged():
            fd = _first_working_form(stack, sources)
        return _checked(fd, stack, attributes)
    finally:
        for source in sources:
            os.close(source)


def _idmapped_sources(stack: Stack, userns_fd: int) -> list[int]:
    """Detached idmapped mounts: of each lower, then of the directory that holds upper and work."""
    paths = [*stack.lowers, stack.writable_parent] if stack.upper else stack.lowers
    sources: list[int] = []
    try:
        for path in paths:
            sources.append(mount.clone_tree(path, recursive=False))
            mount.set_attributes(sources[-1], 0, 0, userns_fd=userns_fd)
    except KernelError:
        for source in sources:
            os.close(source)
        raise
    return sources


class _Unchanged:
    def __enter__(self) -> None:
        return

    def __exit__(self, *_: object) -> None:
        return


# ------------------------------------------------------------------ the forms, newest first


def _by_fd(stack: Stack, sources: list[int]) -> int:
    if not sources:
        return _by_lowerdir(stack, sources)
    fs = _libc.fsopen("overlay")
    opened: list[int] = []
    try:
        for source in sources[: len(stack.lowers)]:
            _libc.fsconfig_fd(fs, "lowerdir+", source)
        if stack.upper:
            parent = stack.writable_parent
            for key, path in (("upperdir", stack.upper), ("workdir", stack.work)):
                flags = O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
                opened.append(os.open(os.path.relpath(path, parent), flags, dir_fd=sources[-1]))
                _libc.fsconfig_fd(fs, key, opened[-1])
        return _create(fs, stack)
    finally:
        for fd in (fs, *opened):
            os.close(fd)


def _by_lowerdir(stack: Stack, sources: list[int]) -> int:
    with _Attached(stack, sources) as paths:
        fs = _libc.fsopen("overlay")
        try:
            for lower in paths.lowers:
                _libc.fsconfig_string(fs, "lowerdir+", lower)
            if paths.upper:
                _libc.fsconfig_string(fs, "upperdir", paths.upper)
                _libc.fsconfig_string(fs, "workdir", paths.work)
            return _create(fs, stack)
        finally:
            os.close(fs)


def _by_mount(stack: Stack, sources: list[int]) -> int:
    with _Attached(stack, sources) as paths, _MountPoint() as target:
        options = [f"lowerdir={':'.join(_escaped(paths.lowers))}"]
        if paths.upper:
            upper, work = _escaped((paths.upper, paths.work))
            options += [f"upperdir={upper}", f"workdir={work}"]
        options += [f"{key}={value}" for key, value in _OPTIONS.items()] + stack.flags
        data = ",".join(options)
        if len(data) >= _PAGE:
            raise Unsupported(
                f"{len(stack.lowers)} layers are too many for this kernel (before 6.7)"
            )
        _libc.mount("overlay", target, "overlay", 0, data)
        try:
            return mount.clone_tree(target, recursive=False)
        finally:
            _libc.umount2(target, MNT_DETACH)


def _create(fs: int, stack: Stack) -> int:
    for key, value in _OPTIONS.items():
        _libc.fsconfig_string(fs, key, value)
    for name in stack.flags:
        _libc.fsconfig_flag(fs, name)
    _libc.fsconfig_string(fs, "source", "overlay")
    _libc.fsconfig_create(fs)
    return _libc.fsmount(fs)


def _escaped(paths: Iterable[str]) -> list[str]:
    """Backslashes, colons and commas separate in the options of overlayfs."""
    return [p.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,") for p in paths]


_forms: list[Callable[[Stack, list[int]], int]] = [_by_fd, _by_lowerdir, _by_mount]


def _first_working_form(stack: Stack, sources: list[int]) -> int:
    refusal: KernelError | None = None
    for form in list(_forms):
        try:
            fd = form(stack, sources)
        except KernelError as error:
            if error.errno not in _REFUSALS:
                raise
            refusal = refusal or error
            continue
        # a refusal can be the layers' fault: only success of a later form proves it was the form's
        while _forms[0] is not form:
            del _forms[0]
        return fd
    raise refusal or Unsupported("this kernel has no overlay file system")


def _checked(fd: int, stack: Stack, attributes: int) -> int:
    try:
        if stack.upper and os.fstatvfs(fd).f_flag & _ST_RDONLY:
            raise Unsupported(
                f"the overlay on {stack.upper} came up read-only",
                hint="the file system of the data directory cannot hold an overlay's upper "
                "directory; the kernel log says why",
            )
        if not stack.upper:
            attributes |= MOUNT_ATTR_RDONLY
        mount.set_attributes(fd, attributes, 0)
    except (KernelError, Unsupported):
        os.close(fd)
        raise
    return fd


# ------------------------------------------------------------------ for kernels that want paths


class _MountPoint:
    """A directory to mount on for a moment."""

    def __enter__(self) -> str:
        self._path = f"/tmp/.pannier-mount-{os.getpid()}-{id(self)}"
        os.mkdir(self._path, 0o700)
        return self._path

    def __exit__(self, *_: object) -> None:
        os.rmdir(self._path)


class _Attached:
    """The stack with its idmapped mounts at short paths in this process' own mount namespace."""

    def __init__(self, stack: Stack, sources: list[int]) -> None:
        self._stack = stack
        self._sources = sources
        self._point = _MountPoint()

    def __enter__(self) -> Stack:
        if not self._sources:
            return self._stack
        base = self._point.__enter__()
        _libc.mount("tmpfs", base, "tmpfs", 0, "mode=700")
        self._base = base
        for number, source in enumerate(self._sources):
            os.mkdir(f"{base}/{number}")
            _libc.move_mount(source, "", _libc.AT_FDCWD, f"{base}/{number}")
        return self._translated(base)

    def _translated(self, base: str) -> Stack:
        stack = self._stack
        count = len(stack.lowers)
        lowers = [f"{base}/{number}" for number in range(count)]
        if not stack.upper:
            return Stack(lowers)
        parent = stack.writable_parent
        upper, work = (os.path.relpath(path, parent) for path in (stack.upper, stack.work))
        return Stack(lowers, f"{base}/{count}/{upper}", f"{base}/{count}/{work}")

    def __exit__(self, *_: object) -> None:
        if self._sources:
            _libc.umount2(self._base, MNT_DETACH)
            self._point.__exit__()
