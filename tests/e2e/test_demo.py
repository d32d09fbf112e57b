"""``scripts/demo`` as a user runs it: from nothing, a second time, and down again."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "scripts/demo"
FIRST_S = 6 * 60
SECOND_S = 60


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        assert isinstance(port, int)
        return port


def _run(environment: dict[str, str], *arguments: str, limit: float) -> tuple[str, float]:
    begin = time.monotonic()
    done = subprocess.run(
        [str(DEMO), *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=limit,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout, time.monotonic() - begin


@pytest.mark.internet
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_runs_twice_and_goes_away(fresh_daemon):
    demo_environment = {**fresh_daemon.environment, "PORT": str(_free_port())}
    first, first_s = _run(demo_environment, limit=FIRST_S * 2)
    assert first.count(", 0 failed;") == 2
    assert "5 replicas answered" in first
    assert "by v1" in first
    assert "by v2" in first
    assert "Done in" in first
    second, second_s = _run(demo_environment, limit=SECOND_S * 4)
    assert "are there already" in second
    assert second.count(", 0 failed;") == 2
    print(f"demo: {first_s:.0f} s, again {second_s:.0f} s")
    _run(demo_environment, "--down", limit=120)
    assert fresh_daemon.cli("ps", "--all", "--quiet") == ""
    assert fresh_daemon.cli("volume", "ls", "--quiet") == ""
    assert "three-tier" not in fresh_daemon.cli("network", "ls")
