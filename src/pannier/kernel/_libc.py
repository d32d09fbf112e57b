"""Every system call that Python's ``os`` does not offer, bound once at import.

Thin wrappers only: one function is one system call, failures raise ``KernelError`` with the call's
name and its path. Steps made of several calls belong to the sibling modules. All ctypes prototypes
live here because setting ``argtypes`` later, from two threads, corrupts concurrent calls.

Flags that Python's ``os`` does not know are defined beside the call that takes them. The numbers of
system calls from 424 on are the same on all architectures that Linux has added since 5.1.
"""

from __future__ import annotations

import ctypes
import errno
import os
from ctypes import c_char_p, c_int, c_long, c_size_t, c_uint, c_ulong, c_void_p
from struct import Struct

from pannier.base.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Path = str | bytes | os.PathLike[str]

libc = ctypes.CDLL(None, use_errno=True)
# clone3 returns twice: the GIL must stay held, for the child has nobody to give it back.
_held = ctypes.PyDLL(None, use_errno=True)

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

SYS_MOVE_MOUNT = 429
SYS_OPEN_TREE = 428
SYS_FSOPEN = 430
SYS_FSCONFIG = 431
SYS_FSMOUNT = 432
SYS_CLONE3 = 435
SYS_CLOSE_RANGE = 436
SYS_OPENAT2 = 437
SYS_PIDFD_GETFD = 438
SYS_MOUNT_SETATTR = 442


def _bind(name: str, *argtypes: type, library: ctypes.CDLL = libc) -> Callable[..., int]:
    function = library[name]
    function.argtypes = argtypes
    function.restype = c_long if name == "syscall" else c_int
    return function


