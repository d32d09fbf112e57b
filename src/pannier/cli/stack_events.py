"""What a stack does, step by step, as it is shown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pannier.base.errors import PannierError
from pannier.cli.progress import Board

# A replacement bears the id of the container it replaces until that one is gone.
_PROVISIONAL = re.compile(r"[0-9a-f]{12}_(?P<name>.+)")
_PASSING = ("creating", "starting", "stopping", "removing", "waiting", "draining", "pulling")


def follow(events: Iterable[dict[str, Any]], board: Board) -> None:
    """Show each event.

    Raises:
        PannierError: the stack's runner says that it failed.
    """
    for event in events:
        if event.get("error"):
            raise PannierError(str(event["error"]), hint=event.get("Message") or None)
        kind, name = str(event.get("Kind", "")), str(event.get("Name", ""))
        status, message = str(event.get("Status", "")), str(event.get("Message", ""))
        if status == "warning":
            board.say(f"Warning: {name + ': ' if name else ''}{message}")
        elif name and status:
            text = f" {kind.capitalize():<9} {_shown(name):<28} {status.capitalize()}"
            board.set(
                f"{kind} {name}",
                f"{text}: {message}" if message else text,
                passing=status.startswith(_PASSING),
            )
        elif message:
            board.say(message)


def _shown(name: str) -> str:
    match = _PROVISIONAL.fullmatch(name)
    return f"{match['name']} (new)" if match else name
