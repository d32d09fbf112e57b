"""inotify(7): being told when a file or directory changes. Two system calls and one decoder."""

from __future__ import annotations

import ctypes
import os
import struct

from pannier.kernel._libc import check, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

IN_MODIFY = 0x00000002
IN_ATTRIB = 0x00000004
IN_CLOSE_WRITE = 0x00000008
IN_MOVED_FROM = 0x00000040
IN_MOVED_TO = 0x00000080
IN_CREATE = 0x00000100
IN_DELETE = 0x00000200
IN_DELETE_SELF = 0x00000400
IN_MOVE_SELF = 0x00000800
IN_Q_OVERFLOW = 0x00004000
IN_IGNORED = 0x00008000

_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_HEADER = struct.Struct("=iIII")
_BUFFER = 1 << 16

_init1 = libc["inotify_init1"]
_init1.argtypes = (ctypes.c_int,)
_add_watch = libc["inotify_add_watch"]
_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_rm_watch = libc["inotify_rm_watch"]
_rm_watch.argtypes = (ctypes.c_int, ctypes.c_int)


class Inotify:
    """One queue of events; non-blocking. Poll ``fileno()`` for reading."""

    __slots__ = ("_fd",)

    def __init__(self) -> None:
        self._fd = check(_init1(_NONBLOCK_CLOEXEC), "inotify_init1")

    def fileno(self) -> int:
        return self._fd

    def add(self, path: str | os.PathLike[str], mask: int) -> int:
        """Watch *path* for the IN_* events in *mask*; returns the watch descriptor.

        Raises:
            KernelError: ENOSPC, fs.inotify.max_user_watches is reached.
        """
        return check(_add_watch(self._fd, os.fsencode(path), mask), "inotify_add_watch", path)

    def remove(self, watch: int) -> None:
        """Stop watching. An IN_IGNORED event follows."""
        check(_rm_watch(self._fd, watch), "inotify_rm_watch")

    def read(self) -> Iterator[tuple[int, int, str]]:
        """The events that wait: (watch, mask, name in the watched directory or "")."""
        try:
            data = os.read(self._fd, _BUFFER)
        except BlockingIOError:
            return
        offset = 0
        while offset < len(data):
            watch, mask, _, length = _HEADER.unpack_from(data, offset)
            offset += _HEADER.size
            name = data[offset : offset + length].rstrip(b"\0")
            offset += length
            yield watch, mask, os.fsdecode(name)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
