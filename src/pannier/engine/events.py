"""What happened, told to whoever listens: a bounded history and live subscriptions."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping

import msgspec

_HISTORY = 1024
_QUEUE = 4096


class Event(msgspec.Struct, frozen=True):
    """One event in Docker's terms.

    Args:
        type: ``container``, ``image``, ``network``, ``volume`` or ``daemon``.
        action: ``create``, ``start``, ``die``, ``health_status: healthy`` and so on.
        actor: the id (or name, for volumes) of the object.
        attributes: its labels and further facts.
        time_ns: nanoseconds since the epoch.
    """

    type: str
    action: str
    actor: str
    attributes: dict[str, str]
    time_ns: int


class EventBus:
    """Publish never blocks; a subscriber that falls 4096 events behind loses the oldest ones."""

    def __init__(self) -> None:
        self._history: deque[Event] = deque(maxlen=_HISTORY)
        self._queues: set[asyncio.Queue[Event]] = set()

    def publish(
        self, kind: str, action: str, actor: str, attributes: Mapping[str, str] | None = None
    ) -> None:
        event = Event(kind, action, actor, dict(attributes or {}), time.time_ns())
        self._history.append(event)
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)

    def history(self, since_ns: int = 0, until_ns: int | None = None) -> list[Event]:
        """Events of the bounded history between two times, oldest first."""
        return [
            event
            for event in self._history
            if event.time_ns >= since_ns and (until_ns is None or event.time_ns <= until_ns)
        ]

    async def subscribe(
        self, since_ns: int | None = None, until_ns: int | None = None
    ) -> AsyncIterator[Event]:
        """Past events since *since_ns*, then live ones until *until_ns* (None: for ever)."""
        queue: asyncio.Queue[Event] = asyncio.Queue(_QUEUE)
        self._queues.add(queue)
        try:
            if since_ns is not None:
                for event in self.history(since_ns, until_ns):
                    yield event
            while (remaining := _remaining_s(until_ns)) is None or remaining > 0:
                try:
                    async with asyncio.timeout(remaining):
                        event = await queue.get()
                except TimeoutError:
                    return
                yield event
        finally:
            self._queues.discard(queue)


def _remaining_s(until_ns: int | None) -> float | None:
    return None if until_ns is None else (until_ns - time.time_ns()) / 1e9
