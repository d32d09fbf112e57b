"""Signals as Docker's API and images spell them: ``TERM``, ``SIGTERM``, ``15``, ``RTMIN+3``."""

from __future__ import annotations

import re
import signal

from pannier.base.errors import InvalidArgument

_HIGHEST = 64
_REALTIME = re.compile(r"RT(MIN|MAX)([+-]\d+)?")


def parse_signal(name: str | int) -> int:
    """The number of a signal.

    Raises:
        InvalidArgument: no signal of Linux (signal(7)).
    """
    text = str(name).strip().upper().removeprefix("SIG")
    if text.isdecimal() and 1 <= int(text) <= _HIGHEST:
        return int(text)
    if match := _REALTIME.fullmatch(text):
        base = signal.SIGRTMIN if match[1] == "MIN" else signal.SIGRTMAX
        number = base + int(match[2] or 0)
        if signal.SIGRTMIN <= number <= signal.SIGRTMAX:
            return number
    elif f"SIG{text}" in signal.Signals.__members__:
        return int(signal.Signals[f"SIG{text}"])
    raise InvalidArgument(f"Invalid signal: {name}", hint="write it as TERM, SIGTERM or 15")
