"""A hijacked connection and this process's standard streams, joined in one thread with poll.

Frames: 1 byte stream, 3 zero bytes, 4 bytes length (big-endian), payload; streams 1 and 2 are the
process's output.  ``/pannier/run`` adds two of its own: 4 carries the exit status, 3 an error.
Terminal modes belong to `client.terminal`, signals to the command.
Source: Docker Engine API, ContainerAttach ("Stream format").
"""

from __future__ import annotations

import errno
import posix
import select

from pannier.base import jsonlite
from pannier.client.bare import NO_SIGNAL, SHUT_WR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.client.bare import Connection

_BLOCK = 65536
_HEADER = 8
_STDOUT, _STDERR, _ERROR, _STATUS = 1, 2, 3, 4


def write_all(fd: int, data: bytes) -> None:
    """Write everything; a terminal that someone made non-blocking is waited for."""
    view = memoryview(data)
    while view:
        try:
            view = view[posix.write(fd, view) :]
        except BlockingIOError:
            waiter = select.poll()
            waiter.register(fd, select.POLLOUT)
            waiter.poll()


class DetachKeys:
    """Finds the key sequence that lets go of a container (ctrl-p ctrl-q) in what is typed."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Returns what is to be sent, and whether the sequence is complete."""
        if not self._keys:
            return data, False
        out = bytearray()
        for byte in data:
            if byte == self._keys[self._held]:
                self._held += 1
                if self._held == len(self._keys):
                    self._held = 0
                    return bytes(out), True
                continue
            out += self._keys[: self._held]
            self._held = 1 if byte == self._keys[0] else 0
            if not self._held:
                out.append(byte)
        return bytes(out), False


class Relay:
    """Carry bytes until the engine closes the connection, reports the exit or keys detach.

    Args:
        connection: after a 101 or 200 answer to a hijacking request.
        framed: False for a terminal's raw stream.
        stdin: descriptor to read from; None sends nothing and half-closes nothing.
        keys: detach sequence, b"" for none.

    Attributes:
        status: the exit code, once a status frame came.
        error: the engine's error object, once an error frame came.
        detached: the user typed the detach sequence.
    """

    def __init__(
        self, connection: Connection, *, framed: bool, stdin: int | None = None, keys: bytes = b""
    ) -> None:
        self.status: int | None = None
        self.error: dict[str, Any] | None = None
        self.detached = False
        self._connection = connection
        self._socket = connection.socket
        self._framed = framed
        self._stdin = stdin
        self._keys = DetachKeys(keys)
        self._received = bytearray()
        self._outgoing = b""
        self._closing = False

    def run(self) -> None:
        """Returns when it is over; see the attributes.

        Raises:
            OSError: the connection or one of the standard streams broke.
        """
        if self._stdin is None:
            self._run_output_only()
        else:
            self._run_both()

    def _run_output_only(self) -> None:
        read = self._connection.read_some
        while data := _quietly(read):
            if self._consume(data):
                return

    def _run_both(self) -> None:
        data = self._connection.buffered()  # came with the head of the answer: select can't see it
        if data and self._consume(data):
            return
        sock = self._socket.fileno()
        while not self.detached:
            # More input is taken only when the last was sent: output must flow meanwhile.
            typing = [] if self._stdin is None or self._outgoing else [self._stdin]
            readable, writable, _ = select.select(
                [sock, *typing], [sock] * bool(self._outgoing), []
            )
            if sock in readable:
                data = _quietly(self._connection.read_some)
                if not data or self._consume(data):
                    return
            if writable:
                self._send()
            if typing and typing[0] in readable:
                self._read_stdin(typing[0])

    def _read_stdin(self, stdin: int) -> None:
        try:
            data = posix.read(stdin, _BLOCK)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:  # our terminal hung up
                raise
            data = b""
        if data:
            data, self.detached = self._keys.feed(data)
        else:
            self._stdin = None
            self._closing = True
        self._outgoing += data
        self._send()

    def _send(self) -> None:
        """Send what fits, half-close after the last of it; stop when nobody reads any more."""
        try:
            if self._outgoing:
                sent = self._socket.send(self._outgoing, NO_SIGNAL | 0x40)  # MSG_DONTWAIT
                self._outgoing = self._outgoing[sent:]
            if self._closing and not self._outgoing:
                self._closing = False
                self._socket.shutdown(SHUT_WR)
        except BlockingIOError:
            return
        except OSError:
            self._outgoing = b""
            self._stdin = None

    def _consume(self, data: bytes) -> bool:
        """Write output through; True when the engine said that it is over."""
        if not self._framed:
            write_all(1, data)
            return False
        received = self._received
        received += data
        while len(received) >= _HEADER:
            end = _HEADER + int.from_bytes(received[4:8], "big")
            if len(received) < end:
                break
            stream, payload = received[0], bytes(received[_HEADER:end])
            del received[:end]
            if stream in {_STDOUT, _STDERR}:
                write_all(stream, payload)
            elif stream == _STATUS:
                self.status = jsonlite.decode(payload)["StatusCode"]
                return True
            elif stream == _ERROR:
                self.error = _error(payload)
        return False


def _error(payload: bytes) -> dict[str, Any]:
    """Docker sends plain text on this stream, ``/pannier/run`` an object."""
    try:
        value = jsonlite.decode(payload)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"message": str(payload, "utf-8", "replace")}


def _quietly(read: Any) -> bytes:
    """A connection reset is the end of the stream; what it means is seen by the exit code."""
    try:
        data: bytes = read()
    except ConnectionResetError:
        return b""
    return data
