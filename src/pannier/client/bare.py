"""HTTP/1.1 over the engine's unix socket, in as few imports as possible.

One `Connection` is one socket and at most one request at a time.  What is asked and what an answer
means belongs to `client.api`; starting an engine that does not answer to `client.start`.
Source: RFC 9112 (message format, chunked coding), Docker Engine API (hijacked streams).
"""

from __future__ import annotations

import _socket
import errno
import posix

from pannier.base import jsonlite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

_BLOCK = 65536
# A peer that vanished must be an error code, not a signal: the CLI keeps SIGPIPE's default so that
# `pannier logs | head` ends like any other program.
NO_SIGNAL = 0x4000  # MSG_NOSIGNAL
SHUT_WR = 1


def socket_path(host: str | None = None) -> str:
    """Where the engine listens.

    Args:
        host: ``unix:///path`` or a path; None reads PANNIER_HOST, then PANNIER_RUN.

    Raises:
        InvalidArgument: a scheme other than unix.
    """
    environment = posix.environ
    if host is None:
        host = environment.get(b"PANNIER_HOST", b"").decode("utf-8", "surrogateescape")
    if not host:
        run = environment.get(b"PANNIER_RUN", b"/run/pannier")
        return run.decode("utf-8", "surrogateescape") + "/pannier.sock"
    scheme, separator, path = host.partition("://")
    if not separator:
        return host
    if scheme != "unix":
        from pannier.base.errors import InvalidArgument  # noqa: PLC0415 - not on the hot path

        raise InvalidArgument(
            f"cannot connect to '{host}': the engine listens on a unix socket only",
            hint="write -H unix:///run/pannier/pannier.sock",
        )
    return path


def quote(text: str, safe: bytes = b"-._~/") -> str:
    """Percent-encode for a path or a query value (RFC 3986)."""
    return "".join(
        chr(byte) if (chr(byte).isalnum() and byte < 128) or byte in safe else f"%{byte:02X}"
        for byte in text.encode("utf-8", "surrogateescape")
    )


def query(values: Mapping[str, Any]) -> str:
    """``?a=1&b=x`` without the values that are None, False or ""; lists repeat their key."""
    pairs: list[str] = []
    for key, value in values.items():
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if item is None or item is False or item == "":
                continue
            if item is True:
                text = "1"
            elif isinstance(item, dict):
                text = str(jsonlite.encode(item), "ascii")
            else:
                text = str(item)
            pairs.append(f"{key}={quote(text, b'-._~')}")
    return "?" + "&".join(pairs) if pairs else ""


