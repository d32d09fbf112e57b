"""Small helpers around callers that leave while the engine works for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from pannier.api.backend import Attachment, Containers, WaitCondition

_T = TypeVar("_T")


async def complete(work: Coroutine[Any, Any, _T], release_: Callable[[_T], Awaitable[None]]) -> _T:
    """Bring ``work`` to its end even when cancelled meanwhile, and then release what it made.

    For short steps that hand out something to be closed: half of one would leak it.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.cancelled():
            await release_(await task)
        raise


async def release(attachment: Attachment | None) -> None:
    """Close an attachment that nobody will read."""
    if attachment is not None:
        await attachment.close()


async def begin_wait(
    containers: Containers, ref: str, condition: WaitCondition
) -> asyncio.Future[int]:
    """Start waiting for an exit, so that an exit from now on is not missed.

    Raises:
        PannierError: what `Containers.wait` raises at once, such as NotFound.
    """
    waiting = asyncio.ensure_future(containers.wait(ref, condition))
    await asyncio.sleep(0)  # up to its first suspension: there "next" is fixed
    if waiting.done():
        waiting.result()
    return waiting
