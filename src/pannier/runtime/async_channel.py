"""The daemon's end of a connection to a small process of pannier's (see ``runtime.channel``)."""

from __future__ import annotations

import _socket
import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any, Self

from pannier.base.errors import Unavailable
from pannier.runtime import channel

Message = dict[str, Any]
EventHandler = Callable[[Message], None]


class AsyncChannel:
    """Requests by id, and events to a callback, over one connection. For one event loop."""

    def __init__(self, sock: _socket.socket, name: str, on_event: EventHandler | None) -> None:
        self._sock = sock
        self._name = name
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, asyncio.Future[tuple[Message, list[int]]]] = {}
        self._last_id = 0
        self._queue: list[tuple[bytes, list[int]]] = []
        self._closed = asyncio.Event()
        sock.setblocking(False)
        channel.enlarge_buffers(sock)
        self._loop.add_reader(sock.fileno(), self._readable)

    @classmethod
    async def connect(
        cls, path: str | os.PathLike[str], on_event: EventHandler | None = None
    ) -> Self:
        """Connect to the process that listens on *path*.

        Args:
            path: its socket.
            on_event: called in the loop with each event message.

        Raises:
            Unavailable: nobody listens there.
        """
        sock = channel.new_socket()
        try:
            sock.connect(os.fspath(path))  # unix sockets connect at once or fail
        except (FileNotFoundError, ConnectionRefusedError) as error:
            sock.close()
            raise Unavailable(f"nobody listens on {os.fspath(path)}") from error
        return cls(sock, os.path.basename(path).removesuffix(".sock"), on_event)

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    async def wait_closed(self) -> None:
        """Return when this or the other side has closed the connection."""
        await self._closed.wait()

    async def request(self, op: str, *, fds: Sequence[int] = (), **arguments: Any) -> Message:
        """Send a request and wait for its ``ok`` object; fds that come with it are closed.

        Raises:
            PannierError: what the other side raised, or Unavailable if it is gone.
        """
        result, received = await self.request_fds(op, fds=fds, **arguments)
        for fd in received:
            os.close(fd)
        return result

    async def request_fds(
        self, op: str, *, fds: Sequence[int] = (), **arguments: Any
    ) -> tuple[Message, list[int]]:
        """Like ``request``; the caller gets, and must close, the fds of the reply."""
        if self.closed:
            raise Unavailable(f"the {self._name} process is gone")
        self._last_id += 1
        number = self._last_id
        message = {"v": channel.VERSION, "id": number, "op": op, **arguments}
        future: asyncio.Future[tuple[Message, list[int]]] = self._loop.create_future()
        self._waiting[number] = future
        try:
            self._send(channel.encode(message), fds)
            reply, received = await future
        finally:
            self._waiting.pop(number, None)
        return channel.result_of(reply), received

    def close(self) -> None:
        """Close; what waits for a reply gets Unavailable."""
        if self.closed:
            return
        self._closed.set()
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        for _, fds in self._queue:
            _close_all(fds)
        self._queue.clear()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Unavailable(f"the {self._name} process is gone"))

    def _send(self, packet: bytes, fds: Sequence[int]) -> None:
        if self._queue or not self._push(packet, fds):
            self._queue.append((packet, [os.dup(fd) for fd in fds]))
            self._loop.add_writer(self._sock.fileno(), self._writable)

    def _push(self, packet: bytes, fds: Sequence[int]) -> bool:
        try:
            self._sock.sendmsg([packet], channel.ancillary(fds), _socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        except OSError as error:
            self.close()
            raise Unavailable(f"the {self._name} process is gone") from error
        return True

    def _writable(self) -> None:
        while self._queue:
            packet, fds = self._queue[0]
            try:
                if not self._push(packet, fds):
                    return
            except Unavailable:
                return  # close() has told everyone who waits
            _close_all(fds)
            del self._queue[0]
        self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        while not self.closed:
            try:
                received = channel.receive(self._sock)
            except BlockingIOError:
                return
            except OSError:
                received = None
            if received is None:
                self.close()
                return
            self._dispatch(*received)

    def _dispatch(self, message: Message, fds: list[int]) -> None:
        if "event" in message:
            _close_all(fds)
            if self._on_event is not None:
                self._on_event(message)
            return
        future = self._waiting.get(message.get("id", 0))
        if future is None or future.done():  # the caller was cancelled meanwhile
            _close_all(fds)
        else:
            future.set_result((message, fds))


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
