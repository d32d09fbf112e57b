"""Files of a container as tars: ``docker cp`` and ``docker export``."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from aiohttp import web

from pannier.api.backend import Containers
from pannier.api.call import TAR, Call
from pannier.api.router import Route
from pannier.wire import codec
from pannier.wire.states import PathStat

_STAT = "X-Docker-Container-Path-Stat"


def routes(containers: Containers) -> Iterable[Route]:
    handlers = _Archive(containers)
    path = "/containers/{id}/archive"
    return (
        Route("HEAD", path, handlers.stat),
        Route("GET", path, handlers.get),
        Route("PUT", path, handlers.put),
        Route("GET", "/containers/{id}/export", handlers.export),
    )


class _Archive:
    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    async def stat(self, call: Call) -> web.StreamResponse:
        stat = await self._containers.archive_stat(call.params["id"], call.required("path"))
        response = call.empty(200)
        response.headers[_STAT] = _encode(stat)
        return response

    async def get(self, call: Call) -> web.StreamResponse:
        stat, tar = await self._containers.archive_get(call.params["id"], call.required("path"))
        return await call.send(tar, TAR, {_STAT: _encode(stat)})

    async def put(self, call: Call) -> web.StreamResponse:
        await self._containers.archive_put(
            call.params["id"],
            call.required("path"),
            call.upload(),
            keep_kind=call.flag("noOverwriteDirNonDir"),
            copy_ids=call.flag("copyUIDGID"),
        )
        return call.empty(200)

    async def export(self, call: Call) -> web.StreamResponse:
        tar = await self._containers.export(call.params["id"])
        return await call.send(tar, "application/octet-stream")


def _encode(stat: PathStat) -> str:
    return base64.b64encode(codec.encode(stat)).decode()
