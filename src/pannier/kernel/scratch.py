"""Mounts that one process makes for itself for a moment, unseen by the rest of the host."""

from __future__ import annotations

from pannier.kernel import _libc


def own_mount_namespace() -> None:
    """Leave the host's mount namespace for a copy that follows it (slave), but tells it nothing.

    Call it before the first thread starts: unshare(2) moves the calling thread alone.
    """
    _libc.unshare(_libc.CLONE_NEWNS)
    _libc.mount("none", "/", "", _libc.MS_REC | _libc.MS_SLAVE)


def umount(path: str) -> None:
    """Unmount *path*, also while somebody still has a file open below it (lazily)."""
    _libc.umount2(path, _libc.MNT_DETACH | _libc.UMOUNT_NOFOLLOW)
