"""Reading a container's log, from its beginning or the last lines, and on while it grows.

The daemon's side of what ``runtime.logwriter`` writes; ``logs`` and ``attach`` both read by it, so
a vanished client never touches the container. Files are found again by inode when they are
rotated under the reader.
"""

from __future__ import annotations

import asyncio
import calendar
import contextlib
import fcntl
import os
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator
from dataclasses import dataclass

from pannier.base.errors import KernelError
from pannier.kernel.inotify import (
    IN_CREATE,
    IN_DELETE,
    IN_MODIFY,
    IN_MOVED_TO,
    IN_Q_OVERFLOW,
    Inotify,
)
from pannier.runtime.logwriter import STREAMS, rotated, timestamp

_BLOCK = 1 << 16
_STAMP = len("2024-05-01T12:00:00.123456789Z")
_CHANGES = IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_DELETE
_PROBE = 64  # more rotated files than anybody keeps


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One line, or with ``partial`` the beginning of one, as the container wrote it."""

    time_ns: int
    stream: str  # stdout or stderr
    partial: bool
    data: bytes  # with the line's end, unless partial


async def follow(
    path: str | os.PathLike[str],
    *,
    since_ns: int = 0,
    until_ns: int = 0,
    tail: int | None = None,
    follow: bool = False,
    streams: Collection[str] = STREAMS,
    stop: asyncio.Event | None = None,
) -> AsyncIterator[LogRecord]:
    """The records of the log at *path*, oldest first.

    Args:
        path: the current file; it need not exist yet.
        since_ns: only records from then on (ns since the epoch).
        until_ns: only records up to then; 0 is no limit.
        tail: only the last so many lines of what is there at the beginning; None is all.
        follow: go on when the end is reached.
        streams: which to give.
        stop: with *follow*, end when it is set and everything has been given.
    """
    reader = _Reader(os.fspath(path))
    if tail is not None:
        reader.open(tail, streams)
    async with contextlib.aclosing(_blocks(reader, follow=follow, stop=stop)) as blocks:
        async for lines in blocks:
            for record in filter(None, map(parse_record, lines)):
                if until_ns and record.time_ns > until_ns:
                    return
                if record.stream in streams and record.time_ns >= since_ns:
                    yield record


async def output(
    path: str | os.PathLike[str],
    *,
    since_ns: int,
    follow: bool,
    streams: Collection[str],
    stop: asyncio.Event,
) -> AsyncIterator[tuple[str, bytes]]:
    """Stream and bytes as an attached client gets them: in large pieces, and none is missed.

    No file goes before it was read: the container waits instead, if it writes faster than we read.

    Args:
        path, since_ns, follow, streams, stop: as for `follow`.
    """
    reader = _Reader(os.fspath(path), hold=follow)
    since = timestamp(since_ns).encode()
    wanted = {name.encode() for name in streams}
    async with contextlib.aclosing(_blocks(reader, follow=follow, stop=stop)) as blocks:
        async for lines in blocks:
            for piece in _joined(lines, since, wanted):
                yield piece


def _joined(
    lines: list[bytes], since: bytes, wanted: Collection[bytes]
) -> Iterator[tuple[str, bytes]]:
    """Neighbours of one stream in one piece. Looks at places only: there may be millions."""
    pieces: list[bytes] = []
    current = b""
    for line in lines:
        stream = line[_STAMP + 1 : _STAMP + 7]
        if stream not in wanted or line[:_STAMP] < since:
            continue
        if stream != current and pieces:
            yield current.decode(), b"".join(pieces)
            pieces = []
        current = stream
        pieces.append(line[_STAMP + 10 :])
        if line[_STAMP + 8 : _STAMP + 9] == b"F":
            pieces.append(b"\n")
    if pieces:
        yield current.decode(), b"".join(pieces)


async def _blocks(
    reader: _Reader, *, follow: bool, stop: asyncio.Event | None
) -> AsyncGenerator[list[bytes], None]:
    """Lines of the log, as many at once as were read at once; closes the reader."""
    watcher = _Watcher(reader.directory, stop) if follow else None
    try:
        while True:
            # Asked for before reading: what is written until then is read for sure.
            last_round = watcher is None or (stop is not None and stop.is_set())
            for lines in reader.blocks():
                yield lines
            if last_round or watcher is None:
                return
            await watcher.wait()
    finally:
        reader.close()
        if watcher is not None:
            watcher.close()


class _Hub:
    """One inotify queue for all readers of an event loop.

    Closing a queue waits for a grace period of the kernel (fsnotify_destroy_group: 5 to 30 ms, in
    which the loop stands still); removing a watch does not.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._inotify = Inotify()
        self._listeners: dict[int, list[asyncio.Event]] = {}
        loop.add_reader(self._inotify.fileno(), self._readable)
        weakref.finalize(loop, self._inotify.close)

    def listen(self, directory: str, changed: asyncio.Event) -> int:
        """Have *changed* set whenever something changes in *directory*."""
        watch = self._inotify.add(directory, _CHANGES)
        self._listeners.setdefault(watch, []).append(changed)
        return watch

    def leave(self, watch: int, changed: asyncio.Event) -> None:
        listeners = self._listeners.get(watch, [])
        listeners.remove(changed)
        if not listeners:
            self._listeners.pop(watch, None)
            with contextlib.suppress(KernelError):  # the directory is gone, and the watch with it
                self._inotify.remove(watch)

    def _readable(self) -> None:
        for watch, mask, _ in self._inotify.read():
            if mask & IN_Q_OVERFLOW:
                for listeners in self._listeners.values():
                    _set_all(listeners)
            _set_all(self._listeners.get(watch, []))


