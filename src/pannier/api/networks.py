"""Networks."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from pannier.api.backend import Networks
from pannier.api.call import Call
from pannier.api.router import Route
from pannier.wire.networks import NetworkConnect, NetworkCreate, NetworkDisconnect

_LIST_FILTERS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})
_PRUNE_FILTERS = frozenset({"until", "label", "label!"})


def routes(networks: Networks) -> Iterable[Route]:
    handlers = _Networks(networks)
    one = "/networks/{id}"
    return (
        Route("GET", "/networks", handlers.list),
        Route("POST", "/networks/create", handlers.create),
        Route("POST", "/networks/prune", handlers.prune),
        Route("GET", one, handlers.inspect),
        Route("DELETE", one, handlers.remove),
        Route("POST", f"{one}/connect", handlers.connect),
        Route("POST", f"{one}/disconnect", handlers.disconnect),
    )


class _Networks:
    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    async def list(self, call: Call) -> web.StreamResponse:
        return call.json(await self._networks.summaries(call.filters(_LIST_FILTERS)))

    async def create(self, call: Call) -> web.StreamResponse:
        network_id = await self._networks.create(await call.body(NetworkCreate))
        return call.json({"Id": network_id, "Warning": ""}, 201)

    async def inspect(self, call: Call) -> web.StreamResponse:
        return call.json(await self._networks.inspect(call.params["id"]))

    async def remove(self, call: Call) -> web.StreamResponse:
        await self._networks.remove(call.params["id"])
        return call.empty()

    async def connect(self, call: Call) -> web.StreamResponse:
        await self._networks.connect(call.params["id"], await call.body(NetworkConnect))
        return call.empty(200)

    async def disconnect(self, call: Call) -> web.StreamResponse:
        await self._networks.disconnect(call.params["id"], await call.body(NetworkDisconnect))
        return call.empty(200)

    async def prune(self, call: Call) -> web.StreamResponse:
        deleted = await self._networks.prune(call.filters(_PRUNE_FILTERS))
        return call.json({"NetworksDeleted": list(deleted)})
