"""What containers say and use: logs, statistics, processes, changed files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from aiohttp import web

from pannier.api.backend import Containers, Json, LogOptions, LogRecord
from pannier.api.call import JSON, Call
from pannier.api.pump import STDERR, STDOUT, frame
from pannier.api.router import Route
from pannier.base.errors import InvalidArgument, NotFound
from pannier.base.units import rfc3339
from pannier.wire import codec

_SAMPLE_S = 1.0
_NO_CPU = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}


def routes(containers: Containers) -> Iterable[Route]:
    handlers = _Output(containers)
    return (
        Route("GET", "/containers/{id}/logs", handlers.logs),
        Route("GET", "/containers/{id}/stats", handlers.stats),
        Route("GET", "/containers/{id}/top", handlers.top),
        Route("GET", "/containers/{id}/changes", handlers.changes),
    )


class _Output:
    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    async def logs(self, call: Call) -> web.StreamResponse:
        container = self._containers.get(call.params["id"])
        options = _log_options(call)
        tty = container.config.tty
        records = self._containers.logs(container.id, options)
        response = await call.open(call.stream_type(tty=tty))
        async for piece in _log_pieces(records, timestamps=call.flag("timestamps"), framed=not tty):
            await response.write(piece)
        return response

    async def stats(self, call: Call) -> web.StreamResponse:
        ref = self._containers.get(call.params["id"]).id
        sample = await self._containers.stats(ref)
        if not call.flag("stream", default=True):
            if call.flag("one-shot"):
                return call.json(_with_previous(sample, None))
            await asyncio.sleep(_SAMPLE_S)
            return call.json(_with_previous(await self._containers.stats(ref), sample))
        response = await call.open(JSON)
        await response.write(codec.encode(_with_previous(sample, None)) + b"\n")
        async for later in self._samples(ref):
            await response.write(codec.encode(_with_previous(later, sample)) + b"\n")
            sample = later
        return response

    async def _samples(self, ref: str) -> AsyncIterator[Json]:
        """One each second, until the container is removed."""
        while True:
            await asyncio.sleep(_SAMPLE_S)
            try:
                yield await self._containers.stats(ref)
            except NotFound:
                return

    async def top(self, call: Call) -> web.StreamResponse:
        return call.json(await self._containers.top(call.params["id"], call.text("ps_args", "-ef")))

    async def changes(self, call: Call) -> web.StreamResponse:
        return call.json(await self._containers.changes(call.params["id"]))


def _log_options(call: Call) -> LogOptions:
    stdout, stderr = call.flag("stdout"), call.flag("stderr")
    if not (stdout or stderr):
        raise InvalidArgument("Bad parameters: you must choose at least one stream")
    tail = call.text("tail", "all")
    # Docker takes what is no number for "all".
    lines = int(tail) if tail.isdecimal() else None
    return LogOptions(
        stdout=stdout,
        stderr=stderr,
        follow=call.flag("follow"),
        tail=lines,
        since_ns=call.time_ns("since") or 0,
        until_ns=call.time_ns("until"),
    )


async def _log_pieces(
    records: AsyncIterator[LogRecord], *, timestamps: bool, framed: bool
) -> AsyncIterator[bytes]:
    """Records as bytes to send; a time goes before each line, not before each piece of one."""
    inside: dict[str, bool] = {}
    async for record in records:
        data = record.data
        if timestamps and not inside.get(record.stream):
            data = rfc3339(record.time_ns).encode() + b" " + data
        inside[record.stream] = record.partial
        yield frame(STDERR if record.stream == "stderr" else STDOUT, data) if framed else data


def _with_previous(sample: Json, previous: Json | None) -> Json:
    """CPU use is a difference: clients compute it from this sample and the one before."""
    return {
        **sample,
        "preread": previous["read"] if previous else rfc3339(0),
        "precpu_stats": previous["cpu_stats"] if previous else _NO_CPU,
    }
