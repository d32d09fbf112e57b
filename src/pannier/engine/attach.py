"""``attach``: a container's output by following its log, its input by the pipe or terminal."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from pannier.engine.model import Container
from pannier.engine.streams import ready
from pannier.runtime.client import Runtime

_STREAMS = {"stdout": 1, "stderr": 2}


class ContainerAttachment:
    """Implements the API's ``Attachment`` for a container's first process.

    Output comes from the log's reader, which began before the start: no byte is lost. A client that
    has gone never touches the container; one that reads slowly holds back the log's rotation, and
    so in the end the container, as a pipe would.
    """

    def __init__(
        self,
        container: Container,
        runtime: Runtime,
        log: AsyncIterator[tuple[str, bytes]],
        *,
        stdin: bool,
    ) -> None:
        self._container = container
        self._runtime = runtime
        self._log = log
        self._wants_stdin = stdin
        self._input = -1
        self._reading = True
        container.readers += 1

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        async for stream, data in self._log:
            yield _STREAMS[stream], data
        await self._end_reading()

    async def write_stdin(self, data: bytes) -> None:
        if not self._wants_stdin:
            return
        if self._input < 0 and not await self._open():
            return
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._input, view) :]
            except BlockingIOError:
                await ready(self._input, write=True)
            except OSError:
                # The container has ended, or closed its end: as into a closed pipe.
                return

    async def close_stdin(self) -> None:
        """End of file, if the container was made for one client's input (StdinOnce)."""
        config = self._container.config
        if self._wants_stdin and config.stdin_once and not config.tty:
            if self._input < 0 and not await self._open():
                return
            self._close_input()
            await self._runtime.close_stdin(self._container.id)

    async def close(self) -> None:
        self._close_input()
        await self._end_reading()

    async def _end_reading(self) -> None:
        """At the end of the output: the client may wait for the removal that waits for us."""
        if self._reading:
            self._reading = False
            self._container.readers -= 1
            if not self._container.readers:
                self._container.release_log()
            await self._container.notify()

    def _close_input(self) -> None:
        if self._input >= 0:
            os.close(self._input)
            self._input = -1

    async def _open(self) -> bool:
        """Input typed before the start waits for it; after the end there is nobody to read."""
        async with self._container.changed:
            await self._container.changed.wait_for(
                lambda: self._container.running or self._container.removed.is_set()
            )
        if not self._container.running:
            return False
        self._input = await self._runtime.stdin(self._container.id)
        os.set_blocking(self._input, False)
        return True
