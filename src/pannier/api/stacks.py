"""Stacks: compose projects, pannier's own requests."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from pannier.api.backend import Stacks
from pannier.api.call import Call
from pannier.api.progress import item_lines
from pannier.api.router import Route
from pannier.base.errors import PannierError
from pannier.wire.stacks import StackDown, StackEvent, StackRollback, StackScale, StackUp


def routes(stacks: Stacks) -> Iterable[Route]:
    handlers = _Stacks(stacks)
    one = "/pannier/stacks/{name}"
    return (
        Route("GET", "/pannier/stacks", handlers.list),
        Route("GET", one, handlers.status),
        Route("POST", f"{one}/up", handlers.up, live=True),
        Route("POST", f"{one}/down", handlers.down, live=True),
        Route("POST", f"{one}/scale", handlers.scale, live=True),
        Route("POST", f"{one}/rollback", handlers.rollback, live=True),
    )


class _Stacks:
    def __init__(self, stacks: Stacks) -> None:
        self._stacks = stacks

    async def list(self, call: Call) -> web.StreamResponse:
        return call.json(await self._stacks.summaries())

    async def status(self, call: Call) -> web.StreamResponse:
        return call.json(await self._stacks.status(call.params["name"]))

    async def up(self, call: Call) -> web.StreamResponse:
        body = await call.body(StackUp)
        return await item_lines(call, self._stacks.up(call.params["name"], body), _failure)

    async def down(self, call: Call) -> web.StreamResponse:
        body = await call.body(StackDown)
        return await item_lines(call, self._stacks.down(call.params["name"], body), _failure)

    async def scale(self, call: Call) -> web.StreamResponse:
        body = await call.body(StackScale)
        return await item_lines(call, self._stacks.scale(call.params["name"], body), _failure)

    async def rollback(self, call: Call) -> web.StreamResponse:
        body = await call.body(StackRollback)
        return await item_lines(call, self._stacks.rollback(call.params["name"], body), _failure)


def _failure(error: PannierError) -> StackEvent:
    return StackEvent(error=error.message, message=error.hint or "")