class Connection:
    """A connected socket.

    Raises:
        OSError: nobody listens there (ENOENT, ECONNREFUSED), or this user may not (EACCES).
    """

    __slots__ = ("_buffer", "path", "socket")

    def __init__(self, path: str, timeout: float | None = None) -> None:
        self.path = path
        self.socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        if timeout is not None:
            self.socket.settimeout(timeout)
        try:
            self.socket.connect(path)
        except OSError:
            self.socket.close()
            raise
        self._buffer = b""

    def request(
        self,
        method: str,
        target: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        hijack: bool = False,
    ) -> Response:
        """Send a request and read the head of the answer.

        Args:
            target: path and query, quoted.
            body: bytes are sent with their length, an iterable of pieces is sent chunked.
            hijack: ask for the raw connection (``Upgrade: tcp``).
        """
        lines = [f"{method} {target} HTTP/1.1", "Host: pannier"]
        if hijack:
            lines.append("Connection: Upgrade\r\nUpgrade: tcp")
        for name, value in (headers or {}).items():
            lines.append(f"{name}: {value}")
        if body is None or isinstance(body, bytes):
            self._send_whole(lines, body)
        else:
            self._send_chunked(lines, body)
        response = self.read_head()
        response.bodyless = method == "HEAD" or response.status in {204, 304}
        return response

    def _send_whole(self, lines: list[str], body: bytes | None) -> None:
        if body is not None:
            lines.append("Content-Type: application/json")
        lines.append(f"Content-Length: {len(body or b'')}\r\n\r\n")
        self.socket.sendall("\r\n".join(lines).encode("latin-1") + (body or b""), NO_SIGNAL)

    def _send_chunked(self, lines: list[str], body: Iterable[bytes]) -> None:
        lines.append("Transfer-Encoding: chunked\r\n\r\n")
        send = self.socket.sendall
        send("\r\n".join(lines).encode("latin-1"), NO_SIGNAL)
        try:
            for piece in body:
                if piece:
                    send(b"%x\r\n%b\r\n" % (len(piece), piece), NO_SIGNAL)
            send(b"0\r\n\r\n", NO_SIGNAL)
        except OSError as error:
            # The engine may refuse early and close its reading side; its answer says why.
            if error.errno not in {errno.EPIPE, errno.ECONNRESET}:
                raise

    def read_head(self) -> Response:
        """Read status line and headers of the next answer."""
        while True:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if found:
                break
            self._fill()
        self._buffer = rest
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return Response(self, int(first.split(" ", 2)[1]), headers)

    def _fill(self) -> None:
        data = self.socket.recv(_BLOCK)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "the engine closed the connection")
        self._buffer += data

    def read_some(self, limit: int = _BLOCK) -> bytes:
        """At least one byte and at most *limit*; b"" at the end of the stream."""
        if not self._buffer:
            return self.socket.recv(limit)
        data, self._buffer = self._buffer[:limit], self._buffer[limit:]
        return data

    def buffered(self) -> bytes:
        """What has been received and not been read yet; for callers that poll the socket."""
        data, self._buffer = self._buffer, b""
        return data

    def read_exact(self, size: int) -> bytes:
        """Exactly *size* bytes."""
        while len(self._buffer) < size:
            self._fill()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def read_line(self) -> bytes:
        """One line without its CR LF."""
        while b"\n" not in self._buffer:
            self._fill()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r")

    def close(self) -> None:
        self.socket.close()


class Response:
    """Status, headers (lower-case names) and the body of one answer."""

    __slots__ = ("bodyless", "connection", "headers", "on_end", "status")

    def __init__(self, connection: Connection, status: int, headers: dict[str, str]) -> None:
        self.connection = connection
        self.status = status
        self.headers = headers
        self.bodyless = False
        self.on_end: Callable[[], None] | None = None

    def chunks(self) -> Iterator[bytes]:
        """The body in pieces as they come, whichever way it is delimited.

        A reader who stops in the middle makes the connection useless: it is closed.
        """
        complete = False
        try:
            yield from self._body()
            complete = True
        finally:
            if not complete:
                self.connection.close()
        if self.on_end is not None:
            self.on_end()

    def _body(self) -> Iterator[bytes]:
        headers = self.headers
        if self.bodyless:
            return
        if headers.get("transfer-encoding", "").lower() == "chunked":
            yield from self._chunked()
        elif "content-length" in headers:
            yield from self._take(int(headers["content-length"]))
        else:
            while piece := self.connection.read_some():
                yield piece
            self.connection.close()
            self.on_end = None

    def _take(self, left: int) -> Iterator[bytes]:
        while left:
            piece = self.connection.read_some(min(left, _BLOCK))
            if not piece:
                raise ConnectionResetError(errno.ECONNRESET, "the engine's answer is cut off")
            left -= len(piece)
            yield piece

    def _chunked(self) -> Iterator[bytes]:
        connection = self.connection
        while True:
            left = int(connection.read_line().partition(b";")[0], 16)
            if not left:
                while connection.read_line():
                    pass
                return
            yield from self._take(left)
            connection.read_line()

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(self.chunks())

    def lines(self) -> Iterator[bytes]:
        """The body line by line, without line ends and empty lines."""
        rest = b""
        for piece in self.chunks():
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                if line.strip():
                    yield line
        if rest.strip():
            yield rest


def message_of(body: bytes) -> tuple[str, str | None]:
    """Message and hint of an error body (``{"message": ...}``)."""
    try:
        value = jsonlite.decode(body)
    except ValueError:
        return str(body, "utf-8", "replace").strip() or "the engine gave no reason", None
    if isinstance(value, dict):
        return str(value.get("message") or value), value.get("hint")
    return str(value), None
