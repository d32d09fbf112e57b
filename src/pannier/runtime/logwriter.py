"""A container's log on disk: the form of its lines, rotation, and how no byte gets lost or doubled.

One record is one line, as Kubernetes' container runtime interface has it (CRI logging):

    2024-05-01T12:00:00.123456789Z stdout F a whole line
    2024-05-01T12:00:00.123456789Z stderr P the beginning of a line whose end is not written yet

Output is moved, not read: splice(2) carries it from the pipe into a small staging file, so at every
moment each byte is in the pipe, in the staging file, or in the log. The staging file begins with
what makes writing the log repeatable (where, when, which stream), so a logger that was killed at
any point does the last step again, byte for byte, and goes on.

A reader that may not miss anything (an attached client) has a shared lock (flock(2)) on the file
it is in. Before that file would fall off the end, writing waits, and so at last the container: as a
process waits whose reader is slow. Locks end with the process that reads, however it ends.

Readers are in ``runtime.logfile``; which pipes there are is known to ``runtime.logger``.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time

STREAMS = ("stdout", "stderr")

_CHUNK = 1 << 16  # the size of a pipe
_HEADER = struct.Struct("=QQQQ")  # size of the log before, time in ns, stream, reserved
_SPLICE_F_MOVE = 1
_SPLICE_F_NONBLOCK = 2
_READ_WRITE = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


def format_records(data: bytes, time_ns: int, stream: int) -> bytes:
    """The records for one piece of output.

    Args:
        data: not empty.
        time_ns: since the epoch, when it was read.
        stream: index into STREAMS.
    """
    head = f"{timestamp(time_ns)} {STREAMS[stream]} ".encode()
    whole = head + b"F "
    end = data.rfind(b"\n")
    parts = []
    if end >= 0:
        parts += [whole, data[:end].replace(b"\n", b"\n" + whole), b"\n"]
    if end + 1 < len(data):
        parts += [head, b"P ", data[end + 1 :], b"\n"]
    return b"".join(parts)


def timestamp(time_ns: int) -> str:
    """As records begin; all are equally long, so they sort as text."""
    seconds, rest = divmod(time_ns, 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


def rotated(path: str, number: int) -> str:
    """The file *number* steps older than the current one (0)."""
    return f"{path}.{number}" if number else path


class LogWriter:
    """Writes one container's log.

    Args:
        path: the current file; older ones are ``path.1`` and so on.
        max_size: bytes; a file that has reached it is rotated. 0 is no limit.
        max_files: how many files there are at most.
        staging: the staging file; what is found in it is finished at once.

    Raises:
        OSError: of any method: the disk is full, or the directory is gone. Nothing is lost; call
            ``recover`` before anything else then.
    """

    def __init__(self, path: str, max_size: int, max_files: int, staging: str) -> None:
        self.path = path
        self._max_size = max_size
        self._max_files = max(max_files, 1)
        self._stage = os.open(staging, _READ_WRITE, 0o600)
        self._log = -1
        self._size = 0
        try:
            self._open()
            self.recover()
        except OSError:
            self.close()
            raise

    def move(self, pipe: int, stream: int) -> int:
        """Move up to 64 KiB from *pipe* into the log.

        Returns:
            The number of bytes, 0 at the end of file.

        Raises:
            BlockingIOError: nothing there at the moment.
        """
        self._begin(stream)
        moved = os.splice(
            pipe,
            self._stage,
            _CHUNK,
            offset_dst=_HEADER.size,
            flags=_SPLICE_F_MOVE | _SPLICE_F_NONBLOCK,
        )
        if moved:
            self._finish()
        return moved

    def copy(self, data: bytes, stream: int) -> None:
        """Write *data*, read from a terminal: the kernel cannot move it out of there."""
        self._begin(stream)
        os.pwrite(self._stage, data, _HEADER.size)
        self._finish()

    def waits(self) -> bool:
        """Whether the next write would take away a file that its reader has not finished yet.

        With one file only there is none to finish in: its reader may miss what a rotation drops.
        """
        if not self._max_size or self._size < self._max_size or self._max_files == 1:
            return False
        try:
            fd = os.open(rotated(self.path, self._max_files - 1), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def recover(self) -> None:
        """Finish what was begun, if anything."""
        if os.fstat(self._stage).st_size > _HEADER.size:
            self._finish()

    def close(self) -> None:
        for fd in (self._stage, self._log):
            if fd >= 0:
                os.close(fd)
        self._stage = self._log = -1

    def _begin(self, stream: int) -> None:
        if self._max_size and self._size >= self._max_size:
            self._rotate()
        os.pwrite(self._stage, _HEADER.pack(self._size, time.time_ns(), stream, 0), 0)

    def _finish(self) -> None:
        """Everything it needs is in the staging file, so that it can be done again."""
        content = os.pread(self._stage, _HEADER.size + _CHUNK, 0)
        size, time_ns, stream, _ = _HEADER.unpack_from(content)
        view = memoryview(format_records(content[_HEADER.size :], time_ns, stream))
        while view:
            written = os.pwrite(self._log, view, size)
            size += written
            view = view[written:]
        self._size = size
        os.ftruncate(self._stage, _HEADER.size)

    def _open(self) -> None:
        self._log = os.open(self.path, _READ_WRITE, 0o640)
        self._size = os.fstat(self._log).st_size

    def _rotate(self) -> None:
        """Readers know their place by inode, so renaming does not disturb them."""
        for number in range(self._max_files - 1, 0, -1):
            try:  # noqa: SIM105 - contextlib takes half a megabyte of every small process
                os.rename(rotated(self.path, number - 1), rotated(self.path, number))
            except FileNotFoundError:
                pass
        if self._max_files == 1:
            os.unlink(self.path)
        old = self._log
        self._open()
        os.close(old)
