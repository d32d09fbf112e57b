"""Between a hijacked connection and a process's streams: framing, stdin, detaching.

Frame (Docker Engine API, "Stream format"): one byte stream, three zero bytes, length as uint32
big-endian, payload. A tty's output goes unframed.
"""

from __future__ import annotations

import asyncio
import struct

from pannier.api.backend import Attachment
from pannier.api.hijack import Connection
from pannier.base.errors import InvalidArgument

STDOUT, STDERR, SYSTEM_ERROR, RESULT = 1, 2, 3, 4
_HEADER = struct.Struct(">BxxxI")
_DEFAULT_KEYS = b"\x10\x11"  # ctrl-p, ctrl-q
_CONTROL = {f"ctrl-{chr(letter)}": letter - 0x60 for letter in range(ord("a"), ord("z") + 1)} | {
    "ctrl-@": 0, "ctrl-[": 27, "ctrl-\\": 28, "ctrl-]": 29, "ctrl-^": 30, "ctrl-_": 31,
}  # fmt: skip


def frame(stream: int, data: bytes) -> bytes:
    """One frame."""
    return _HEADER.pack(stream, len(data)) + data


def parse_keys(text: str) -> bytes:
    """The bytes of a ``detachKeys`` argument such as ``ctrl-p,ctrl-q``.

    Raises:
        InvalidArgument: an element is neither a character nor ctrl- and one of a-z @ [ \\ ] ^ _
    """
    if not text:
        return _DEFAULT_KEYS
    keys = bytearray()
    for element in text.split(","):
        if element.lower() in _CONTROL:
            keys.append(_CONTROL[element.lower()])
        elif len(element) == 1 and element.isascii():
            keys.append(ord(element))
        else:
            raise InvalidArgument(f"Invalid detach keys ({text}) provided")
    return bytes(keys)


class KeyFilter:
    """Finds the detach sequence in typed input, also when it comes in pieces."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""  # the beginning of the sequence, typed but not passed on yet

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What to pass on, and whether the sequence is complete."""
        passed = bytearray()
        for byte in data:
            self._held += bytes((byte,))
            while not self._keys.startswith(self._held):
                passed.append(self._held[0])
                self._held = self._held[1:]
            if self._held == self._keys:
                self._held = b""
                return bytes(passed), True
        return bytes(passed), False


class Pump:
    """One attached session.

    Args:
        connection: the caller's side.
        attachment: the process's side.
        framed: whether output goes in frames.
        stdin: whether what the caller sends is the process's input.
        tty: input goes through detach keys, and the end of it lets go of the container instead
            of being end of file: so do Docker's clients detach.
        keys: the detach sequence.
    """

    def __init__(
        self,
        connection: Connection,
        attachment: Attachment,
        *,
        framed: bool,
        stdin: bool,
        tty: bool,
        keys: bytes = _DEFAULT_KEYS,
    ) -> None:
        self._connection = connection
        self._attachment = attachment
        self._framed = framed
        self._stdin = stdin
        self._tty = tty
        self._keys = KeyFilter(keys) if tty else None

    async def run(self) -> bool:
        """Carry bytes until the output has ended; True when the caller detached before.

        Raises:
            ConnectionResetError: the caller is gone.
        """
        if not self._stdin:
            await self._carry_output()
            return False
        output = asyncio.ensure_future(self._carry_output())
        input_ = asyncio.ensure_future(self._carry_input())
        try:
            await asyncio.wait({output, input_}, return_when=asyncio.FIRST_COMPLETED)
            if not output.done() and await input_:
                return True
            await output
            return False
        finally:
            await _stop(output, input_)

    async def _carry_output(self) -> None:
        async for stream, data in self._attachment.output():
            await self._connection.write(frame(stream, data) if self._framed else data)

    async def _carry_input(self) -> bool:
        """True when the caller let go of a tty."""
        while data := await self._connection.read():
            if self._keys:
                data, detached = self._keys.feed(data)
                if data:
                    await self._attachment.write_stdin(data)
                if detached:
                    return True
            else:
                await self._attachment.write_stdin(data)
        if self._tty:
            return True
        await self._attachment.close_stdin()
        return False


async def _stop(*tasks: asyncio.Future[None] | asyncio.Future[bool]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
