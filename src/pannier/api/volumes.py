"""Volumes."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from pannier.api.backend import Volumes
from pannier.api.call import Call
from pannier.api.router import Route
from pannier.wire.volumes import VolumeCreate

_LIST_FILTERS = frozenset({"dangling", "driver", "label", "name"})
_PRUNE_FILTERS = frozenset({"all", "label", "label!"})
_NAMED_SINCE = (1, 42)


def routes(volumes: Volumes) -> Iterable[Route]:
    handlers = _Volumes(volumes)
    return (
        Route("GET", "/volumes", handlers.list),
        Route("POST", "/volumes/create", handlers.create),
        Route("POST", "/volumes/prune", handlers.prune),
        Route("GET", "/volumes/{name}", handlers.inspect),
        Route("DELETE", "/volumes/{name}", handlers.remove),
    )


class _Volumes:
    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    async def list(self, call: Call) -> web.StreamResponse:
        return call.json(await self._volumes.summaries(call.filters(_LIST_FILTERS)))

    async def create(self, call: Call) -> web.StreamResponse:
        return call.json(await self._volumes.create(await call.body(VolumeCreate)), 201)

    async def inspect(self, call: Call) -> web.StreamResponse:
        return call.json(await self._volumes.inspect(call.params["name"]))

    async def remove(self, call: Call) -> web.StreamResponse:
        await self._volumes.remove(call.params["name"], force=call.flag("force"))
        return call.empty()

    async def prune(self, call: Call) -> web.StreamResponse:
        filters = call.filters(_PRUNE_FILTERS)
        if call.version < _NAMED_SINCE:  # only since then are named volumes spared
            filters["all"] = ["true"]
        deleted, freed = await self._volumes.prune(filters)
        return call.json({"VolumesDeleted": list(deleted), "SpaceReclaimed": freed})
