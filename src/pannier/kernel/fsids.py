"""Making files as another user: the owner that a new file gets (credentials(7))."""

from __future__ import annotations

import os

from pannier.kernel import _libc

_SECBIT_NO_SETUID_FIXUP = 1 << 2


class FilesystemIds:
    """Within it, this thread makes files as *uid* and *gid*, without losing capabilities.

    Id 0 of the host has no place in an idmapped mount or a file system of a user namespace: making
    a file there as 0 is EOVERFLOW.
    """

    __slots__ = ("_before", "_ids")

    def __init__(self, uid: int, gid: int) -> None:
        self._ids = (uid, gid)
        self._before = 0

    def __enter__(self) -> None:
        self._before = _libc.prctl(_libc.PR_GET_SECUREBITS)
        _libc.prctl(_libc.PR_SET_SECUREBITS, self._before | _SECBIT_NO_SETUID_FIXUP)
        _libc.setfsgid(self._ids[1])
        _libc.setfsuid(self._ids[0])

    def __exit__(self, *_: object) -> None:
        _libc.setfsuid(os.geteuid())
        _libc.setfsgid(os.getegid())
        _libc.prctl(_libc.PR_SET_SECUREBITS, self._before)
