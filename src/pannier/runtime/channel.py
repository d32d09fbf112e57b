"""Messages between pannier's processes: the form they have and the blocking way to move them.

A connection is a unix socket of type SOCK_SEQPACKET: one packet is one JSON object, with file
descriptors beside it. There are three kinds of messages:

    request   {"v": 1, "id": 7, "op": "start", ...arguments}
    reply     {"v": 1, "id": 7, "ok": {...}}  or  {"v": 1, "id": 7, "error": {"kind": ..., ...}}
    event     {"v": 1, "event": "exit", ...}

This module is loaded by every small process and costs next to nothing. The daemon's side is
``runtime.async_channel``, the small processes' loop is ``runtime.loop``.
"""

from __future__ import annotations

import _socket
import errno
import os
import struct

from pannier.base import errors, jsonlite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    Message = dict[str, Any]

VERSION = 1
MAX_MESSAGE = 1 << 20  # bytes; the socket buffers are made to hold one
_MAX_FDS = 16
_MAX_QUEUED = 4 * MAX_MESSAGE  # bytes; a peer that reads so late is dropped, and lists anew
_ANCILLARY = _socket.CMSG_SPACE(_MAX_FDS * 4)
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_NOTHING = bytearray(1)  # recv_into wants room for one byte at least


class Channel:
    """One connection. Not thread-safe.

    Sending never blocks if *blocking* is false: what the socket does not take is queued, and goes
    out by ``flush`` when poll reports POLLOUT.
    """

    def __init__(self, sock: _socket.socket, *, blocking: bool = True) -> None:
        self._sock = sock
        self._queue: list[tuple[bytes, Sequence[int]]] = []
        self._queued = 0
        self.data: Any = None  # whatever the server remembers about this peer
        sock.setblocking(blocking)
        enlarge_buffers(sock)

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def queued(self) -> bool:
        """Whether something waits for ``flush``."""
        return bool(self._queue)

    def close(self) -> None:
        for _, fds in self._queue:
            _close_all(fds)
        self._queue.clear()
        self._sock.close()

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        """Send *message*; the *fds* stay open here.

        Raises:
            OSError: the peer is gone, or reads so late that it is given up (ENOBUFS).
        """
        packet = encode(message)
        if self._queue or not self._push(packet, fds):
            self._queued += len(packet)
            if self._queued > _MAX_QUEUED:
                raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
            self._queue.append((packet, [os.dup(fd) for fd in fds]))

    def flush(self) -> None:
        """Send what is queued, as far as the socket takes it."""
        while self._queue:
            packet, fds = self._queue[0]
            if not self._push(packet, fds):
                return
            _close_all(fds)
            del self._queue[0]
            self._queued -= len(packet)

    def receive(self) -> tuple[Message, list[int]] | None:
        """The next message and its file descriptors (close-on-exec), None at the end.

        Raises:
            BlockingIOError: nothing there, on a connection that does not block.
            OSError: the connection broke.
        """
        return receive(self._sock)

    def request(
        self, op: str, *, fds: Sequence[int] = (), **arguments: Any
    ) -> tuple[Message, list[int]]:
        """Send a request over a blocking connection and wait for its reply.

        Returns:
            The ``ok`` object and file descriptors. Events that arrive meanwhile are dropped.

        Raises:
            PannierError: what the other side raised, or Unavailable if it is gone.
        """
        try:
            self.send({"v": VERSION, "id": 1, "op": op, **arguments}, fds)
            while True:
                received = self.receive()
                if received is None:
                    raise errors.Unavailable(f"the connection closed before {op!r} was answered")
                if "id" in received[0]:
                    return result_of(received[0]), received[1]
                _close_all(received[1])
        except OSError as error:
            if isinstance(error, errors.PannierError):
                raise
            raise errors.Unavailable(f"the connection broke during {op!r}: {error}") from error

    def _push(self, packet: bytes, fds: Sequence[int]) -> bool:
        try:
            self._sock.sendmsg([packet], ancillary(fds), _socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        return True


def enlarge_buffers(sock: _socket.socket) -> None:
    """Let *sock* hold a message of MAX_MESSAGE bytes; root may pass the system's limit."""
    for option, plain in (
        (_SO_SNDBUFFORCE, _socket.SO_SNDBUF),
        (_SO_RCVBUFFORCE, _socket.SO_RCVBUF),
    ):
        try:
            sock.setsockopt(_socket.SOL_SOCKET, option, MAX_MESSAGE)
        except PermissionError:
            sock.setsockopt(_socket.SOL_SOCKET, plain, MAX_MESSAGE)


def encode(message: Mapping[str, Any]) -> bytes:
    """One packet; raises InvalidArgument if it is too large."""
    packet = jsonlite.encode(message)
    if len(packet) > MAX_MESSAGE:
        raise errors.InvalidArgument(f"message of {len(packet)} bytes, {MAX_MESSAGE} are allowed")
    return packet


def ancillary(fds: Sequence[int]) -> list[tuple[int, int, bytes]]:
    """The control message that carries *fds*."""
    if not fds:
        return []
    rights = struct.pack(f"={len(fds)}i", *fds)
    return [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)]


