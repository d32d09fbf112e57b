"""Attaching to a container's own process."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from pannier.api.backend import Containers
from pannier.api.call import Call
from pannier.api.hijack import Hijacked, hijack
from pannier.api.pump import Pump, parse_keys
from pannier.api.router import Route
from pannier.api.waiting import complete, release
from pannier.base.errors import Unsupported


def routes(containers: Containers) -> Iterable[Route]:
    handlers = _Attach(containers)
    return (
        Route("POST", "/containers/{id}/attach", handlers.attach, live=True),
        Route("GET", "/containers/{id}/attach/ws", handlers.attach_ws),
        Route("POST", "/containers/{id}/resize", handlers.resize),
    )


class _Attach:
    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    async def attach(self, call: Call) -> web.StreamResponse:
        keys = parse_keys(call.text("detachKeys"))
        container = self._containers.get(call.params["id"])
        tty = container.config.tty
        stdin = call.flag("stdin") and container.config.open_stdin
        attachment = await complete(
            self._containers.attach(
                container.id,
                stdin=stdin,
                stdout=call.flag("stdout"),
                stderr=call.flag("stderr"),
                logs=call.flag("logs"),
                stream=call.flag("stream"),
            ),
            release,
        )
        try:
            connection = hijack(call, call.stream_type(tty=tty))
            pump = Pump(connection, attachment, framed=not tty, stdin=stdin, tty=tty, keys=keys)
            await pump.run()
            await connection.finish()
        finally:
            await attachment.close()
        return Hijacked()

    async def attach_ws(self, call: Call) -> web.StreamResponse:
        raise Unsupported(
            "attaching over a websocket is not supported",
            hint="use POST /containers/{id}/attach with Upgrade: tcp",
        )

    async def resize(self, call: Call) -> web.StreamResponse:
        rows, columns = call.integer("h", 0) or 0, call.integer("w", 0) or 0
        await self._containers.resize(call.params["id"], rows, columns)
        return call.empty(200)
