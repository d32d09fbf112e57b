"""``events``: what happens in the engine, as it happens."""

from __future__ import annotations

import sys
from typing import Any

from pannier.base.units import parse_time, rfc3339
from pannier.cli.command import Command
from pannier.cli.flags import Flags
from pannier.cli.goeval import Template
from pannier.cli.session import Session
from pannier.cli.tables import parse_filters


def _seconds(text: str) -> str:
    """An age or a date as Unix seconds: the engine's clock is this host's."""
    if not text:
        return ""
    nanoseconds = parse_time(text)
    return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"


def _events(session: Session, flags: Flags, words: list[str]) -> int:
    form = flags.text("format")
    template = Template("{{json .}}" if form == "json" else form) if form else None
    for event in session.client.system.events(
        filters=parse_filters(flags.list("filter")),
        since=_seconds(flags.text("since")),
        until=_seconds(flags.text("until")),
    ):
        sys.stdout.write((template.render(event) if template else line_of(event)) + "\n")
        sys.stdout.flush()
    return 0


def line_of(event: dict[str, Any]) -> str:
    """Time, kind, action, id and facts, as Docker prints them."""
    actor = event.get("Actor") or {}
    facts = sorted((actor.get("Attributes") or {}).items())
    shown = f" ({', '.join(f'{key}={value}' for key, value in facts)})" if facts else ""
    when = rfc3339(int(event.get("timeNano", 0)))
    return f"{when} {event.get('Type')} {event.get('Action')} {actor.get('ID', '')}{shown}"


COMMANDS = {
    "events": Command(
        _events,
        summary="Show what happens, as it happens",
        options=(
            ("filter", "f", "list", "KEY=VALUE", "Only those: type, event, container, label, ..."),
            ("format", "", "text", "FORMAT", "json, or a template such as '{{.Action}}'"),
            ("since", "", "text", "TIME", "Begin with those of the past: 10m"),
            ("until", "", "text", "TIME", "End then; 0s: now"),
        ),
        most=0,
        examples=(
            ("events", "until ctrl-c"),
            ("events --since 10m --until 0s -f event=die", "what ended in the last ten minutes"),
        ),
        see=("logs", "ps"),
    )
}
