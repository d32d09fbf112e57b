"""``scripts/bench``: which figures, and the table of them."""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from bench import demo, images, memory, ours, outage, peer, running
from bench.model import Row

_QUICK, _FULL = 5, 20

Measure = Callable[..., Iterator[Row]]
# name -> what measures it, whether against the peer, the share of the rounds it needs
_FIGURES: dict[str, tuple[Measure, bool, float]] = {
    "run": (running.whole_run, True, 1),
    "engine": (running.inside_engine, False, 2),
    "build": (images.second_build, True, 0.5),
    "rollback": (images.rollback, False, 0.5),
    "memory": (memory.memory, False, 1),
    "outage": (outage.outage, False, 1),
    "throughput": (running.throughput, True, 0.2),
}


def main() -> int:
    options = _options()
    if options.list:
        print("\n".join(_FIGURES))
        return 0
    names = options.names or list(_FIGURES)
    rows: list[Row] = []
    for row in _measure(names, _QUICK if options.quick else _FULL):
        rows.append(row)
        print(f"  {row.what}: {row.ours:.2f} {row.unit}", file=sys.stderr, flush=True)
    if options.demo:
        rows += demo.demo()
    print(f"\n{_machine()}\n")
    print(table(rows))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*_FIGURES, []], metavar="NAME")
    parser.add_argument("--list", action="store_true", help="name all figures")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--demo", action="store_true", help="also time scripts/demo, twice")
    return parser.parse_args()


def _measure(names: list[str], rounds: int) -> Iterator[Row]:
    with ExitStack() as stack:
        engine = stack.enter_context(ours.running())
        other = None
        if any(_FIGURES[name][1] for name in names):
            other = stack.enter_context(peer.running(ours.archive()))
        for name in names:
            measure, with_peer, share = _FIGURES[name]
            count = max(1, round(rounds * share))
            yield from measure(engine, other, count) if with_peer else measure(engine, count)


def _machine() -> str:
    today = datetime.datetime.now(datetime.UTC).date()
    load = os.getloadavg()[0]
    release = os.uname().release
    return f"{today}, {os.cpu_count()} cores, Linux {release}, load {load:.1f}"


def table(rows: list[Row]) -> str:
    """As Markdown."""
    lines = [
        "| what | measured | Docker | ratio | limit | | remarks |",
        "|---|---:|---:|---:|---:|---|---|",
    ]
    for row in rows:
        cells = (
            row.what,
            _value(row.ours, row.unit),
            "" if row.peer is None else _value(row.peer, row.unit),
            "" if row.ratio is None else f"{row.ratio:.3f}x",
            _limit(row),
            row.verdict,
            row.note,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _value(value: float, unit: str) -> str:
    text = f"{value:.0f}" if not unit or value >= 1000 else f"{value:.1f}"
    return f"{text} {unit}".strip()


def _limit(row: Row) -> str:
    if row.limit is None:
        return ""
    text = f"{row.limit:g}x" if row.ratio is not None else f"{row.limit:g} {row.unit}".strip()
    return f"at least {text}" if row.at_least else text


if __name__ == "__main__":
    sys.exit(main())
