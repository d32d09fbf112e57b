"""What a failed container said last: it is removed, so its log cannot be asked for afterwards."""

from __future__ import annotations

from dataclasses import dataclass

from pannier.base.errors import PannierError
from pannier.stack.ports import Containers

_LINES = 10


@dataclass(frozen=True, slots=True)
class _Tail:
    """The end of a log, as far as it is written; see ``engine.logs.LogWish``."""

    stdout: bool = True
    stderr: bool = True
    follow: bool = False
    tail: int | None = _LINES
    since_ns: int = 0
    until_ns: int | None = None


async def explained(error: PannierError, containers: Containers, ref: str) -> PannierError:
    """*error* with the container's last words as its hint, when there are any."""
    try:
        lines = [*await _probe(containers, ref), *await _output(containers, ref)]
    except PannierError:
        return error
    if lines:
        error.hint = "\n  ".join(["it said last:", *lines])
    return error


async def _probe(containers: Containers, ref: str) -> list[str]:
    """The output of a failed health check."""
    state = (await containers.inspect(ref)).get("State") or {}
    log = (state.get("Health") or {}).get("Log") or []
    if not log or not log[-1].get("ExitCode"):
        return []
    last = log[-1]
    first = str(last.get("Output", "")).strip() or "no output"
    return [f"(health check, exit code {last['ExitCode']}) {first}"]


async def _output(containers: Containers, ref: str) -> list[str]:
    data = [record.data async for record in containers.logs(ref, _Tail())]
    return b"".join(data).decode("utf-8", "replace").splitlines()[-_LINES:]
