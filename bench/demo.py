"""The demo, as a newcomer runs it: on what is there, and again on what it left."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench.model import Row, timed

_DEMO = Path(__file__).resolve().parents[1] / "scripts" / "demo"


def demo() -> Iterator[Row]:
    """Seconds of wall time; leaves nothing running. The first time counts in full only on a
    machine that has neither the packages nor the images yet."""
    for which, limit in (("first", 360), ("second", 60)):
        seconds = timed(lambda: subprocess.run([_DEMO], check=True)) / 1000
        yield Row(f"scripts/demo, {which} time", seconds, "s", limit=limit)
    subprocess.run([_DEMO, "--down"], check=True)
