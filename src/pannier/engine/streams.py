"""The streams of an exec'd process: pipes, or one end of a terminal, moved by the event loop."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import suppress

from pannier.runtime.client import Runtime
from pannier.runtime.model import ExecRequest

_CHUNK = 1 << 16
_QUEUED = 64  # chunks read ahead of a slow client; then the pipe fills and the process waits


class ProcessStreams:
    """Implements the API's ``Attachment`` for a process that is not logged.

    Args:
        ended: set once the process's exit code is known.
    """

    def __init__(self, *, tty: bool, stdin: bool, ended: asyncio.Event) -> None:
        self._ended = ended
        self._tty = tty
        self._wants_stdin = stdin
        self._sources: dict[int, int] = {}
        self._input = -1
        self._child: list[int] = []
        self.pid = 0

    @classmethod
    def open(cls, *, tty: bool, stdin: bool, ended: asyncio.Event) -> ProcessStreams:
        streams = cls(tty=tty, stdin=stdin, ended=ended)
        if not tty:
            streams._open_pipes()
        return streams

    def _open_pipes(self) -> None:
        if self._wants_stdin:
            theirs, self._input = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self._input, False)
        else:
            theirs = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._child = [theirs]
        for number in (1, 2):
            ours, theirs = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(ours, False)
            self._sources[number] = ours
            self._child.append(theirs)

    async def run(self, runtime: Runtime, request: ExecRequest) -> None:
        """Start the process on these streams."""
        try:
            executed = await runtime.exec(request, self._child)
        finally:
            for fd in self._child:
                os.close(fd)
            self._child = []
        self.pid = executed.pid
        if executed.tty_fd is not None:
            os.set_blocking(executed.tty_fd, False)
            self._sources = {1: executed.tty_fd}
            self._input = fcntl.fcntl(executed.tty_fd, fcntl.F_DUPFD_CLOEXEC, 3)

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Chunks with their stream, until every writer has closed and the process has ended.

        Clients ask for the exit code as soon as the output ends, so it has to be known by then.
        """
        queue: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(_QUEUED)
        async with asyncio.TaskGroup() as group:
            pumps = [group.create_task(_pump(n, fd, queue)) for n, fd in self._sources.items()]
            try:
                remaining = len(pumps)
                while remaining:
                    number, chunk = await queue.get()
                    if chunk:
                        yield number, chunk
                    else:
                        remaining -= 1
            finally:
                for pump in pumps:
                    pump.cancel()
        await self._ended.wait()

    async def write_stdin(self, data: bytes) -> None:
        """Write all of it, waiting while the pipe is full; nobody reads: it is dropped."""
        view = memoryview(data)
        with suppress(BrokenPipeError, OSError):
            while view and self._input >= 0:
                try:
                    view = view[os.write(self._input, view) :]
                except BlockingIOError:
                    await ready(self._input, write=True)

    async def close_stdin(self) -> None:
        """End of file; a terminal keeps its input, which ends by ^D."""
        if not self._tty and self._input >= 0:
            os.close(self._input)
            self._input = -1

    async def close(self) -> None:
        """Let go of every descriptor."""
        for fd in (*self._sources.values(), self._input, *self._child):
            if fd >= 0:
                os.close(fd)
        self._sources, self._input, self._child = {}, -1, []


async def _pump(number: int, fd: int, queue: asyncio.Queue[tuple[int, bytes]]) -> None:
    """Read *fd* to its end; an empty chunk says that it has ended."""
    while True:
        try:
            chunk = os.read(fd, _CHUNK)
        except BlockingIOError:
            await ready(fd, write=False)
            continue
        except OSError:
            # EIO: the last process on a terminal has closed it (pty(7)).
            chunk = b""
        await queue.put((number, chunk))
        if not chunk:
            return


async def ready(fd: int, *, write: bool) -> None:
    """Until *fd* can be written to, or read from."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    add, remove = (
        (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
    )
    add(fd, _resolve, future)
    try:
        await future
    finally:
        remove(fd)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
