"""``wait``: the three conditions of Docker's API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Literal

from pannier.engine.model import Container

Condition = Literal["not-running", "next-exit", "removed"]


def wait(container: Container, condition: Condition) -> Awaitable[int]:
    """The exit code, once the condition holds.

    What counts as the next exit is fixed by this call, not by the first suspension: clients send
    ``wait`` before ``start``.
    """
    return _wait(container, condition, container.exits)


async def _wait(container: Container, condition: Condition, exits: int) -> int:
    match condition:
        case "next-exit":
            async with container.changed:
                await container.changed.wait_for(
                    lambda: container.exits > exits or container.removed.is_set()
                )
        case "removed":
            await container.removed.wait()
        case "not-running":
            await _resting(container)
    return container.state.exit_code


async def _resting(container: Container) -> None:
    while not container.exited.is_set():
        await container.exited.wait()
        # A waiter that was woken by a restart's short rest sees the next run.
        await asyncio.sleep(0)
