"""One operation per stack at a time, each in a task of its own, followed through its events.

A caller who leaves does not stop it: half a rolling update is worse than a whole one.  But the
next operation on the same stack then takes over, instead of waiting for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from pannier.wire.stacks import StackEvent

_log = logging.getLogger(__name__)

Emit: TypeAlias = Callable[[StackEvent], None]
Work: TypeAlias = Callable[[Emit], Awaitable[None]]


@dataclass(slots=True)
class _Operation:
    kind: str
    task: asyncio.Task[None]
    events: asyncio.Queue[StackEvent | None] = field(default_factory=asyncio.Queue)
    attended: bool = True

    def emit(self, event: StackEvent) -> None:
        if self.attended:
            self.events.put_nowait(event)

    def note_end(self, task: asyncio.Task[None]) -> None:
        """Say in the log what went wrong where nobody listens."""
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.attended:
            _log.warning("%s: %s", task.get_name(), error)


class Operations:
    """The running operations by stack."""

    def __init__(self) -> None:
        self._running: dict[str, _Operation] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    async def follow(self, stack: str, kind: str, work: Work) -> AsyncIterator[StackEvent]:
        """Run *work* when it is its turn; yields its events, then raises its error."""
        turn = self._turns.setdefault(stack, asyncio.Lock())
        async with turn:
            async for event in self._make_room(stack):
                yield event
            operation = self._begin(stack, kind, work)
        try:
            while (event_or_end := await operation.events.get()) is not None:
                yield event_or_end
            await operation.task
        finally:
            operation.attended = operation.task.done()  # its error, if any, has been raised here

    def begin_unattended(self, stack: str, kind: str, work: Work) -> None:
        """Run *work* with nobody listening."""
        self._begin(stack, kind, work).attended = False

    async def close(self) -> None:
        """Cancel everything; each operation backs out of its current steps."""
        tasks = [operation.task for operation in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _make_room(self, stack: str) -> AsyncIterator[StackEvent]:
        running = self._running.get(stack)
        if running is None:
            return
        if running.attended:
            message = f"waiting for the '{running.kind}' that is under way"
            yield StackEvent(kind="stack", name=stack, status="waiting", message=message)
        while not running.task.done():
            if not running.attended:
                running.task.cancel()
            # An attended one may lose its caller while we wait.
            await asyncio.wait([running.task], timeout=0.2)

    def _begin(self, stack: str, kind: str, work: Work) -> _Operation:
        async def run() -> None:
            try:
                await work(operation.emit)
            finally:
                if self._running.get(stack) is operation:
                    del self._running[stack]
                operation.events.put_nowait(None)

        operation = _Operation(kind, asyncio.create_task(run(), name=f"stack {stack} {kind}"))
        operation.task.add_done_callback(operation.note_end)
        self._running[stack] = operation
        return operation