_mount = _bind("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_umount2 = _bind("umount2", c_char_p, c_int)
_pivot_root = _bind("pivot_root", c_char_p, c_char_p)
_open_tree = _bind("syscall", c_long, c_int, c_char_p, c_uint)
_move_mount = _bind("syscall", c_long, c_int, c_char_p, c_int, c_char_p, c_uint)
_mount_setattr = _bind("syscall", c_long, c_int, c_char_p, c_uint, c_char_p, c_size_t)
_fsopen = _bind("syscall", c_long, c_char_p, c_uint)
_fsconfig = _bind("syscall", c_long, c_int, c_uint, c_char_p, c_char_p, c_int)
_fsmount = _bind("syscall", c_long, c_int, c_uint, c_uint)
_openat2 = _bind("syscall", c_long, c_int, c_char_p, c_char_p, c_size_t)
_clone3 = _bind("syscall", c_long, c_void_p, c_size_t, library=_held)
_fstatfs = _bind("fstatfs", c_int, c_char_p)
_close_range = _bind("syscall", c_long, c_uint, c_uint, c_uint)
_pidfd_getfd = _bind("syscall", c_long, c_int, c_int, c_uint)
_setns = _bind("setns", c_int, c_int)
_unshare = _bind("unshare", c_int)
_prctl = _bind("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_capset = _bind("capset", c_char_p, c_char_p)
_sethostname = _bind("sethostname", c_char_p, c_size_t)
_setdomainname = _bind("setdomainname", c_char_p, c_size_t)
_setfsuid = _bind("setfsuid", c_uint)
_setfsgid = _bind("setfsgid", c_uint)


def check(result: int, what: str, path: Path | None = None) -> int:
    """Return *result*, or raise ``KernelError`` from this thread's errno if it is negative.

    Args:
        result: what a system call returned.
        what: the name of the call.
        path: what it worked on.
    """
    if result < 0:
        raise KernelError(ctypes.get_errno(), what, None if path is None else os.fsdecode(path))
    return result


# ------------------------------------------------------------------ mount(2)

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_DIRSYNC = 128
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_REC = 16384
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8


def mount(
    source: Path | None, target: Path, fstype: str | None, flags: int = 0, data: str | None = None
) -> None:
    """mount(2)."""
    check(
        _mount(
            None if source is None else os.fsencode(source),
            os.fsencode(target),
            None if fstype is None else fstype.encode(),
            flags,
            None if data is None else data.encode(),
        ),
        "mount",
        target,
    )


def umount2(target: Path, flags: int = 0) -> None:
    """umount2(2)."""
    check(_umount2(os.fsencode(target), flags), "umount2", target)


def pivot_root(new_root: Path, put_old: Path) -> None:
    """pivot_root(2)."""
    check(_pivot_root(os.fsencode(new_root), os.fsencode(put_old)), "pivot_root", new_root)


# ------------------------------------------------------------------ mounts by fd

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC

MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_SYMLINKS = 0x10
MOVE_MOUNT_T_EMPTY_PATH = 0x40

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x00
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x00100000
MOUNT_ATTR_NOSYMFOLLOW = 0x00200000

FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6

_MOUNT_ATTR = Struct("=QQQQ")


def open_tree(dirfd: int, path: Path, flags: int = 0) -> int:
    """open_tree(2), always close-on-exec; returns an fd of the mount."""
    raw = os.fsencode(path)
    flags |= OPEN_TREE_CLOEXEC
    return check(_open_tree(SYS_OPEN_TREE, dirfd, raw, flags), "open_tree", path)


def move_mount(from_fd: int, from_path: Path, to_fd: int, to_path: Path, flags: int = 0) -> None:
    """move_mount(2); an empty path stands for the fd itself."""
    source, target = os.fsencode(from_path), os.fsencode(to_path)
    if not source:
        flags |= MOVE_MOUNT_F_EMPTY_PATH
    if not target:
        flags |= MOVE_MOUNT_T_EMPTY_PATH
    result = _move_mount(SYS_MOVE_MOUNT, from_fd, source, to_fd, target, flags)
    check(result, "move_mount", to_path or from_path or None)


def mount_setattr(
    dirfd: int,
    path: Path,
    *,
    flags: int = 0,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
) -> None:
    """mount_setattr(2).

    Args:
        dirfd: directory for a relative *path*, or the mount itself if *path* is empty.
        path: the mount point.
        flags: AT_RECURSIVE and the like.
        attr_set: MOUNT_ATTR_* to set.
        attr_clr: MOUNT_ATTR_* to clear.
        propagation: one of MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE, or 0.
        userns_fd: a user namespace, with MOUNT_ATTR_IDMAP.
    """
    raw = os.fsencode(path)
    if not raw:
        flags |= AT_EMPTY_PATH
    attr = _MOUNT_ATTR.pack(attr_set, attr_clr, propagation, userns_fd)
    result = _mount_setattr(SYS_MOUNT_SETATTR, dirfd, raw, flags, attr, len(attr))
    check(result, "mount_setattr", path or None)


def fsopen(fstype: str) -> int:
    """fsopen(2), close-on-exec; returns the configuration fd."""
    return check(_fsopen(SYS_FSOPEN, fstype.encode(), 1), "fsopen", fstype)


def fsconfig_string(fd: int, key: str, value: Path) -> None:
    """Set ``key=value``. The kernel refuses values of more than 255 bytes."""
    raw = os.fsencode(value)
    result = _fsconfig(SYS_FSCONFIG, fd, FSCONFIG_SET_STRING, key.encode(), raw, 0)
    check(result, f"fsconfig {key}", value)


def fsconfig_flag(fd: int, key: str) -> None:
    """Set a flag without value."""
    result = _fsconfig(SYS_FSCONFIG, fd, FSCONFIG_SET_FLAG, key.encode(), None, 0)
    check(result, f"fsconfig {key}")


def fsconfig_fd(fd: int, key: str, value: int) -> None:
    """Set *key* to an open file. Overlayfs takes its layers like this since Linux 6.13."""
    result = _fsconfig(SYS_FSCONFIG, fd, FSCONFIG_SET_FD, key.encode(), None, value)
    check(result, f"fsconfig {key}")


def fsconfig_create(fd: int) -> None:
    """Make the superblock."""
    check(_fsconfig(SYS_FSCONFIG, fd, FSCONFIG_CMD_CREATE, None, None, 0), "fsconfig create")


def fsmount(fd: int, attributes: int = 0) -> int:
    """fsmount(2), close-on-exec; returns an fd of the detached mount."""
    return check(_fsmount(SYS_FSMOUNT, fd, 1, attributes), "fsmount")


# ------------------------------------------------------------------ files

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

O_PATH = 0o10000000

_OPEN_HOW = Struct("=QQQ")


def openat2(dirfd: int, path: Path, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2), always close-on-exec.

    Args:
        dirfd: where *path* starts, and its root with RESOLVE_IN_ROOT.
        path: what to open.
        flags: os.O_* flags.
        mode: permission bits if the file is created.
        resolve: RESOLVE_* flags.

    RESOLVE_IN_ROOT and RESOLVE_BENEATH give EAGAIN when a rename or mount anywhere on the host
    raced with ".." in the path; that is tried again here.
    """
    raw = os.fsencode(path)
    how = _OPEN_HOW.pack(flags | os.O_CLOEXEC, mode, resolve)
    result = -1
    for _ in range(64):
        result = _openat2(SYS_OPENAT2, dirfd, raw, how, len(how))
        if result >= 0 or ctypes.get_errno() != errno.EAGAIN:
            break
    return check(result, "openat2", path)


def fstatfs_type(fd: int) -> int:
    """The magic number of the file system that *fd* is on (``f_type`` of fstatfs(2))."""
    buffer = ctypes.create_string_buffer(256)
    check(_fstatfs(fd, buffer), "fstatfs")
    return int.from_bytes(buffer.raw[:8], "little") & 0xFFFFFFFF


CLOSE_RANGE_CLOEXEC = 4


def close_range(first: int, last: int = 0xFFFFFFFF, flags: int = 0) -> None:
    """close_range(2); *last* is included."""
    check(_close_range(SYS_CLOSE_RANGE, first, last, flags), "close_range")


# ------------------------------------------------------------------ processes

CLONE_NEWTIME = 0x00000080
CLONE_PIDFD = 0x00001000
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000

_SIGCHLD = 17
_CLONE_ARGS = Struct("=11Q")


def clone3(flags: int, *, cgroup_fd: int = -1) -> tuple[int, int]:
    """clone3(2) in the manner of fork, for single-threaded processes only.

    Args:
        flags: CLONE_NEW* and the like; CLONE_PIDFD is added.
        cgroup_fd: a cgroup v2 directory to be born in, or -1.

    Returns:
        (pid, pidfd) in the parent, (0, -1) in the child. The child must end in exec or ``os._exit``
        without returning to its caller's cleanup code.
    """
    pidfd = c_int(-1)
    if cgroup_fd >= 0:
        flags |= CLONE_INTO_CGROUP
    args = ctypes.create_string_buffer(
        _CLONE_ARGS.pack(
            flags | CLONE_PIDFD,
            ctypes.addressof(pidfd),
            0,
            0,
            # a sibling's end is told to our parent in the way that ours is
            0 if flags & CLONE_PARENT else _SIGCHLD,
            0,
            0,
            0,
            0,
            0,
            max(cgroup_fd, 0),
        ),
        _CLONE_ARGS.size,
    )
    pid = check(_clone3(SYS_CLONE3, ctypes.addressof(args), _CLONE_ARGS.size), "clone3")
    return pid, pidfd.value


def setns(fd: int, nstype: int) -> None:
    """setns(2); *fd* is a namespace file, or a pidfd with several CLONE_NEW* in *nstype*."""
    check(_setns(fd, nstype), "setns")


def unshare(flags: int) -> None:
    """unshare(2)."""
    check(_unshare(flags), "unshare")


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """pidfd_getfd(2): a copy of another process' file descriptor."""
    return check(_pidfd_getfd(SYS_PIDFD_GETFD, pidfd, fd, 0), "pidfd_getfd")


PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_SET_SECCOMP = 22
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
PR_GET_SECUREBITS = 27
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4


def prctl(operation: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """prctl(2)."""
    return check(_prctl(operation, arg2, arg3, arg4, arg5), "prctl", str(operation))


_CAP_HEADER = Struct("=Ii")
_CAP_DATA = Struct("=IIIIII")
_CAP_VERSION_3 = 0x20080522


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) of this thread; each set is a mask of ``1 << CAP_*``."""
    low, high = 0xFFFFFFFF, 32
    header = _CAP_HEADER.pack(_CAP_VERSION_3, 0)
    data = _CAP_DATA.pack(
        effective & low,
        permitted & low,
        inheritable & low,
        effective >> high,
        permitted >> high,
        inheritable >> high,
    )
    check(_capset(header, data), "capset")


def sethostname(name: str) -> None:
    """sethostname(2); at most 64 bytes."""
    raw = name.encode()
    check(_sethostname(raw, len(raw)), "sethostname", name)


def setdomainname(name: str) -> None:
    """setdomainname(2): the NIS domain; at most 64 bytes."""
    raw = name.encode()
    check(_setdomainname(raw, len(raw)), "setdomainname", name)


def setfsuid(uid: int) -> None:
    """setfsuid(2). It cannot report failure; a second call tells what is in force."""
    _setfsuid(uid)
    if _setfsuid(uid) != uid:
        raise KernelError(errno.EPERM, "setfsuid", str(uid))


def setfsgid(gid: int) -> None:
    """setfsgid(2)."""
    _setfsgid(gid)
    if _setfsgid(gid) != gid:
        raise KernelError(errno.EPERM, "setfsgid", str(gid))
