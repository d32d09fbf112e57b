"""Further processes in a running container."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from pannier.api.backend import Attachment, Execs
from pannier.api.call import Call
from pannier.api.hijack import Connection, Hijacked, hijack
from pannier.api.pump import STDERR, Pump, frame, parse_keys
from pannier.api.router import Route
from pannier.api.waiting import complete, release
from pannier.base.errors import InvalidArgument, PannierError
from pannier.wire.containers import ExecConfig, ExecStart


def routes(execs: Execs) -> Iterable[Route]:
    handlers = _Execs(execs)
    return (
        Route("POST", "/containers/{id}/exec", handlers.create),
        Route("POST", "/exec/{id}/start", handlers.start, live=True),
        Route("POST", "/exec/{id}/resize", handlers.resize),
        Route("GET", "/exec/{id}/json", handlers.inspect),
    )


class _Execs:
    def __init__(self, execs: Execs) -> None:
        self._execs = execs

    async def create(self, call: Call) -> web.StreamResponse:
        config = await call.body(ExecConfig)
        if not config.cmd:
            raise InvalidArgument("No exec command specified")
        parse_keys(config.detach_keys)
        exec_id = await self._execs.create(call.params["id"], config)
        return call.json({"Id": exec_id}, 201)

    async def start(self, call: Call) -> web.StreamResponse:
        exec_id = call.params["id"]
        body = await call.body(ExecStart)
        config = self._execs.startable(exec_id)
        size = body.console_size or config.console_size
        if body.detach:
            await self._execs.start(exec_id, detach=True, size=size)
            return call.empty(200)
        # Before the process is there, as Docker does: docker-py loses output that comes together
        # with the head of the answer.
        connection = hijack(call, call.stream_type(tty=config.tty))
        try:
            attachment = await complete(
                self._execs.start(exec_id, detach=False, size=size), release
            )
        except PannierError as error:
            await connection.write(_failure(error, tty=config.tty))
        else:
            await _carry(connection, attachment, config)
        await connection.finish()
        return Hijacked()

    async def resize(self, call: Call) -> web.StreamResponse:
        rows, columns = call.integer("h", 0) or 0, call.integer("w", 0) or 0
        await self._execs.resize(call.params["id"], rows, columns)
        return call.empty(200)

    async def inspect(self, call: Call) -> web.StreamResponse:
        return call.json(await self._execs.inspect(call.params["id"]))


async def _carry(connection: Connection, attachment: Attachment | None, config: ExecConfig) -> None:
    assert attachment is not None, "only a detached one has none"
    pump = Pump(
        connection,
        attachment,
        framed=not config.tty,
        stdin=config.attach_stdin,
        tty=config.tty,
        keys=parse_keys(config.detach_keys),
    )
    try:
        await pump.run()
    finally:
        await attachment.close()


def _failure(error: PannierError, *, tty: bool) -> bytes:
    """A command that cannot be run ends like one that failed: Docker's clients read the exit code
    (126 or 127) from the exec instance."""
    text = f"{error.message}\r\n".encode()
    return text if tty else frame(STDERR, text)
