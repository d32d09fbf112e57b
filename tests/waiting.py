"""Waiting for what other processes do, without guessing how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], what: str, *, timeout: float = 15.0) -> T:
    """Call *condition* until it is true, and return what it said.

    Args:
        what: what was waited for, for the message.
        timeout: seconds.
    """
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {timeout} s in vain for: {what}"
        time.sleep(0.02)
    return found
