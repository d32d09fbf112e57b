"""``kill -9`` of the daemon and of each small process, at every stage: nothing is lost or left."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from engine_under_test import EngineUnderTest
from waiting import until

IMAGE = "debian:12"
SLEEP = ("sleep", "infinity")
CLI = "import sys; from pannier.cli.main import main; sys.argv[0] = 'pannier'; main()"
SMALL = ("keeper", "logger", "stager", "resolver", "supervisor")
# Numbers its lines, so that a lost or doubled one shows.
COUNT = ("sh", "-c", "n=0; while :; do n=$((n+1)); echo $n; sleep 0.005; done")
# Answers each connection with one word.
SERVE = """
use IO::Socket::INET;
my $s = IO::Socket::INET->new(LocalPort => 80, Listen => 99, ReuseAddr => 1);
while (my $c = $s->accept) { print $c "served\\n"; close $c }
"""


def start(daemon: EngineUnderTest, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", CLI, *words],
        env=daemon.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def status(daemon: EngineUnderTest, name: str) -> str:
    return daemon.inspect(name)["State"]["Status"]


def numbers(text: str) -> list[int]:
    return [int(line) for line in text.split()]


def assert_gapless(text: str) -> int:
    """The numbers of COUNT, each once; returns the last."""
    got = numbers(text)
    assert got == list(range(1, len(got) + 1))
    return len(got)


def fetch(port: str) -> str:
    with socket.create_connection(("127.0.0.1", int(port)), 5) as client:
        return client.makefile().read()


@pytest.fixture(autouse=True)
def up_again(daemon: EngineUnderTest):
    """Whatever a test did, the others find a running daemon."""
    yield
    if daemon._daemon is None:
        daemon.start()


@pytest.mark.parametrize("delay", [0.05, 0.1, 0.14, 0.2])
@pytest.mark.parametrize("words", [("create",), ("run", "-d", "-p", "127.0.0.1::80")])
def test_killed_during_create_and_start(
    daemon: EngineUnderTest, delay: float, words: tuple[str, ...]
) -> None:
    """Whatever stage it reached: what is listed works, what is not listed has left nothing."""
    clients = [
        start(daemon, *words, "--name", f"c{n}", "-v", "/data", IMAGE, *SLEEP) for n in range(3)
    ]
    time.sleep(delay)  # not a wait for anything: the stage at which it is hit
    daemon.kill9()
    for client in clients:
        client.communicate(timeout=20)
    daemon.start()
    for name in daemon.cli("ps", "-a", "--format", "{{.Names}}").split():
        if status(daemon, name) != "running":
            daemon.cli("start", name)
        assert daemon.cli("exec", name, "echo", "works") == "works"
        daemon.cli("rm", "-f", "-v", name)
    assert daemon.cli("volume", "ls", "-q") == ""


@pytest.mark.parametrize("delay", [0.05, 0.1, 0.3])
def test_killed_during_run_rm(daemon: EngineUnderTest, delay: float) -> None:
    client = start(daemon, "run", "--rm", IMAGE, "sleep", "0.2")
    time.sleep(delay)
    daemon.kill9()
    client.communicate(timeout=20)
    daemon.start()
    until(lambda: daemon.cli("ps", "-aq") == "", "what was run with --rm is removed")


def test_killed_during_stop(daemon: EngineUnderTest) -> None:
    """The signal was sent: the container ends by itself, and its policy does not bring it back."""
    script = "trap 'sleep 0.3; exit 4' TERM; echo ready; while :; do sleep 0.02; done"
    words = ("--restart", "always", IMAGE, "sh", "-c", script)
    daemon.cli("run", "-d", "--name", "stopping", *words)
    until(lambda: "ready" in daemon.cli("logs", "stopping"), "ready")
    pid = daemon.inspect("stopping")["State"]["Pid"]
    client = start(daemon, "stop", "stopping")
    until(lambda: "sleep\x000.3" in children(pid), "the signal has arrived")
    daemon.kill9()
    client.communicate(timeout=20)
    until(lambda: not os.path.exists(f"/proc/{pid}"), "it has ended without a daemon")
    daemon.start()
    until(lambda: status(daemon, "stopping") == "exited", "its end is recorded")
    assert daemon.inspect("stopping")["State"]["ExitCode"] == 4
    assert daemon.inspect("stopping")["RestartCount"] == 0


def children(pid: int) -> str:
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return " ".join(Path(f"/proc/{child}/cmdline").read_text() for child in found)
    except OSError:
        return ""


@pytest.mark.parametrize("delay", [0.1, 0.4, 0.8])
def test_killed_during_build(daemon: EngineUnderTest, tmp_path: Path, delay: float) -> None:
    text = f"FROM {IMAGE}\nRUN echo {delay} > /one\nRUN sleep 0.3\nRUN echo two > /two\n"
    (tmp_path / "Dockerfile").write_text(text)
    client = start(daemon, "build", "-t", "built:1", str(tmp_path))
    time.sleep(delay)
    daemon.kill9()
    client.communicate(timeout=20)
    daemon.start()
    assert daemon.cli("ps", "-aq") == ""
    daemon.cli("build", "-t", "built:1", str(tmp_path))
    assert daemon.cli("run", "--rm", "built:1", "cat", "/one", "/two") == f"{delay}\ntwo"
    daemon.cli("rmi", "built:1")
    daemon.cli("builder", "prune", "-f", "--all")


def test_nothing_stops_while_the_daemon_is_down(daemon: EngineUnderTest) -> None:
    """Traffic, names, logs and exits go on; then everything is adopted as it is."""
    daemon.cli("network", "create", "net")
    words = ("--network", "net", "-p", "127.0.0.1::80", IMAGE, "perl", "-e", SERVE)
    daemon.cli("run", "-d", "--name", "web", *words)
    port = daemon.cli("port", "web", "80").rpartition(":")[2]
    daemon.cli("run", "-d", "--name", "count", "--network", "net", IMAGE, *COUNT)
    daemon.cli("run", "-dt", "--name", "tty", IMAGE, *COUNT)
    ask = "sleep 0.3; for i in 1 2 3; do getent hosts web >> /names || echo none >> /names; done"
    daemon.cli(
        "run", "-d", "--name", "ends", "--network", "net", IMAGE, "sh", "-c", f"{ask}; exit 9"
    )
    until(lambda: fetch(port) == "served\n", "it serves")
    names = ("web", "count", "tty")
    before = {name: daemon.inspect(name) for name in names}
    ends = daemon.inspect("ends")["State"]["Pid"]
    written = len(daemon.cli("logs", "count"))
    log = Path(before["count"]["LogPath"])
    daemon.kill9()
    for _ in range(20):
        assert fetch(port) == "served\n"
    size = log.stat().st_size
    until(lambda: log.stat().st_size > size, "the log grows")
    until(lambda: not os.path.exists(f"/proc/{ends}"), "one of them ends")
    daemon.start()
    for name in names:
        after = daemon.inspect(name)
        for key in ("Pid", "StartedAt", "Status"):
            assert after["State"][key] == before[name]["State"][key]
        assert after["NetworkSettings"]["Networks"] == before[name]["NetworkSettings"]["Networks"]
    assert fetch(port) == "served\n"
    assert daemon.cli("port", "web", "80").endswith(port)
    until(lambda: status(daemon, "ends") == "exited", "its end is known")
    assert daemon.inspect("ends")["State"]["ExitCode"] == 9
    asked = daemon.cli("cp", "ends:/names", "-").split("\0")
    assert not any("none" in part for part in asked)
    assert sum(part.count(" web") for part in asked) == 3
    for name in ("count", "tty"):
        daemon.cli("stop", "-t", "0", name)
        assert assert_gapless(daemon.cli("logs", name)) > written / 10


@pytest.mark.parametrize("victim", SMALL)
def test_each_small_process_may_be_killed(daemon: EngineUnderTest, victim: str) -> None:
    """With containers of every sort running, which notice nothing."""
    daemon.cli("network", "create", "net")
    words = ("--network", "net", "-p", "127.0.0.1::80", IMAGE, "perl", "-e", SERVE)
    daemon.cli("run", "-d", "--name", "web", *words)
    port = daemon.cli("port", "web", "80").rpartition(":")[2]
    daemon.cli("run", "-d", "--name", "pipes", "--network", "net", IMAGE, *COUNT)
    daemon.cli("run", "-dt", "--name", "tty", IMAGE, *COUNT)
    daemon.cli("run", "-di", "--name", "input", IMAGE, "sh", "-c", "read line; echo $line; exit 8")
    names = ("web", "pipes", "tty", "input")
    pids = {name: daemon.inspect(name)["State"]["Pid"] for name in names}
    follower = start(daemon, "logs", "-f", "pipes")
    daemon.kill_process(victim)
    for name in names:
        assert os.path.exists(f"/proc/{pids[name]}")
        assert daemon.inspect(name)["State"]["Pid"] == pids[name]
    assert fetch(port) == "served\n"
    until(lambda: daemon.cli_try("exec", "pipes", "getent", "hosts", "web").code == 0, "names")
    for name in ("pipes", "tty"):
        assert daemon.cli("exec", name, "echo", "works") == "works"
    attached = subprocess.run(
        [sys.executable, "-c", CLI, "attach", "input"],
        env=daemon.environment,
        input=b"word\n",
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert (attached.returncode, attached.stdout) == (8, b"word\n")
    for name in ("pipes", "tty"):
        daemon.cli("kill", name)
        assert daemon.cli("wait", name) == "137"
        assert assert_gapless(daemon.cli("logs", name)) > 1
    out, _ = follower.communicate(timeout=20)
    assert out.decode().strip() == daemon.cli("logs", "pipes")


@pytest.mark.parametrize("victim", ["keeper", "supervisor"])
def test_exits_while_both_are_down(daemon: EngineUnderTest, victim: str) -> None:
    """The daemon is down and another process is killed as well: exits keep their codes. (It is the
    daemon who starts a new supervisor.)"""
    for code in (0, 5):
        script = f"echo up; read x < /go; exit {code}"
        words = (IMAGE, "sh", "-c", f"mkfifo /go; {script}")
        daemon.cli("run", "-d", "--name", f"ends{code}", *words)
        until(lambda c=code: "up" in daemon.cli("logs", f"ends{c}"), "it waits")
    pids = [daemon.inspect(f"ends{code}")["State"]["Pid"] for code in (0, 5)]
    daemon.kill9()
    if victim == "supervisor":
        os.kill(daemon.pid_of(victim), 9)
    else:
        daemon.kill_process(victim)
    for pid in pids:
        Path(f"/proc/{pid}/root/go").write_text("\n")
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "they end")
    daemon.start()
    for code in (0, 5):
        until(lambda c=code: status(daemon, f"ends{c}") == "exited", "its end is known")
        assert daemon.inspect(f"ends{code}")["State"]["ExitCode"] == code


def test_policies_resume_with_the_daemon(daemon: EngineUnderTest) -> None:
    daemon.cli("run", "-d", "--name", "always", "--restart", "always", IMAGE, *SLEEP)
    daemon.cli("run", "-d", "--name", "once", IMAGE, *SLEEP)
    daemon.cli("run", "-d", "--name", "gone", "--rm", IMAGE, *SLEEP)
    health = ("--health-cmd", "true", "--health-interval", "50ms")
    daemon.cli("run", "-d", "--name", "well", *health, IMAGE, *SLEEP)
    daemon.cli("run", "-d", "--name", "frozen", IMAGE, *SLEEP)
    daemon.cli("pause", "frozen")
    until(lambda: daemon.inspect("well")["State"]["Health"]["Status"] == "healthy", "healthy")
    pids = {name: daemon.inspect(name)["State"]["Pid"] for name in ("always", "once", "gone")}
    daemon.kill9()
    for pid in pids.values():
        os.kill(pid, 9)
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids.values()), "they end")
    daemon.start()
    until(lambda: daemon.inspect("always")["State"]["Pid"] not in (0, pids["always"]), "it is back")
    until(lambda: status(daemon, "once") == "exited", "it stays down")
    assert daemon.inspect("once")["State"]["ExitCode"] == 137
    until(lambda: "gone" not in daemon.cli("ps", "-a", "--format", "{{.Names}}").split(), "--rm")
    assert status(daemon, "frozen") == "paused"
    daemon.cli("unpause", "frozen")
    log = daemon.inspect("well")["State"]["Health"]["Log"][-1]["Start"]
    until(
        lambda: daemon.inspect("well")["State"]["Health"]["Log"][-1]["Start"] > log, "checks go on"
    )


def test_all_are_killed_at_once(daemon: EngineUnderTest) -> None:
    """Containers without a terminal live on; an end that nobody saw is recorded as unknown."""
    daemon.cli("run", "-d", "--name", "lives", IMAGE, *COUNT)
    daemon.cli("run", "-d", "--name", "ends", IMAGE, *SLEEP)
    pids = {name: daemon.inspect(name)["State"]["Pid"] for name in ("lives", "ends")}
    small = [daemon.pid_of(name) for name in ("supervisor", *SMALL[:4])]
    daemon.kill9()
    for pid in small:
        os.kill(pid, 9)
    os.kill(pids["ends"], 9)
    until(lambda: not os.path.exists(f"/proc/{pids['ends']}"), "one has ended")
    daemon.start()
    until(lambda: status(daemon, "ends") == "exited", "its end is known")
    assert daemon.inspect("lives")["State"]["Pid"] == pids["lives"]
    assert daemon.cli("exec", "lives", "echo", "works") == "works"
    daemon.cli("kill", "lives")
    assert daemon.cli("wait", "lives") == "137"
    assert_gapless(daemon.cli("logs", "lives"))


def test_images_and_volumes_outlive_a_crash(daemon: EngineUnderTest) -> None:
    daemon.cli("run", "--rm", "-v", "kept:/data", IMAGE, "sh", "-c", "echo x > /data/f")
    images = json.loads(daemon.cli("image", "inspect", IMAGE))[0]["Id"]
    daemon.kill9()
    daemon.start()
    assert json.loads(daemon.cli("image", "inspect", IMAGE))[0]["Id"] == images
    assert daemon.cli("run", "--rm", "-v", "kept:/data", IMAGE, "cat", "/data/f") == "x"
    daemon.cli("volume", "rm", "kept")
