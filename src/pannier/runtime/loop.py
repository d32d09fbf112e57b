"""The event loop and the request server of pannier's small processes (keeper, logger, stager ...).

One epoll, callbacks by file descriptor, a few timers. No threads, no asyncio: these processes
start in milliseconds and stay small.
"""

from __future__ import annotations

import os
import select
import sys
import time

from pannier.base.errors import InvalidArgument, PannierError
from pannier.runtime import channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from pannier.runtime.channel import Channel, Message

    Handler = Callable[["Request"], Mapping[str, Any] | None]

IN = select.EPOLLIN
OUT = select.EPOLLOUT


class Loop:
    """Calls back for readable files and due timers until ``stop``."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._stopping = False

    def add(self, fd: int, callback: Callable[[], None], events: int = IN) -> None:
        """Call *callback* whenever *fd* is readable (or has hung up)."""
        self._epoll.register(fd, events)
        self._callbacks[fd] = callback

    def watch(self, fd: int, events: int) -> None:
        """Change the events of an added *fd*."""
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Forget *fd*; must come before it is closed."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call *callback* once, after *seconds*."""
        self._timers.append((time.monotonic() + seconds, callback))
        self._timers.sort(key=lambda timer: timer[0])

    def stop(self) -> None:
        self._stopping = True

    def run(self) -> None:
        """Run until ``stop``."""
        while not self._stopping:
            for fd, _ in self._epoll.poll(self._timeout()):
                callback = self._callbacks.get(fd)
                if callback is not None:  # an earlier callback of this round may have removed it
                    callback()
            self._run_timers()

    def _timeout(self) -> float:
        if not self._timers:
            return -1.0
        return max(0.0, self._timers[0][0] - time.monotonic())

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            self._timers.pop(0)[1]()


class Request:
    """One request to a server: its message, its file descriptors, and where the reply goes.

    A handler that wants to keep a file descriptor takes it with ``take_fds``; the rest are closed.
    """

    def __init__(self, peer: Channel, message: Message, fds: list[int]) -> None:
        self.peer = peer
        self.message = message
        self.fds = fds
        self.reply_fds: list[int] = []  # sent with the reply, stay open here
        self.close_fds: list[int] = []  # sent with the reply, closed after it
        self.answered = False

    def __getitem__(self, key: str) -> Any:
        try:
            return self.message[key]
        except KeyError:
            raise InvalidArgument(f"{self.message.get('op')}: {key!r} is missing") from None

    def get(self, key: str, default: Any = None) -> Any:
        return self.message.get(key, default)

    def take_fds(self) -> list[int]:
        taken, self.fds = self.fds, []
        return taken

    def close(self) -> None:
        for fd in (*self.fds, *self.close_fds):
            os.close(fd)
        self.fds, self.close_fds = [], []


LATER: dict[str, Any] = {}  # returned by a handler that will call ``Server.reply`` itself


class Server:
    """Accepts connections and calls a handler per ``op``; broadcasts events to all peers.

    Args:
        loop: runs it.
        path: of the socket.
        handlers: by op; each returns the ``ok`` object, or LATER, or raises PannierError.
    """

    def __init__(
        self, loop: Loop, path: str | os.PathLike[str], handlers: Mapping[str, Handler]
    ) -> None:
        self._loop = loop
        self._handlers = handlers
        self._peers: dict[int, Channel] = {}
        self._listener = channel.listen(path)
        loop.add(self._listener.fileno(), self._accept)

    @property
    def peers(self) -> list[Channel]:
        return list(self._peers.values())

    def broadcast(self, message: Message) -> None:
        """Send an event to every peer; one that does not read is dropped."""
        for peer in self.peers:
            self.send(peer, message)

    def send(self, peer: Channel, message: Message, fds: list[int] | None = None) -> None:
        """Send to one peer; it is dropped if that fails."""
        try:
            peer.send(message, fds or ())
        except OSError:
            self._drop(peer)
            return
        if peer.queued:
            self._loop.watch(peer.fileno(), IN | OUT)

    def reply(self, request: Request, result: Mapping[str, Any] | Exception | None) -> None:
        """Answer *request*, once."""
        if request.answered:
            return
        request.answered = True
        if isinstance(result, Exception):
            answer = channel.reply_error(request.message, result)
        else:
            answer = channel.reply_ok(request.message, result)
        if request.peer.fileno() in self._peers:
            self.send(request.peer, answer, request.reply_fds + request.close_fds)
        request.close()

    def _accept(self) -> None:
        peer = channel.accept(self._listener)
        if peer is not None:
            self._peers[peer.fileno()] = peer
            self._loop.add(peer.fileno(), lambda: self._ready(peer))

    def _drop(self, peer: Channel) -> None:
        if self._peers.pop(peer.fileno(), None) is not None:
            self._loop.remove(peer.fileno())
            peer.close()

    def _ready(self, peer: Channel) -> None:
        try:
            if peer.queued:
                peer.flush()
                if not peer.queued:
                    self._loop.watch(peer.fileno(), IN)
            received = peer.receive()
        except BlockingIOError:
            return
        except OSError:
            received = None
        if received is None:
            self._drop(peer)
            return
        self._handle(Request(peer, *received))

    def _handle(self, request: Request) -> None:
        handler = self._handlers.get(str(request.get("op")))
        try:
            if handler is None:
                raise InvalidArgument(f"unknown request {request.get('op')!r}")
            result = handler(request)
        except (PannierError, OSError) as error:
            self.reply(request, error)
            return
        except Exception as error:  # a defect must not end the parent of all containers
            sys.excepthook(type(error), error, error.__traceback__)
            self.reply(request, error)
            return
        if result is not LATER:
            self.reply(request, result)
