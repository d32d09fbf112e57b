"""Mount options as words, and the mount operations that take several system calls.

What a container mounts where is decided in ``runtime.plan``; overlays are in ``kernel.overlay``.
"""

from __future__ import annotations

import os

from pannier.kernel import _libc
from pannier.kernel._libc import (
    AT_EMPTY_PATH,
    AT_RECURSIVE,
    MOUNT_ATTR_IDMAP,
    MOUNT_ATTR_RDONLY,
    MS_DIRSYNC,
    MS_NOATIME,
    MS_NODEV,
    MS_NODIRATIME,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_RELATIME,
    MS_SHARED,
    MS_SLAVE,
    MS_STRICTATIME,
    MS_SYNCHRONOUS,
    MS_UNBINDABLE,
    OPEN_TREE_CLONE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Flags of mount(2) by option word: (bits to set, bits to clear).
FLAGS: dict[str, tuple[int, int]] = {
    "defaults": (0, 0),
    "ro": (MS_RDONLY, 0),
    "rw": (0, MS_RDONLY),
    "nosuid": (MS_NOSUID, 0),
    "suid": (0, MS_NOSUID),
    "nodev": (MS_NODEV, 0),
    "dev": (0, MS_NODEV),
    "noexec": (MS_NOEXEC, 0),
    "exec": (0, MS_NOEXEC),
    "sync": (MS_SYNCHRONOUS, 0),
    "async": (0, MS_SYNCHRONOUS),
    "dirsync": (MS_DIRSYNC, 0),
    "noatime": (MS_NOATIME, 0),
    "atime": (0, MS_NOATIME),
    "nodiratime": (MS_NODIRATIME, 0),
    "diratime": (0, MS_NODIRATIME),
    "relatime": (MS_RELATIME, 0),
    "norelatime": (0, MS_RELATIME),
    "strictatime": (MS_STRICTATIME, 0),
    "nostrictatime": (0, MS_STRICTATIME),
    "nosymfollow": (256, 0),
    "symfollow": (0, 256),
}

# The same for mount_setattr(2).
ATTRIBUTES: dict[str, tuple[int, int]] = {
    "ro": (MOUNT_ATTR_RDONLY, 0),
    "rw": (0, MOUNT_ATTR_RDONLY),
    "nosuid": (_libc.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, _libc.MOUNT_ATTR_NOSUID),
    "nodev": (_libc.MOUNT_ATTR_NODEV, 0),
    "dev": (0, _libc.MOUNT_ATTR_NODEV),
    "noexec": (_libc.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, _libc.MOUNT_ATTR_NOEXEC),
    # the kind of access time is one field: it must be cleared whole before one is set
    "noatime": (_libc.MOUNT_ATTR_NOATIME, _libc.MOUNT_ATTR__ATIME),
    "relatime": (_libc.MOUNT_ATTR_RELATIME, _libc.MOUNT_ATTR__ATIME),
    "strictatime": (_libc.MOUNT_ATTR_STRICTATIME, _libc.MOUNT_ATTR__ATIME),
    "nodiratime": (_libc.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, _libc.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (_libc.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, _libc.MOUNT_ATTR_NOSYMFOLLOW),
}

PROPAGATION: dict[str, int] = {
    "private": MS_PRIVATE,
    "rprivate": MS_PRIVATE | MS_REC,
    "slave": MS_SLAVE,
    "rslave": MS_SLAVE | MS_REC,
    "shared": MS_SHARED,
    "rshared": MS_SHARED | MS_REC,
    "unbindable": MS_UNBINDABLE,
    "runbindable": MS_UNBINDABLE | MS_REC,
}

# f_type of statfs(2) -> name, for messages about sources that refuse an id map.
_MAGIC = {
    0x9FA0: "proc",
    0x62656572: "sysfs",
    0x01021994: "tmpfs",
    0x794C7630: "overlay",
    0x6969: "nfs",
    0x65735546: "fuse",
    0x1CD1: "devpts",
    0x27E0EB: "cgroup",
    0x63677270: "cgroup2",
    0xEF53: "ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x73717368: "squashfs",
    0x01021997: "9p",
    0xFF534D42: "cifs",
    0x6E736673: "nsfs",
    0x64626720: "debugfs",
    0x74726163: "tracefs",
    0xCAFE4A11: "bpf",
}
PROC_MAGIC = 0x9FA0
SYSFS_MAGIC = 0x62656572


def filesystem_name(fd: int) -> str:
    """The name of the file system that *fd* is on, for messages."""
    magic = _libc.fstatfs_type(fd)
    return _MAGIC.get(magic, f"file system {magic:#x}")


def clone_tree(path: str, *, recursive: bool, dirfd: int = _libc.AT_FDCWD) -> int:
    """A detached copy of the mount at *path*, with what is mounted below it if *recursive*.

    An empty *path* stands for *dirfd* itself.
    """
    flags = (AT_RECURSIVE if recursive else 0) | (0 if path else AT_EMPTY_PATH)
    return _libc.open_tree(dirfd, path, OPEN_TREE_CLONE | flags)


def set_attributes(
    fd: int, attr_set: int, attr_clr: int, *, recursive: bool = False, userns_fd: int = -1
) -> None:
    """Change the mount behind *fd*; with *userns_fd* its ids are mapped, which works once."""
    idmap = MOUNT_ATTR_IDMAP if userns_fd >= 0 else 0
    if not (attr_set or attr_clr or idmap):
        return
    _libc.mount_setattr(
        fd,
        "",
        flags=AT_RECURSIVE if recursive else 0,
        attr_set=attr_set | idmap,
        attr_clr=attr_clr,
        userns_fd=max(userns_fd, 0),
    )


def attach(fd: int, target_fd: int) -> None:
    """Mount the detached *fd* on the file or directory *target_fd*."""
    _libc.move_mount(fd, "", target_fd, "")


def propagate(fd: int, kinds: Sequence[int]) -> None:
    """Set the propagation of the mount behind *fd*: MS_SHARED and the like, or'ed with MS_REC."""
    for kind in kinds:
        flags = AT_RECURSIVE if kind & MS_REC else 0
        _libc.mount_setattr(fd, "", flags=flags, propagation=kind & ~MS_REC)


def mount_at(fd: int, fstype: str, source: str, flags: int, data: str) -> None:
    """Mount a new file system on the directory behind *fd*.

    By way of the working directory: mount(2) takes only paths, and a path could have changed
    since it was resolved.
    """
    os.fchdir(fd)
    _libc.mount(source, ".", fstype, flags, data or None)
