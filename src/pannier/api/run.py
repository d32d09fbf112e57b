"""``POST /pannier/run``: create, attach, start and wait in one request on one connection.

The fast path of ``pannier run``: Docker's way takes four requests on three connections. The
answer is 101 and frames; the last one is stream 4 with a `RunResult`, or stream 3 with an
`ErrorBody`. What fails before the process is started is answered as a plain HTTP error. The
header ``Pannier-Container`` names the container, for resize and kill. When nothing is attached
the answer is 201 after the start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aiohttp import web

from pannier.api.backend import Attachment, Containers
from pannier.api.call import Call
from pannier.api.hijack import Connection, Hijacked, hijack
from pannier.api.pump import RESULT, SYSTEM_ERROR, Pump, frame, parse_keys
from pannier.api.router import Route
from pannier.api.status import body_of
from pannier.api.waiting import begin_wait, complete
from pannier.base.errors import PannierError
from pannier.wire import codec
from pannier.wire.containers import RunBody
from pannier.wire.states import Created
from pannier.wire.system import RunResult

FRAMES = "application/vnd.pannier.run-stream"


def routes(containers: Containers) -> Iterable[Route]:
    return (Route("POST", "/pannier/run", _Run(containers).run, live=True),)


class _Run:
    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    async def run(self, call: Call) -> web.StreamResponse:
        body = await call.body(RunBody)
        keys = parse_keys(body.detach_keys)
        # A caller that leaves in the middle leaves a started container, not half of one.
        session = await complete(self._begin(body), _Session.close)
        if session.attachment is None:
            await session.close()
            return call.json(Created(session.container_id, session.warnings), 201)
        try:
            header = f"Pannier-Container: {session.container_id}\r\n"
            connection = hijack(call, FRAMES, header)
            await session.carry(connection, body, keys)
            await connection.finish()
        finally:
            await session.close()
        return Hijacked()

    async def _begin(self, body: RunBody) -> _Session:
        container = await self._containers.create(body.name or None, body.body)
        session = _Session(container.id, container.warnings)
        streams = body.attach
        try:
            if streams.stdin or streams.stdout or streams.stderr:
                session.attachment = await self._containers.attach(
                    container.id,
                    stdin=streams.stdin and body.body.open_stdin,
                    stdout=streams.stdout,
                    stderr=streams.stderr,
                    logs=False,
                    stream=True,
                )
                session.result = await begin_wait(
                    self._containers,
                    container.id,
                    "removed" if body.body.host_config.auto_remove else "next-exit",
                )
            await self._containers.start(container.id)
        except BaseException:
            await session.close()
            raise
        return session


class _Session:
    """One container started by this request, with who listens to it."""

    def __init__(self, container_id: str, warnings: list[str]) -> None:
        self.container_id = container_id
        self.warnings = warnings
        self.attachment: Attachment | None = None
        self.result: asyncio.Future[int] | None = None

    async def carry(self, connection: Connection, body: RunBody, keys: bytes) -> None:
        """Streams first, then the exit code."""
        assert self.attachment is not None
        assert self.result is not None
        tty, stdin = body.body.tty, body.attach.stdin and body.body.open_stdin
        pump = Pump(connection, self.attachment, framed=True, stdin=stdin, tty=tty, keys=keys)
        if await pump.run():
            last = frame(RESULT, codec.encode(RunResult(0, detached=True)))
        else:
            last = await _last_frame(self.result)
        await connection.write(last)

    async def close(self) -> None:
        """Let go of the container; it lives on."""
        if self.attachment is not None:
            await self.attachment.close()
        if self.result is not None:
            self.result.cancel()


async def _last_frame(result: asyncio.Future[int]) -> bytes:
    try:
        return frame(RESULT, codec.encode(RunResult(await result)))
    except PannierError as error:
        return frame(SYSTEM_ERROR, codec.encode(body_of(error, with_status=True)))
