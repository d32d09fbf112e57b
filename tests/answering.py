"""A small HTTP server on a unix socket that answers as each test says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

Handler = Callable[["Request", socket.socket], None]


class Request:
    """What a client sent."""

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body


class Server:
    """Serves each connection in a thread of its own; `requests` holds everything that came."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.requests: list[Request] = []
        self.connections = 0
        self._answers: dict[str, Handler] = {}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def on(self, request: str, handler: Handler | bytes) -> None:
        """Answer ``METHOD /path`` (the query is not looked at) with bytes or by a handler."""
        if isinstance(handler, bytes):
            data = handler
            handler = lambda _, connection: connection.sendall(data)  # noqa: E731
        self._answers[request] = handler

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while request := _read(stream):
                self.requests.append(request)
                key = f"{request.method} {request.target.partition('?')[0]}"
                answer = self._answers.get(key)
                if answer is None:
                    connection.sendall(reply(404, b'{"message":"page not found"}'))
                    continue
                answer(request, connection)
                if "upgrade" in request.headers:
                    return


def _read(stream) -> Request | None:
    line = stream.readline()
    if not line:
        return None
    method, target, _ = line.decode().split(" ", 2)
    headers = {}
    while (line := stream.readline().strip()) != b"":
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    body = b""
    if headers.get("transfer-encoding") == "chunked":
        while size := int(stream.readline(), 16):
            body += stream.read(size)
            stream.readline()
        stream.readline()
    else:
        body = stream.read(int(headers.get("content-length", 0)))
    return Request(method, target, headers, body)


def reply(status: int, body: bytes = b"", extra: str = "") -> bytes:
    head = f"HTTP/1.1 {status} Some\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data
