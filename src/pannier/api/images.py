"""Images: lists, transfer, archives, making of base images."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

from aiohttp import web

from pannier.api.backend import Images, Report
from pannier.api.call import TAR, Call
from pannier.api.progress import report_lines
from pannier.api.router import Route
from pannier.base.errors import InvalidArgument, Unsupported
from pannier.wire import codec
from pannier.wire.images import BootstrapBody, RegistryAuth
from pannier.wire.system import Progress

_LIST_FILTERS = frozenset({"before", "dangling", "label", "reference", "since", "until"})
_PRUNE_FILTERS = frozenset({"dangling", "label", "label!", "until"})


def routes(images: Images) -> Iterable[Route]:
    handlers = _Images(images)
    return (
        Route("GET", "/images/json", handlers.list),
        Route("GET", "/images/search", handlers.search),
        Route("GET", "/images/get", handlers.save),
        Route("POST", "/images/load", handlers.load, live=True),
        Route("POST", "/images/create", handlers.create, live=True),
        Route("POST", "/images/prune", handlers.prune),
        Route("GET", "/images/{name*}/json", handlers.inspect),
        Route("GET", "/images/{name*}/history", handlers.history),
        Route("GET", "/images/{name*}/get", handlers.save),
        Route("POST", "/images/{name*}/tag", handlers.tag),
        Route("POST", "/images/{name*}/push", handlers.push),
        Route("DELETE", "/images/{name*}", handlers.remove),
        Route("GET", "/distribution/{name*}/json", handlers.distribution),
        Route("POST", "/pannier/images/bootstrap", handlers.bootstrap, live=True),
    )


class _Images:
    def __init__(self, images: Images) -> None:
        self._images = images

    async def list(self, call: Call) -> web.StreamResponse:
        filters = call.filters(_LIST_FILTERS)
        if name := call.text("filter"):  # the old form of the reference filter
            filters.setdefault("reference", []).append(name)
        return call.json(await self._images.summaries(all_=call.flag("all"), filters=filters))

    async def inspect(self, call: Call) -> web.StreamResponse:
        return call.json(await self._images.inspect(call.params["name"]))

    async def history(self, call: Call) -> web.StreamResponse:
        return call.json(await self._images.history(call.params["name"]))

    async def tag(self, call: Call) -> web.StreamResponse:
        repository, tag = call.required("repo"), call.text("tag")
        name = f"{repository}:{tag}" if tag else repository
        await self._images.tag(call.params["name"], name)
        return call.empty(201)

    async def remove(self, call: Call) -> web.StreamResponse:
        steps = await self._images.remove(
            call.params["name"], force=call.flag("force"), noprune=call.flag("noprune")
        )
        return call.json(steps)

    async def prune(self, call: Call) -> web.StreamResponse:
        steps, freed = await self._images.prune(call.filters(_PRUNE_FILTERS))
        return call.json({"ImagesDeleted": steps, "SpaceReclaimed": freed})

    async def create(self, call: Call) -> web.StreamResponse:
        """Pull (``fromImage``) or import (``fromSrc``)."""
        if source := call.text("fromSrc"):
            return await self._import(call, source)
        reference = _reference(call.required("fromImage"), call.text("tag"))
        auth = _auth(call.request.headers.get("X-Registry-Auth", ""))
        platform = call.text("platform")

        async def pull(report: Report) -> None:
            await self._images.pull(reference, auth=auth, platform=platform, report=report)

        return await report_lines(call, pull)

    async def _import(self, call: Call, source: str) -> web.StreamResponse:
        if source != "-":
            raise Unsupported(
                "importing from a URL is not supported", hint="download it and import the file"
            )
        repository, tag = call.text("repo"), call.text("tag")

        async def load(report: Report) -> None:
            image_id = await self._images.import_tar(
                call.upload(),
                name=f"{repository}:{tag}" if tag else repository,
                changes=call.texts("changes"),
                comment=call.text("message"),
            )
            report(Progress(status=image_id))

        return await report_lines(call, load)

    async def save(self, call: Call) -> web.StreamResponse:
        name = call.params.get("name")
        names = [name] if name else call.texts("names")
        if not names:
            raise InvalidArgument("bad parameter: names is missing")
        return await call.send(await self._images.save(names), TAR)

    async def load(self, call: Call) -> web.StreamResponse:
        async def load(report: Report) -> None:
            await self._images.load(call.upload(), report)

        return await report_lines(call, load)

    async def bootstrap(self, call: Call) -> web.StreamResponse:
        body = await call.body(BootstrapBody)

        async def make(report: Report) -> None:
            report(Progress(aux={"ID": await self._images.bootstrap(body, report)}))

        return await report_lines(call, make)

    async def push(self, call: Call) -> web.StreamResponse:
        ref = _reference(call.params["name"], call.text("tag"))
        auth = _auth(call.request.headers.get("X-Registry-Auth", ""))

        async def push(report: Report) -> None:
            await self._images.push(ref, auth=auth, report=report)

        return await report_lines(call, push)

    async def search(self, call: Call) -> web.StreamResponse:
        raise Unsupported("searching a registry is not supported")

    async def distribution(self, call: Call) -> web.StreamResponse:
        raise Unsupported("asking a registry about an image is not supported")


def _reference(name: str, tag: str) -> str:
    if not tag:
        return name
    return f"{name}@{tag}" if tag.startswith("sha256:") else f"{name}:{tag}"


def _auth(header: str) -> RegistryAuth | None:
    """The credentials of X-Registry-Auth: base64url of JSON; empty JSON means none."""
    if not header:
        return None
    try:
        data = base64.urlsafe_b64decode(header + "=" * (-len(header) % 4))
    except (binascii.Error, ValueError):
        raise InvalidArgument("invalid X-Registry-Auth header: it is not base64url") from None
    auth = codec.decode(data, RegistryAuth)
    return auth if auth != RegistryAuth() else None
