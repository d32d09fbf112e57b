"""Long work answered by a stream of JSON lines.

Work that fails before it has reported anything still gets an HTTP status; after that the error is
the stream's last line, as Docker's clients expect it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from pannier.api.backend import Report
from pannier.api.call import JSON, Call
from pannier.api.status import status_of
from pannier.base.errors import PannierError
from pannier.wire import codec
from pannier.wire.system import ErrorDetail, Progress

Work = Callable[[Report], Awaitable[object]]


async def report_lines(call: Call, work: Work) -> web.StreamResponse:
    """Run ``work`` and send what it reports; it is cancelled when the caller leaves.

    Args:
        call: of a live route.
        work: called with the function to report to, which never blocks.
    """
    queue: asyncio.Queue[Progress | None] = asyncio.Queue()
    task = asyncio.ensure_future(work(queue.put_nowait))
    task.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        while (item := await queue.get()) is not None:
            response = await _opened(call)
            await response.write(_lines(item, queue))
            if task.done() and queue.empty():
                break
        return await _end(call, task)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _lines(first: Progress, queue: asyncio.Queue[Progress | None]) -> bytes:
    """Everything reported meanwhile in one write: builds print thousands of short lines."""
    lines = [codec.encode(first)]
    while not queue.empty() and (item := queue.get_nowait()) is not None:
        lines.append(codec.encode(item))
    return b"\r\n".join(lines) + b"\r\n"


async def _end(call: Call, task: asyncio.Future[object]) -> web.StreamResponse:
    try:
        await task
    except PannierError as error:
        if call.opened is None:
            raise
        await call.opened.write(codec.encode(failure(error)) + b"\r\n")
    return await _opened(call)


async def _opened(call: Call) -> web.StreamResponse:
    return await call.open(JSON) if call.opened is None else call.opened


def failure(error: PannierError) -> Progress:
    """The line that ends a stream with an error."""
    code = error.fields.get("exit_code", status_of(error))
    text = error.message if error.hint is None else f"{error.message}: {error.hint}"
    detail = ErrorDetail(code=code if isinstance(code, int) else 0, message=text)
    return Progress(error=text, error_detail=detail)


async def item_lines(
    call: Call,
    items: AsyncIterator[object],
    last: Callable[[PannierError], object] | None = None,
) -> web.StreamResponse:
    """Send each item as a line as soon as it comes.

    Args:
        call: of a live route.
        items: what to send.
        last: makes the line for an error after the first item; None breaks the connection.
    """
    try:
        async for item in items:
            response = await _opened(call)
            await response.write(codec.encode(item) + b"\n")
    except PannierError as error:
        if call.opened is None or last is None:
            raise
        await call.opened.write(codec.encode(last(error)) + b"\n")
    return await _opened(call)
