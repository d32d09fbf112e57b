"""Progress of long work, as the lines that Docker's clients draw."""

from __future__ import annotations

from collections.abc import Callable

from pannier.wire.system import Progress, ProgressDetail

Report = Callable[[Progress], None]


def say(report: Report | None, *, stream: str = "", status: str = "", id_: str = "") -> None:
    """One line: output to show as it is, or the state of an object."""
    if report:
        report(Progress(stream=stream, status=status, id=id_))


def count(report: Report | None, id_: str, status: str, current: int, total: int) -> None:
    """How far the object *id_* is, in bytes."""
    if report:
        detail = ProgressDetail(current=current, total=total)
        report(Progress(status=status, id=id_, progress_detail=detail))
