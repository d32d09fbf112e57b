#!/usr/bin/env python3
"""Visits the application over HTTP, as its users would; the demo shows what it prints.

    visit.py URL write TEXT         add an entry
    visit.py URL read [NUMBER]      the newest entries
    visit.py URL replicas NUMBER    ask until so many replicas have answered
    visit.py URL load FILE          requests without pause until FILE is gone, then a summary

Standard library only. Ends with 1 when something was not as it must be.
"""

from __future__ import annotations

import collections
import json
import pathlib
import sys
import threading
import time
import urllib.request

_TIMEOUT_S = 20
_VISITORS = 4
_PAUSE_S = 0.05


def _ask(url: str, body: dict[str, str] | None = None) -> object:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
        return json.load(answer)


def write(url: str, text: str) -> int:
    entry = _ask(f"{url}/entries", {"text": text})
    assert isinstance(entry, dict)
    print(f"entry {entry['id']} written by replica {entry['written_by']}")
    return 0


def read(url: str, number: str = "3") -> int:
    entries = _ask(f"{url}/entries")
    assert isinstance(entries, list)
    for entry in entries[: int(number)]:
        print(f"  {entry['id']:>4}  {entry['written_by']}  {entry['text']}")
    return 0


def replicas(url: str, number: str) -> int:
    """Count answers by replica; load balancing is random, so some patience is needed."""
    wanted, answers = int(number), collections.Counter[tuple[str, str]]()
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline and (len(answers) < wanted or sum(answers.values()) < 30):
        who = _ask(f"{url}/whoami")
        assert isinstance(who, dict)
        answers[who["hostname"], who["version"]] += 1
    for (hostname, version), count in sorted(answers.items()):
        print(f"  {hostname}  {version}  {count:>3} answers")
    print(f"{len(answers)} replicas answered")
    return 0 if len(answers) == wanted else 1


class _Load:
    """Some visitors at once, each with one request after the other."""

    def __init__(self, url: str, file: pathlib.Path) -> None:
        self._url = url
        self._file = file
        self._lock = threading.Lock()
        self.good = collections.Counter[str]()
        self.bad: list[str] = []
        self.slowest = 0.0

    def run(self) -> None:
        visitors = [threading.Thread(target=self._visit) for _ in range(_VISITORS)]
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            visitor.join()

    def _visit(self) -> None:
        while self._file.exists():
            begin = time.monotonic()
            try:
                who = _ask(f"{self._url}/whoami")
                _ask(f"{self._url}/entries")
                result = who["version"] if isinstance(who, dict) else "?"
            except (OSError, ValueError) as error:
                with self._lock:
                    self.bad.append(f"{time.strftime('%H:%M:%S')} {error}")
                continue
            with self._lock:
                self.good[result] += 2
                self.slowest = max(self.slowest, time.monotonic() - begin)
            time.sleep(_PAUSE_S)


def load(url: str, file: str) -> int:
    work = _Load(url, pathlib.Path(file))
    work.run()
    by_version = ", ".join(f"{count} by {name}" for name, count in sorted(work.good.items()))
    print(
        f"{sum(work.good.values())} requests answered ({by_version}), {len(work.bad)} failed; "
        f"the slowest took {work.slowest * 1000:.0f} ms"
    )
    for line in work.bad[:5]:
        print(f"  failed: {line}")
    return 1 if work.bad else 0


_COMMANDS = {"write": write, "read": read, "replicas": replicas, "load": load}

if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[2] not in _COMMANDS:
        sys.exit(__doc__)
    sys.exit(_COMMANDS[sys.argv[2]](sys.argv[1], *sys.argv[3:]))
