"""Building images: Docker's classic build request, and the build cache."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec
from aiohttp import web

from pannier.api.backend import Builder, Report
from pannier.api.call import Call
from pannier.api.progress import report_lines
from pannier.api.router import Route
from pannier.base.errors import InvalidArgument, Unsupported
from pannier.wire.images import BuildOptions
from pannier.wire.system import Progress

_T = TypeVar("_T")
_NO_BUILDKIT = "set DOCKER_BUILDKIT=0 for the classic builder, or use pannier build"


def routes(builder: Builder) -> Iterable[Route]:
    handlers = _Build(builder)
    return (
        Route("POST", "/build", handlers.build, live=True),
        Route("POST", "/build/prune", handlers.prune),
        Route("POST", "/build/cancel", handlers.cancel),
    )


class _Build:
    def __init__(self, builder: Builder) -> None:
        self._builder = builder

    async def build(self, call: Call) -> web.StreamResponse:
        if call.text("version") == "2":
            raise Unsupported("this engine has no BuildKit", hint=_NO_BUILDKIT)
        if call.text("remote"):
            raise Unsupported(
                "building from a remote context is not supported",
                hint="fetch it and build from the directory",
            )
        options = _options(call)

        async def build(report: Report) -> None:
            image_id = await self._builder.build(call.upload(), options, report)
            _report_result(image_id, options, report)

        return await report_lines(call, build)

    async def prune(self, call: Call) -> web.StreamResponse:
        keep = call.integer("keep-storage", 0) or call.integer("reserved-space", 0) or 0
        deleted, freed = await self._builder.prune(call.filters(), all_=call.flag("all"), keep=keep)
        return call.json({"CachesDeleted": list(deleted), "SpaceReclaimed": freed})

    async def cancel(self, call: Call) -> web.StreamResponse:
        raise Unsupported(
            "a build is cancelled by closing its connection", hint="stop the client that builds"
        )


def _options(call: Call) -> BuildOptions:
    return BuildOptions(
        dockerfile=call.text("dockerfile") or "Dockerfile",
        tags=[tag for tag in call.texts("t") if tag],
        build_args=_json(call, "buildargs", dict[str, str | None]),
        labels=_json(call, "labels", dict[str, str]),
        target=call.text("target"),
        network_mode=call.text("networkmode"),
        no_cache=call.flag("nocache"),
        pull=call.flag("pull"),
        quiet=call.flag("q"),
        host_ca=call.flag("hostca"),
        extra_hosts=[host for item in call.texts("extrahosts") for host in item.split(",") if host],
        shm_size=call.integer("shmsize", 0) or 0,
    )


def _json(call: Call, name: str, kind: type[dict[str, _T]]) -> dict[str, _T]:
    text = call.text(name)
    try:
        return msgspec.json.decode(text, type=kind | None) or {} if text else {}
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"bad parameter: {name}: {error}") from error


def _report_result(image_id: str, options: BuildOptions, report: Report) -> None:
    """The end of a build in the words that clients look for."""
    report(Progress(aux={"ID": image_id}))
    if options.quiet:
        report(Progress(stream=f"{image_id}\n"))
        return
    report(Progress(stream=f"Successfully built {image_id.removeprefix('sha256:')[:12]}\n"))
    for tag in options.tags:
        name = tag if ":" in tag.rsplit("/", 1)[-1] else f"{tag}:latest"
        report(Progress(stream=f"Successfully tagged {name}\n"))