def receive(
    sock: _socket.socket, buffer: bytearray | None = None
) -> tuple[Message, list[int]] | None:
    """Read one packet from *sock*; see ``Channel.receive``.

    Args:
        sock: of type SOCK_SEQPACKET.
        buffer: large enough for any packet; without it one of the packet's size is made, at the
            price of one more system call: a megabyte kept for each process is dearer.
    """
    if buffer is None:
        buffer = bytearray(sock.recv_into(_NOTHING, 0, _socket.MSG_PEEK | _socket.MSG_TRUNC) or 1)
    size, control, flags, _ = sock.recvmsg_into([buffer], _ANCILLARY, _socket.MSG_CMSG_CLOEXEC)
    fds = [fd for level, kind, data in control for fd in _rights(level, kind, data)]
    if size == 0:
        _close_all(fds)
        return None
    try:
        if flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC):
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        message = jsonlite.decode(bytes(buffer[:size]))
        if not isinstance(message, dict) or message.get("v") != VERSION:
            raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
    except (OSError, ValueError) as error:
        _close_all(fds)
        raise OSError(errno.EPROTO, f"not a message of version {VERSION}") from error
    return message, fds


def _rights(level: int, kind: int, data: bytes) -> tuple[int, ...]:
    if (level, kind) != (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
        return ()
    count = len(data) // 4
    return struct.unpack(f"={count}i", data[: count * 4])


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def connect(path: str | os.PathLike[str], *, blocking: bool = True) -> Channel:
    """Connect to the process that listens on *path*.

    Raises:
        Unavailable: nobody listens there.
    """
    sock = new_socket()
    try:
        sock.connect(os.fspath(path))
    except (FileNotFoundError, ConnectionRefusedError) as error:
        sock.close()
        raise errors.Unavailable(f"nobody listens on {os.fspath(path)}") from error
    return Channel(sock, blocking=blocking)


def listen(path: str | os.PathLike[str]) -> _socket.socket:
    """A non-blocking listening socket at *path*, for root alone; a stale one is replaced."""
    sock = new_socket()
    name = os.fspath(path)
    try:  # noqa: SIM105 - contextlib takes half a megabyte of every small process
        os.unlink(name)
    except FileNotFoundError:
        pass
    before = os.umask(0o177)
    try:
        sock.bind(name)
    finally:
        os.umask(before)
    sock.listen(64)
    sock.setblocking(False)
    return sock


def new_socket() -> _socket.socket:
    """A socket of the family and type that all processes use."""
    kind = _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
    return _socket.socket(_socket.AF_UNIX, kind)


def accept(listener: _socket.socket, *, blocking: bool = False) -> Channel | None:
    """The next connection, None if there is none (any more)."""
    try:
        fd, _ = listener._accept()  # type: ignore[attr-defined]
    except (BlockingIOError, ConnectionAbortedError):
        return None
    os.set_inheritable(fd, False)
    return Channel(_socket.socket(fileno=fd), blocking=blocking)


# ------------------------------------------------------------------ replies and errors

_KINDS: dict[str, Callable[..., errors.PannierError]] = {
    cls.__name__: cls
    for cls in (
        errors.InvalidArgument,
        errors.NotFound,
        errors.Conflict,
        errors.Denied,
        errors.NotModified,
        errors.Unavailable,
        errors.Unsupported,
        errors.Internal,
    )
}


def reply_ok(request: Message, result: Mapping[str, Any] | None = None) -> Message:
    """The reply that carries *result*."""
    return {"v": VERSION, "id": request.get("id"), "ok": result or {}}


def reply_error(request: Message, error: Exception) -> Message:
    """The reply that raises *error* on the other side."""
    return {"v": VERSION, "id": request.get("id"), "error": error_to_wire(error)}


def event(name: str, **facts: Any) -> Message:
    """An event message."""
    return {"v": VERSION, "event": name, **facts}


def result_of(reply: Message) -> Message:
    """The ``ok`` object of *reply*; raises what its ``error`` describes."""
    if "error" in reply:
        raise error_from_wire(reply["error"])
    ok: Message = reply.get("ok", {})
    return ok


def error_to_wire(error: Exception) -> Message:
    """Plain data that ``error_from_wire`` turns back: stage, call, errno, path; not only text."""
    if isinstance(error, OSError):
        return {
            "kind": "KernelError",
            "errno": error.errno,
            "what": getattr(error, "what", None) or "system call",
            "path": getattr(error, "path", None) or error.filename,
            "hint": getattr(error, "hint", None),
            "fields": getattr(error, "fields", {}),
        }
    if isinstance(error, errors.PannierError):
        kind = type(error).__name__
        return {
            "kind": kind if kind in _KINDS else "Internal",
            "message": error.message,
            "hint": error.hint,
            "fields": error.fields,
        }
    return {"kind": "Internal", "message": f"{type(error).__name__}: {error}", "fields": {}}


def error_from_wire(data: Message) -> errors.PannierError:
    """The exception that *data* describes."""
    fields = data.get("fields") or {}
    if data.get("kind") == "KernelError":
        path = data.get("path")
        failure = errors.KernelError(
            data.get("errno") or errno.EIO,
            data.get("what") or "system call",
            None if path is None else str(path),
            data.get("hint"),
        )
        failure.fields = fields
        return failure
    make = _KINDS.get(str(data.get("kind")), errors.Internal)
    return make(str(data.get("message")), hint=data.get("hint"), **fields)
