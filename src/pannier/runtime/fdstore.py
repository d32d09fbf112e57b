"""The supervisor's store of file descriptors, from the side of a process that keeps some there.

A pty master, or the reading end of a pipe, that two processes hold survives either of them. The
store forgets everything when the supervisor itself dies; then the owner hands it all over again.
"""

from __future__ import annotations

import os

from pannier.base.errors import PannierError
from pannier.runtime import channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pannier.runtime.loop import Loop

_RETRY = 0.2  # seconds between attempts to reach a supervisor that is being restarted


class FdStore:
    """Keeps a second holder of file descriptors. Never raises: without a supervisor it retries.

    Args:
        loop: of the process.
        path: of the supervisor's socket.
    """

    def __init__(self, loop: Loop, path: str) -> None:
        self._loop = loop
        self._path = path
        self._channel: channel.Channel | None = None
        self._kept: dict[str, list[int]] = {}
        self._waiting = False
        self._last_id = 0
        self._connect()

    def store(self, key: str, fds: Sequence[int]) -> None:
        """Hand copies of *fds* over; replaces what was stored by *key*. They stay open here."""
        self._kept[key] = list(fds)
        self._send("store", key, fds)

    def drop(self, key: str) -> None:
        """Have the copies closed."""
        if self._kept.pop(key, None) is not None:
            self._send("drop", key)

    def fetch(self, key: str) -> list[int]:
        """What an earlier life of this process stored; empty if there is nothing."""
        fds = self._request("fetch", key)
        if fds:
            self._kept[key] = fds
        return fds

    def _send(self, op: str, key: str, fds: Sequence[int] = ()) -> int:
        """Ask without waiting for the answer, for that takes two switches between processes.

        Returns:
            The number of the request, 0 if there is nobody to ask.
        """
        if self._channel is None:
            return 0
        self._last_id += 1
        message = {"v": channel.VERSION, "id": self._last_id, "op": op, "key": key}
        try:
            self._channel.send(message, fds)
        except OSError:
            self._lost()
            return 0
        return self._last_id

    def _request(self, op: str, key: str) -> list[int]:
        """Ask and wait; returns the file descriptors of the answer."""
        number = self._send(op, key)
        while self._channel is not None and number:
            try:
                received = self._channel.receive()
            except OSError:
                received = None
            if received is None:
                self._lost()
                break
            message, fds = received
            if message.get("id") == number:
                return fds
            for fd in fds:
                os.close(fd)
        return []

    def _connect(self) -> None:
        self._waiting = False
        try:
            self._channel = channel.connect(self._path)
        except PannierError:
            self._try_later()
            return
        self._loop.add(self._channel.fileno(), self._readable)
        for key, fds in list(self._kept.items()):
            self._send("store", key, fds)

    def _readable(self) -> None:
        """Answers that nobody waits for, events, or the end."""
        if self._channel is None:
            return
        try:
            received = self._channel.receive()
        except OSError:
            received = None
        if received is None:
            self._lost()
            return
        for fd in received[1]:
            os.close(fd)

    def _lost(self) -> None:
        if self._channel is not None:
            self._loop.remove(self._channel.fileno())
            self._channel.close()
            self._channel = None
        self._try_later()

    def _try_later(self) -> None:
        if not self._waiting:
            self._waiting = True
            self._loop.call_later(_RETRY, self._connect)
