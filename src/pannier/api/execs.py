"""Further processes in a running container."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from pannier.api.backend import Execs
from pannier.api.call import Call
from pannier.api.hijack import Hijacked, hijack
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
        config = self._execs.config(exec_id)
        size = body.console_size or config.console_size
        try:
            attachment = await complete(
                self._execs.start(exec_id, detach=body.detach, size=size), release
            )
        except PannierError as error:
            if body.detach or "exit_code" not in error.fields:
                raise
            return await _tell_failure(call, error, tty=config.tty)
        if attachment is None:
            return call.empty(200)
        try:
            connection = hijack(call, call.stream_type(tty=config.tty))
            pump = Pump(
                connection,
                attachment,
                framed=not config.tty,
                stdin=config.attach_stdin,
                tty=config.tty,
                keys=parse_keys(config.detach_keys),
            )
            await pump.run()
            await connection.finish()
        finally:
            await attachment.close()
        return Hijacked()

    async def resize(self, call: Call) -> web.StreamResponse:
        rows, columns = call.integer("h", 0) or 0, call.integer("w", 0) or 0
        await self._execs.resize(call.params["id"], rows, columns)
        return call.empty(200)

    async def inspect(self, call: Call) -> web.StreamResponse:
        return call.json(await self._execs.inspect(call.params["id"]))


async def _tell_failure(call: Call, error: PannierError, *, tty: bool) -> web.StreamResponse:
    """A command that cannot be run ends like one that failed.

    Docker's clients read the exit code (126 or 127) from the exec instance; an error status
    would make it 1.
    """
    connection = hijack(call, call.stream_type(tty=tty))
    text = f"{error.message}\r\n".encode()
    await connection.write(text if tty else frame(STDERR, text))
    await connection.finish()
    return Hijacked()
