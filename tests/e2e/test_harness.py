"""The engine under test itself: it runs a container, survives kills, and is taken down whole."""

from __future__ import annotations

from engine_under_test import EngineUnderTest


def test_runs_a_container(daemon: EngineUnderTest) -> None:
    assert daemon.cli("run", "--rm", "debian:12", "echo", "hello") == "hello"


def test_every_process_may_be_killed(daemon: EngineUnderTest) -> None:
    """One after the other, with a container running that nobody disturbs."""
    container = daemon.cli("run", "-d", "debian:12", "sh", "-c", "while sleep 0.05; do date; done")
    pid = daemon.inspect(container)["State"]["Pid"]
    for name in ("logger", "stager", "resolver", "keeper", "supervisor", "keeper"):
        daemon.kill_process(name)
        assert daemon.cli("exec", container, "echo", name) == name
    daemon.kill9()
    daemon.start()
    assert daemon.inspect(container)["State"]["Pid"] == pid
    daemon.cli("stop", "-t", "0", container)
    assert daemon.inspect(container)["State"]["ExitCode"] == 137