def _set_all(events: list[asyncio.Event]) -> None:
    for event in events:
        event.set()


_hubs: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Hub] = weakref.WeakKeyDictionary()


def _hub() -> _Hub:
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _hubs[loop] = _Hub(loop)
    return _hubs[loop]


class _Watcher:
    """Waits for changes in the log's directory, or for the event that ends it all."""

    def __init__(self, directory: str, stop: asyncio.Event | None) -> None:
        self._changed = asyncio.Event()
        self._hub = _hub()
        self._watch = self._hub.listen(directory, self._changed)
        self._stopper = asyncio.ensure_future(self._wait_stop(stop)) if stop else None

    async def wait(self) -> None:
        await self._changed.wait()
        self._changed.clear()

    def close(self) -> None:
        if self._stopper is not None:
            self._stopper.cancel()
        self._hub.leave(self._watch, self._changed)

    async def _wait_stop(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._changed.set()


class _Reader:
    """A place in the chain of files, and the part of a record that is not whole yet."""

    def __init__(self, path: str, *, hold: bool = False) -> None:
        self._path = path
        self.directory = os.path.dirname(path)
        self._hold = hold
        self._fd = -1
        self._rest = b""

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def open(self, tail: int | None, streams: Collection[str]) -> None:
        """Go to the oldest file, or so far back that *tail* lines follow."""
        files = self._chain()
        if not files:
            return
        number, offset = len(files) - 1, 0
        if tail is not None:
            number, offset = _tail_position(files, tail, streams)
        self._take(files.pop(number))
        os.lseek(self._fd, offset, os.SEEK_SET)
        for fd in files:
            os.close(fd)

    def _take(self, fd: int) -> None:
        """Go on in this file; with a lock that the logger minds before it drops the file."""
        if self._hold:
            fcntl.flock(fd, fcntl.LOCK_SH)
        self._fd = fd

    def blocks(self) -> Iterator[list[bytes]]:
        """Lines that are there now, over all files up to the current one."""
        while self._fd >= 0 or self._next():
            while block := os.read(self._fd, _BLOCK):
                *lines, self._rest = (self._rest + block).split(b"\n")
                yield lines
            if not self._next():
                return

    def _chain(self) -> list[int]:
        """Open files, the current one first."""
        files: list[int] = []
        for number in range(_PROBE):
            try:
                files.append(os.open(rotated(self._path, number), os.O_RDONLY | os.O_CLOEXEC))
            except FileNotFoundError:
                # In the middle of a rotation the current file is missing for a moment.
                if number:
                    break
        return files

    def _next(self) -> bool:
        """Step to the file after this one; false if this is the current one."""
        if self._fd < 0:
            self.open(None, STREAMS)
            return self._fd >= 0
        here = os.fstat(self._fd).st_ino
        files = self._chain()
        try:
            inodes = [os.fstat(fd).st_ino for fd in files]
            if not files or inodes[0] == here:
                return False
            # A file that fell off the end was older than all that are left.
            number = inodes.index(here) if here in inodes else len(inodes)
            if not _is_finished(self._fd):
                return True
            earlier = self._fd
            self._take(files.pop(number - 1))
            os.close(earlier)
            self._rest = b""
            return True
        finally:
            for fd in files:
                os.close(fd)


def _is_finished(fd: int) -> bool:
    """Whether the reader is at the end. A rotated file grows no more, but it may have grown between
    our last read and the rotation."""
    return os.lseek(fd, 0, os.SEEK_CUR) >= os.fstat(fd).st_size


def parse_record(line: bytes) -> LogRecord | None:
    """One line of a log file, None if it is not a record."""
    stamp, _, rest = line.partition(b" ")
    stream, _, rest = rest.partition(b" ")
    tag, _, data = rest.partition(b" ")
    if len(stamp) != _STAMP or tag not in (b"F", b"P"):
        return None
    partial = tag == b"P"
    return LogRecord(
        _parse_time(stamp), stream.decode(), partial, data if partial else data + b"\n"
    )


def _parse_time(stamp: bytes) -> int:
    text = stamp.decode()
    year, month, day = int(text[0:4]), int(text[5:7]), int(text[8:10])
    hour, minute, second = int(text[11:13]), int(text[14:16]), int(text[17:19])
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    return seconds * 10**9 + int(text[20:29])


def _tail_position(files: list[int], lines: int, streams: Collection[str]) -> tuple[int, int]:
    """The file (by number) and offset that *lines* whole lines follow."""
    wanted = [f" {stream} ".encode() for stream in streams]
    left = lines
    for number, fd in enumerate(files):
        size = os.fstat(fd).st_size
        position = size
        for start, line in _lines_backwards(fd, size):
            if line[_STAMP : _STAMP + 8] not in wanted:
                continue
            # An unfinished line at the very end counts as a line, others are part of the next one.
            counts = line[_STAMP + 8 : _STAMP + 9] == b"F" or (number == 0 and position == size)
            if counts and left == 0:
                return number, position
            left -= counts
            position = start
    return len(files) - 1, 0


def _lines_backwards(fd: int, size: int) -> Iterator[tuple[int, bytes]]:
    """(offset, line) from the last to the first."""
    end, tail = size, b""
    while end > 0:
        start = max(end - _BLOCK, 0)
        block = os.pread(fd, end - start, start) + tail
        first, *lines = block.split(b"\n")
        offset = start + len(block)
        for line in reversed(lines):
            offset -= len(line)
            if line:
                yield offset, line
            offset -= 1
        tail, end = first, start
    if tail:
        yield 0, tail
