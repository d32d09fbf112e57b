"""Taking a connection over from HTTP: from here on it carries a process's raw streams.

The transport stays, its protocol is replaced: aiohttp closes a connection when its caller shuts
down the sending side, but to Docker's clients that half-close is end of file for stdin while the
other direction stays open.  What the bytes mean is `pump`'s matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections import deque

from aiohttp import web

from pannier.api.call import RAW, Call

_HIGH = 256 * 1024  # bytes kept for a process that does not read its stdin
_LINGER_S = 2.0


class Connection(asyncio.Protocol):
    """Both directions of a hijacked connection, with backpressure.

    ``previous``, the HTTP protocol, still learns of the connection's end: the server's accounting
    and the cancellation of the handler hang on it.
    """

    def __init__(self, transport: asyncio.Transport, previous: asyncio.BaseProtocol) -> None:
        self._transport = transport
        self._previous = previous
        self._received: deque[bytes] = deque()
        self._size = 0
        self._paused = False
        self._ended = False
        self._lost = False
        self._watch: select.epoll | None = None
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._received.append(data)
        self._size += len(data)
        self._readable.set()
        if self._size > _HIGH and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._ended = True
        self._readable.set()
        self._watch_hangup()
        return True  # keep the sending side open

    def _watch_hangup(self) -> None:
        """Tell a caller that has gone from one that only ended its input.

        Both read as end of file, and asyncio reads no further; but a unix socket whose peer is
        closed has EPOLLHUP, which epoll reports without being asked for any event.
        """
        self._watch = select.epoll(1)
        self._watch.register(self._transport.get_extra_info("socket").fileno(), 0)
        asyncio.get_running_loop().add_reader(self._watch.fileno(), self._hangup)

    def _hangup(self) -> None:
        self._unwatch()
        self._transport.abort()

    def _unwatch(self) -> None:
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._watch.close()
            self._watch = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        self._ended = self._lost = True
        self._readable.set()
        self._writable.set()
        self._previous.connection_lost(exc)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def read(self) -> bytes:
        """What has come in; b"" at the end of the caller's stream."""
        while not self._received:
            if self._ended:
                return b""
            self._readable.clear()
            await self._readable.wait()
        data = b"".join(self._received) if len(self._received) > 1 else self._received[0]
        self._received.clear()
        self._size = 0
        if self._paused and not self._lost:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Send; waits while the caller does not read.

        Raises:
            ConnectionResetError: the caller is gone.
        """
        if not self._lost:
            self._transport.write(data)
            if not self._writable.is_set():
                await self._writable.wait()
        if self._lost:
            raise ConnectionResetError("the caller is gone")

    async def finish(self) -> None:
        """Send what is left and the end, then close.

        Closing a unix socket with unread input resets it, and the caller would see that instead
        of the end: what is still coming in is taken and dropped for a moment.
        """
        if not self._lost:
            self._transport.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while await self.read():
                    pass
        self._transport.close()


class Hijacked(web.Response):
    """What a handler returns when the connection is no longer HTTP: nothing is sent for it."""

    def __init__(self) -> None:
        super().__init__()
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


def hijack(call: Call, content_type: str, extra: str = "") -> Connection:
    """Answer with Docker's upgrade and take the connection over.

    With ``Upgrade`` in the request the answer is 101, otherwise 200 and a raw stream until close.
    What a caller sends before it has read the answer is not part of the stream (RFC 9110, 7.8:
    it must wait for the 101); all known clients wait.

    Args:
        call: its body must have been read.
        content_type: of the stream.
        extra: further header lines, each ending in CRLF.

    Raises:
        ConnectionResetError: the caller is gone already.
    """
    request = call.request
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the caller is gone")
    assert isinstance(transport, asyncio.Transport)
    connection = Connection(transport, request.protocol)
    transport.write(_head(request, content_type, extra))
    transport.set_protocol(connection)
    transport.resume_reading()
    call.opened = Hijacked()
    return connection


def _head(request: web.Request, content_type: str, extra: str) -> bytes:
    if "Upgrade" not in request.headers:
        return f"HTTP/1.1 200 OK\r\nContent-Type: {RAW}\r\n{extra}\r\n".encode()
    return (
        f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\n"
        f"Connection: Upgrade\r\nUpgrade: tcp\r\n{extra}\r\n"
    ).encode()
