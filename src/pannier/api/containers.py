"""Containers as objects: making, starting, stopping, changing, listing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from aiohttp import web

from pannier.api.backend import CommitOptions, Containers, WaitCondition
from pannier.api.call import JSON, Call
from pannier.api.router import Route
from pannier.api.waiting import begin_wait
from pannier.base.errors import InvalidArgument
from pannier.wire import codec
from pannier.wire.containers import CommitConfig, CreateBody, ReplaceImage, UpdateBody
from pannier.wire.states import Created, WaitResult

_LIST_FILTERS = frozenset(
    {
        "ancestor", "before", "expose", "exited", "health", "id", "is-task", "isolation", "label",
        "name", "network", "publish", "runtime", "since", "status", "volume",
    }
)  # fmt: skip
_PRUNE_FILTERS = frozenset({"kind", "until", "label", "label!"})
_SIGKILL = 9


def routes(containers: Containers) -> Iterable[Route]:
    handlers = _Containers(containers)
    one = "/containers/{id}"
    return (
        Route("GET", "/containers/json", handlers.list),
        Route("POST", "/containers/create", handlers.create),
        Route("POST", "/containers/prune", handlers.prune),
        Route("GET", f"{one}/json", handlers.inspect),
        Route("POST", f"{one}/start", handlers.start),
        Route("POST", f"{one}/stop", handlers.stop),
        Route("POST", f"{one}/restart", handlers.restart),
        Route("POST", f"{one}/kill", handlers.kill),
        Route("POST", f"{one}/pause", handlers.pause),
        Route("POST", f"{one}/unpause", handlers.unpause),
        Route("POST", f"{one}/rename", handlers.rename),
        Route("POST", f"{one}/update", handlers.update),
        Route("POST", f"{one}/wait", handlers.wait, live=True),
        Route("DELETE", one, handlers.remove),
        Route("POST", "/commit", handlers.commit),
        Route("POST", f"/pannier{one}/rollback", handlers.rollback),
        Route("POST", f"/pannier{one}/image", handlers.replace_image),
    )


class _Containers:
    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    async def list(self, call: Call) -> web.StreamResponse:
        limit = call.integer("limit", 0) or 0
        found = await self._containers.summaries(
            all_=call.flag("all"),
            filters=call.filters(_LIST_FILTERS),
            limit=max(limit, 0),
            size=call.flag("size"),
        )
        return call.json(found)

    async def create(self, call: Call) -> web.StreamResponse:
        if not await call.request.read():
            raise InvalidArgument("config cannot be empty in order to create a container")
        body = await call.body(CreateBody)
        name = call.text("name").removeprefix("/")
        container = await self._containers.create(name or None, body)
        return call.json(Created(container.id, container.warnings), 201)

    async def inspect(self, call: Call) -> web.StreamResponse:
        found = await self._containers.inspect(call.params["id"], size=call.flag("size"))
        return call.json(found)

    async def start(self, call: Call) -> web.StreamResponse:
        await self._containers.start(call.params["id"])
        return call.empty()

    async def stop(self, call: Call) -> web.StreamResponse:
        await self._containers.stop(call.params["id"], call.seconds("t"), call.signal())
        return call.empty()

    async def restart(self, call: Call) -> web.StreamResponse:
        await self._containers.restart(call.params["id"], call.seconds("t"), call.signal())
        return call.empty()

    async def kill(self, call: Call) -> web.StreamResponse:
        await self._containers.kill(call.params["id"], call.signal() or _SIGKILL)
        return call.empty()

    async def pause(self, call: Call) -> web.StreamResponse:
        await self._containers.pause(call.params["id"])
        return call.empty()

    async def unpause(self, call: Call) -> web.StreamResponse:
        await self._containers.unpause(call.params["id"])
        return call.empty()

    async def rename(self, call: Call) -> web.StreamResponse:
        name = call.required("name").removeprefix("/")
        await self._containers.rename(call.params["id"], name)
        return call.empty()

    async def update(self, call: Call) -> web.StreamResponse:
        warnings = await self._containers.update(call.params["id"], await call.body(UpdateBody))
        return call.json({"Warnings": list(warnings)})

    async def wait(self, call: Call) -> web.StreamResponse:
        """The headers go out at once: Docker's CLI starts the container only after them."""
        waiting = await begin_wait(self._containers, call.params["id"], _condition(call))
        try:
            response = await call.open(JSON)
            await response.write(codec.encode(WaitResult(await waiting)) + b"\n")
        finally:
            waiting.cancel()
        return response

    async def remove(self, call: Call) -> web.StreamResponse:
        if call.flag("link"):
            raise InvalidArgument("removing legacy links is not supported")
        await self._containers.remove(
            call.params["id"], force=call.flag("force"), volumes=call.flag("v")
        )
        return call.empty()

    async def prune(self, call: Call) -> web.StreamResponse:
        deleted, freed = await self._containers.prune(call.filters(_PRUNE_FILTERS))
        return call.json({"ContainersDeleted": list(deleted), "SpaceReclaimed": freed})

    async def commit(self, call: Call) -> web.StreamResponse:
        config = await call.body(CommitConfig) if await call.request.read() else None
        options = CommitOptions(
            repository=call.text("repo"),
            tag=call.text("tag"),
            comment=call.text("comment"),
            author=call.text("author"),
            pause=call.flag("pause", default=True),
            changes=tuple(line for text in call.texts("changes") for line in text.split("\n")),
            config=config,
        )
        image_id = await self._containers.commit(call.required("container"), options)
        return call.json({"Id": image_id}, 201)

    async def replace_image(self, call: Call) -> web.StreamResponse:
        body = await call.body(ReplaceImage)
        return call.json(await self._containers.replace_image(call.params["id"], body.image))

    async def rollback(self, call: Call) -> web.StreamResponse:
        result = await self._containers.rollback(call.params["id"], undo=call.flag("undo"))
        return call.json(result)


def _condition(call: Call) -> WaitCondition:
    text = call.text("condition") or "not-running"
    for condition in get_args(WaitCondition):
        if text == condition:
            return condition  # type: ignore[no-any-return]
    raise InvalidArgument(f'invalid condition: "{text}"')
