"""What a figure is, and how numbers are taken: in turns, medians, ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        what: of the figure.
        ours: measured median, in *unit*.
        unit: ms, MB, 1/s or a plain count.
        peer: Docker's median in the same run, None without a peer.
        limit: what the figure is held to: a ratio if there is a peer, else in *unit*. None: for
            the record only.
        at_least: the limit is a lower one.
        note: spread, rounds, circumstances.
    """

    what: str
    ours: float
    unit: str
    peer: float | None = None
    limit: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return None if self.peer is None else self.ours / self.peer

    @property
    def verdict(self) -> str:
        if self.limit is None:
            return "-"
        held = self.ours if self.ratio is None else self.ratio
        good = held >= self.limit if self.at_least else held <= self.limit
        return "ok" if good else "OVER"


def timed(act: Callable[[], object]) -> float:
    """Milliseconds that *act* takes."""
    begin = time.perf_counter()
    act()
    return (time.perf_counter() - begin) * 1000


def in_turns(
    rounds: int, *acts: Callable[[], object], warm_up: int = 2, pause: float = 0.05
) -> list[list[float]]:
    """Milliseconds of each act, each done once per round, so that the load of the machine meets
    all of them alike.

    Args:
        rounds: how many count.
        acts: what to measure.
        warm_up: rounds before, that do not count.
        pause: seconds between two acts; what goes on behind one must not burden the next.
    """
    times: list[list[float]] = [[] for _ in acts]
    for number in range(warm_up + rounds):
        for act, taken in zip(acts, times, strict=True):
            one = timed(act)
            if number >= warm_up:
                taken.append(one)
            time.sleep(pause)
    return times


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """Number of rounds, least and 90th percentile."""
    ordered = sorted(values)
    high = ordered[min(len(ordered) - 1, round(len(ordered) * 0.9))]
    return f"n={len(ordered)}, min {ordered[0]:.1f}, p90 {high:.1f}"
