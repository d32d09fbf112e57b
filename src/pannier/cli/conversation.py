"""A person (or a script) and a process talking: streams, signals, terminal size, detach keys.

Shared by run, start, attach and exec; on the hot path of run.
"""

from __future__ import annotations

import posix

from pannier.client.bare import query
from pannier.client.relay import Relay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.cli.flags import Flags
    from pannier.cli.session import Session
    from pannier.client.bare import Connection

# By number, as `signal` would load enum: what a shell or an init sends to a program in front of it.
_FORWARDED = {1: "HUP", 2: "INT", 3: "QUIT", 10: "USR1", 12: "USR2", 14: "ALRM", 15: "TERM"}
_URGENT = (2, 15)
_PATIENCE = 3  # so many interrupts in a row end this command itself, as Docker's does
_SIGWINCH = 28
_CONTROL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}
DEFAULT_KEYS = b"\x10\x11"  # ctrl-p ctrl-q


class Remote:
    """The other end: a container (``/containers/ID``) or an exec (``/exec/ID``)."""

    def __init__(self, session: Session, path: str) -> None:
        self._session = session
        self._path = path
        self._urgent = 0

    def resize(self, *, redraw: bool = False) -> None:
        """Tell the engine this terminal's size; a process that ended meanwhile does not mind.

        Args:
            redraw: make the process draw again, by another size in between, as Docker does.
        """
        from pannier.client import terminal  # noqa: PLC0415 - only with a terminal

        size = terminal.size(0) or terminal.size(1)
        if size and redraw:
            self._post("/resize", {"h": size[0] + 1, "w": size[1] + 1})
        if size:
            self._post("/resize", {"h": size[0], "w": size[1]})

    def forward(self, number: int, frame: object) -> None:
        """Signal handler."""
        if number in _URGENT:
            self._urgent += 1
            if self._urgent >= _PATIENCE:
                posix.write(2, b"\npannier: interrupted three times, leaving the container alone\n")
                posix._exit(128 + number)
        self._post("/kill", {"signal": _FORWARDED[number]})

    def _post(self, action: str, arguments: dict[str, Any]) -> None:
        try:
            connection = self._session.connect()
            connection.request("POST", self._path + action + query(arguments)).read()
            connection.close()
        except OSError:
            pass


def converse(
    connection: Connection,
    remote: Remote,
    *,
    framed: bool,
    tty: bool,
    stdin: bool,
    signals: bool,
    keys: bytes = DEFAULT_KEYS,
) -> Relay:
    """Relay until it is over.

    Args:
        framed: whether the engine sends frames.
        tty: the process has a terminal: ours becomes raw and its size is passed on.
        stdin: whether to send our stdin.
        signals: whether to pass on signals.
        keys: detach sequence, looked for when our stdin is a terminal.
    """
    relay = Relay(connection, framed=framed, stdin=0 if stdin else None, keys=keys if tty else b"")
    if signals:
        forward_signals(remote)
    if not tty:
        relay.run()
        return relay
    from pannier.client.terminal import RawMode  # noqa: PLC0415 - only with a terminal

    _set_handler(_SIGWINCH, lambda number, frame: remote.resize())
    if not stdin:
        relay.run()
        return relay
    with RawMode(0):
        relay.run()
    return relay


def forward_signals(remote: Remote) -> None:
    """From now on signals go to the other end."""
    for number in _FORWARDED:
        _set_handler(number, remote.forward)


def _set_handler(number: int, handler: Any) -> None:
    import _signal  # type: ignore[import-not-found]  # noqa: PLC0415 - built in

    _signal.signal(number, handler)


def check_terminal(*, tty: bool, stdin: bool) -> None:
    """Docker's refusal of ``-it`` without a terminal.

    Raises:
        InvalidArgument: stdin is wanted and is no terminal.
    """
    if tty and stdin and not posix.isatty(0):
        from pannier.base.errors import InvalidArgument  # noqa: PLC0415 - rare

        raise InvalidArgument(
            "the input device is not a TTY",
            hint="leave -t out in scripts and pipes",
            exit_code=1,
        )


def detach_keys(flags: Flags) -> bytes:
    """``ctrl-p,ctrl-q`` -> bytes.

    Raises:
        UsageError: an element that is no key.
    """
    text = flags.text("detach-keys")
    if not text:
        return DEFAULT_KEYS
    out = bytearray()
    for element in text.split(","):
        letter = element[5:].lower() if element.lower().startswith("ctrl-") else ""
        if len(element) == 1 and element.isascii():
            out.append(ord(element))
        elif len(letter) == 1 and ("a" <= letter <= "z" or letter in _CONTROL):
            out.append(_CONTROL.get(letter, ord(letter) - 96))
        else:
            from pannier.cli.flags import UsageError  # noqa: PLC0415 - rare

            raise UsageError(f"invalid detach keys: {text}")
    return bytes(out)
