"""Long work on the screen: lines that change in place on a terminal, plain lines elsewhere.

Knows the engine's progress objects (Docker's JSONMessage): ``stream``, ``status``, ``id``,
``progressDetail``, ``aux``.
"""

from __future__ import annotations

import shutil
import sys

from pannier.base.units import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TextIO, TypeAlias

    Json: TypeAlias = dict[str, Any]

_BAR = 30


class Board:
    """Lines by key, each of them redrawn when it changes; use as a context manager.

    Args:
        out: where to draw.
        live: whether lines can be redrawn; None: whether *out* is a terminal.
    """

    def __init__(self, out: TextIO | None = None, *, live: bool | None = None) -> None:
        self._out = out or sys.stdout
        self._live = self._out.isatty() if live is None else live
        self._lines: dict[str, int] = {}
        self._height = 0
        self._shown: dict[str, str] = {}

    def set(self, key: str, text: str, *, passing: bool = False) -> None:
        """Show *text* on the line of *key*.

        Args:
            passing: a state of the moment (a growing bar), left out where lines stay.
        """
        if not self._live:
            if not passing and self._shown.get(key) != text:
                self._shown[key] = text
                self._write(f"{text}\n")
            return
        columns, rows = shutil.get_terminal_size()
        text = text[: columns - 1]
        up = self._height - self._lines.get(key, -rows)
        if up >= rows:  # new, or scrolled out of reach
            self._lines[key] = self._height
            self._height += 1
            self._write(f"{text}\n")
            return
        self._write(f"\x1b[{up}A\r\x1b[2K{text}\x1b[{up}B\r")

    def say(self, text: str) -> None:
        """A line that stays; what follows is drawn below it."""
        self._forget()
        self._write(text if text.endswith("\n") else text + "\n")

    def output(self, text: str) -> None:
        """Output of a program, as it comes."""
        self._forget()
        self._write(text)

    def _forget(self) -> None:
        self._lines.clear()
        self._height = 0

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def show(messages: Iterable[Json], *, quiet: bool = False, out: TextIO | None = None) -> Json:
    """Show progress objects until they end; returns all ``aux`` results in one."""
    board = Board(out)
    results: Json = {}
    for message in messages:
        aux = message.get("aux")
        if isinstance(aux, dict):
            results |= aux
        if quiet:
            continue
        if message.get("stream"):
            board.output(str(message["stream"]))
        elif message.get("status"):
            _status(board, message)
    return results


def _status(board: Board, message: Json) -> None:
    status, key = str(message["status"]), str(message.get("id") or "")
    detail = message.get("progressDetail") or {}
    if not key and not detail:
        board.say(status)
        return
    current, total = detail.get("current", 0), detail.get("total", 0)
    text = f"{key}: {status}" if key else status
    if total:
        filled = min(_BAR, int(_BAR * current / total))
        bar = "=" * filled + ">" + " " * (_BAR - filled)
        text += f" [{bar}] {format_size(current)}/{format_size(total)}"
    elif current:
        text += f" {format_size(current)}"
    board.set(key or status, text, passing=bool(detail))
