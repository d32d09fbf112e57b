"""The steps that planners plan and the runner runs, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from pannier.compose.model import Condition

Verb: TypeAlias = Literal[
    "create-network",
    "create-volume",
    "create",
    "start",
    "replace",
    "retire",
    "restart",
    "rename",
    "stop",
    "remove",
    "await",
    "remove-network",
    "remove-volume",
]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do.

    Args:
        id: names the step within its plan.
        verb: what to do.
        subject: the service, or the key of the network or volume.
        number: of the replica.
        container: id of the container that is there already.
        needs: ids of the steps that must have succeeded.
        name: of the object in the engine.
        reason: why, for people.
        condition: what ``await`` waits for.
        start_first: ``replace``: the new replica serves before the old one goes; the old one is
            then withdrawn, and ``retire`` lets it drain while the next one is replaced.
        gated: names are announced only when the replica is ready, since others serve meanwhile.
        drain: ``remove``: clients may still be using it, so take it out of service gently.
        optional: what needs this step goes on even when it fails.
        delay: nanoseconds to wait before, counted from the end of what it needs.
    """

    id: str
    verb: Verb
    subject: str
    number: int = 0
    container: str = ""
    needs: tuple[str, ...] = ()
    name: str = ""
    reason: str = ""
    condition: Condition = "service_started"
    start_first: bool = False
    gated: bool = False
    drain: bool = False
    optional: bool = False
    delay: int = 0

    def __str__(self) -> str:
        number = f"-{self.number}" if self.number else ""
        after = f" after {', '.join(self.needs)}" if self.needs else ""
        return f"{self.verb} {self.subject}{number}{after}"
