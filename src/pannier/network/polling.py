"""The resolver's event loop: one epoll, callbacks by file descriptor, deadlines."""

from __future__ import annotations

import heapq
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

IN = select.EPOLLIN
OUT = select.EPOLLOUT


class Timer:
    """A deadline that can be called off."""

    __slots__ = ("callback", "due")

    def __init__(self, due: float, callback: Callable[[], None]) -> None:
        self.due = due
        self.callback: Callable[[], None] | None = callback

    def __lt__(self, other: Timer) -> bool:
        return self.due < other.due

    def cancel(self) -> None:
        self.callback = None


class Poller:
    """Runs callbacks for ever. One that raises is reported and the others go on."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._timers: list[Timer] = []
        self._running = True

    def add(self, fd: int, callback: Callable[[], None], events: int = IN) -> None:
        self._epoll.register(fd, events)
        self._callbacks[fd] = callback

    def change(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Must come before *fd* is closed."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(time.monotonic() + seconds, callback)
        heapq.heappush(self._timers, timer)
        return timer

    def stop(self) -> None:
        self._running = False

    def run(self) -> None:
        while self._running:
            for fd, _ in self._epoll.poll(self._timeout()):
                callback = self._callbacks.get(fd)
                if callback is not None:
                    _guarded(callback)
            self._run_due()

    def _timeout(self) -> float:
        if not self._timers:
            return -1
        return max(0.0, self._timers[0].due - time.monotonic())

    def _run_due(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0].due <= now:
            callback = heapq.heappop(self._timers).callback
            if callback is not None:
                _guarded(callback)


def _guarded(callback: Callable[[], None]) -> None:
    try:
        callback()
    except Exception as error:  # the top of this process: no packet may end it
        # As `traceback` prints it, which would take a megabyte from the start on.
        sys.excepthook(type(error), error, error.__traceback__)
