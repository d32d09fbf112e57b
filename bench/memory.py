"""What the engine's own processes take in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from bench.model import Row
from bench.ours import IMAGE, Ours

_CONTAINERS = 50
_SETTLE_S = 2.0


def memory(ours: Ours, _: int) -> Iterator[Row]:
    """PSS (proc(5), smaps_rollup) of all processes of the engine, without and with containers.

    Shared pages are counted by their share, so what containers run does not count as ours, and
    the interpreter that five processes share counts once.
    """
    # What a first container loads stays loaded.
    ours.cli("run", "--rm", IMAGE, "true")
    empty = _settled(ours)
    for number in range(_CONTAINERS):
        ours.cli("run", "-d", "--name", f"idle{number}", IMAGE, "sleep", "infinity")
    full = _settled(ours)
    ours.cli("rm", "-f", *(f"idle{number}" for number in range(_CONTAINERS)))
    total = sum(empty.values())
    each = (sum(full.values()) - total) / _CONTAINERS
    yield Row(
        "engine memory per idle container",
        each,
        "MB",
        limit=1,
        note=f"{_CONTAINERS} containers, PSS growth of all engine processes",
    )
    parts = ", ".join(f"{name} {size:.1f}" for name, size in empty.items())
    yield Row("all engine processes idle, PSS", total, "MB", limit=80, note=parts)


def _settled(ours: Ours) -> dict[str, float]:
    time.sleep(_SETTLE_S)
    return {name: _pss(pid) for name, pid in ours.processes().items()}


def _pss(pid: int) -> float:
    """MB (10**6 bytes)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"no PSS of process {pid}")
