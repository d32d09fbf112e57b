"""How fast containers run: one after the other, inside the engine, many at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from bench.model import Row, in_turns, median, spread
from bench.ours import IMAGE, Ours
from bench.peer import Peer

_CLIENTS = 8
_RUN = ("run", "--rm", IMAGE, "true")


def whole_run(ours: Ours, peer: Peer, rounds: int) -> Iterator[Row]:
    """``run --rm debian:12 true`` as a process, from its start to its end."""
    mine, theirs = in_turns(rounds, lambda: ours.cli(*_RUN), lambda: peer.cli(*_RUN), pause=0.2)
    yield Row(
        "run --rm debian:12 true, whole process",
        median(mine),
        "ms",
        peer=median(theirs),
        limit=0.10,
        note=spread(mine),
    )


def inside_engine(ours: Ours, rounds: int) -> Iterator[Row]:
    """From the request sent to the exit code received."""

    def run() -> None:
        if ours.request_run("true"):
            raise RuntimeError("true failed")

    (times,) = in_turns(rounds, run, pause=0.1)
    what = "request to exit code inside the engine"
    yield Row(what, median(times), "ms", limit=20, note=spread(times))


def throughput(ours: Ours, peer: Peer, rounds: int) -> Iterator[Row]:
    """Containers per second, eight clients at once, each starting the next when one has ended."""
    mine: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        mine.append(_per_second(ours.cli, each=8))
        theirs.append(_per_second(peer.cli, each=2))
    yield Row(
        f"containers per second, {_CLIENTS} clients",
        median(mine),
        "1/s",
        peer=median(theirs),
        limit=4,
        at_least=True,
        note=f"n={rounds}",
    )


def _per_second(cli: Callable[..., str], each: int) -> float:
    def client() -> None:
        for _ in range(each):
            cli(*_RUN)

    begin = time.perf_counter()
    with ThreadPoolExecutor(_CLIENTS) as pool:
        for done in [pool.submit(client) for _ in range(_CLIENTS)]:
            done.result()
    return each * _CLIENTS / (time.perf_counter() - begin)
