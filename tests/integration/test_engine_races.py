"""Requests for one container that meet each other, and what a killed daemon was at just then."""

from __future__ import annotations

import http.client
import json
import socket
import sqlite3
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from engine_under_test import EngineUnderTest
from waiting import until

IMAGE = "debian:12"
SLEEP = ("sleep", "infinity")
DIES = ("sh", "-c", "sleep 0.02; exit 1")


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def call(daemon: EngineUnderTest, method: str, path: str, body: object = None) -> tuple[int, Any]:
    connection = _Connection(daemon.socket)
    text = None if body is None else json.dumps(body)
    connection.request(method, path, text, {"Content-Type": "application/json"} if text else {})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content) if content else None


def create(daemon: EngineUnderTest, *command: str, host: object = None, **config: object) -> str:
    body = {"Image": IMAGE, "Cmd": command, "HostConfig": host or {}, **config}
    status, made = call(daemon, "POST", "/containers/create", body)
    assert status == 201, made
    return made["Id"]


def status_of(daemon: EngineUnderTest, ref: str) -> str:
    status, view = call(daemon, "GET", f"/containers/{ref}/json")
    return view["State"]["Status"] if status == 200 else "gone"


@pytest.fixture
def threads():
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.mark.parametrize("force", ["", "?force=1"])
def test_removal_during_a_start(
    daemon: EngineUnderTest, threads: ThreadPoolExecutor, force: str
) -> None:
    for wait in (0.0, 0.005, 0.015):
        ref = create(daemon, *SLEEP)
        start = threads.submit(call, daemon, "POST", f"/containers/{ref}/start")
        time.sleep(wait)
        removed, _ = call(daemon, "DELETE", f"/containers/{ref}{force}")
        started, _ = start.result()
        left = status_of(daemon, ref)
        if removed == 204:
            assert left == "gone"
        else:
            assert (started, removed, left) == (204, 409, "running"), "only force ends it"


def test_a_stop_ends_a_restart_loop_at_any_moment(daemon: EngineUnderTest) -> None:
    for turn in range(12):
        ref = create(daemon, *DIES, host={"RestartPolicy": {"Name": "always"}})
        call(daemon, "POST", f"/containers/{ref}/start")
        time.sleep(0.02 + 0.017 * turn)
        assert call(daemon, "POST", f"/containers/{ref}/stop")[0] == 204
        time.sleep(0.3)
        assert status_of(daemon, ref) == "exited"


def test_an_exec_starts_once(daemon: EngineUnderTest, threads: ThreadPoolExecutor) -> None:
    ref = create(daemon, *SLEEP)
    call(daemon, "POST", f"/containers/{ref}/start")
    _, made = call(daemon, "POST", f"/containers/{ref}/exec", {"Cmd": ["sleep", "1"]})
    path = f"/exec/{made['Id']}"
    both = [threads.submit(call, daemon, "POST", f"{path}/start", {"Detach": True}) for _ in "12"]
    assert sorted(future.result()[0] for future in both) == [200, 409]
    assert call(daemon, "GET", f"{path}/json")[1]["Running"]


def test_a_refused_removal_leaves_the_health_check_alone(daemon: EngineUnderTest) -> None:
    check = {"Test": ["CMD", "false"], "Interval": 100_000_000, "Retries": 1000}
    ref = create(daemon, *SLEEP, Healthcheck=check)
    call(daemon, "POST", f"/containers/{ref}/start")

    def failures() -> int:
        return daemon.inspect(ref)["State"]["Health"]["FailingStreak"]

    until(failures, "a first check")
    assert call(daemon, "DELETE", f"/containers/{ref}")[0] == 409
    before = failures()
    until(lambda: failures() > before + 1, "further checks")


def test_clients_that_do_not_read_hold_nobody_up(daemon: EngineUnderTest) -> None:
    ref = create(daemon, *SLEEP)
    call(daemon, "POST", f"/containers/{ref}/start")
    idle = []
    try:
        for _ in range(40):
            client = _Connection(daemon.socket)
            client.request("GET", f"/containers/{ref}/export")
            idle.append(client)
        time.sleep(1)
        began = time.monotonic()
        assert call(daemon, "POST", f"/containers/{ref}/pause")[0] == 204
        assert time.monotonic() - began < 10
        call(daemon, "POST", f"/containers/{ref}/unpause")
    finally:
        for client in idle:
            client.close()


def test_two_first_users_of_a_volume_both_find_all_of_it(
    daemon: EngineUnderTest, threads: ThreadPoolExecutor
) -> None:
    words = ("run", "--rm", "-v", "shared:/usr/share", IMAGE, "sh", "-c", "find /usr/share | wc -l")
    try:
        both: list[Future[str]] = [threads.submit(daemon.cli, *words) for _ in range(2)]
        wanted = daemon.cli("run", "--rm", IMAGE, *words[5:])
        assert {future.result() for future in both} == {wanted}
    finally:
        daemon.cli_try("volume", "rm", "shared")


def test_a_link_in_a_volume_does_not_lead_out_of_it(daemon: EngineUnderTest) -> None:
    try:
        daemon.cli("run", "--rm", "-v", "evil:/v", IMAGE, "ln", "-s", "/etc", "/v/sub")
        mount = "type=volume,source=evil,target=/w,volume-subpath=sub"
        done = daemon.cli_try("run", "--rm", "--mount", mount, IMAGE, "ls", "/w")
        assert done.code != 0
        assert "does not exist" in done.err
        daemon.cli("run", "--rm", "-v", "evil:/v", IMAGE, "mkdir", "/v/etc")
        assert daemon.cli("run", "--rm", "--mount", mount, IMAGE, "ls", "/w") == ""
    finally:
        daemon.cli_try("volume", "rm", "evil")


def test_copying_into_the_volume_of_a_container_at_rest(daemon: EngineUnderTest, tmp_path) -> None:
    (tmp_path / "f").write_text("copied\n")
    try:
        daemon.cli("create", "--name", "rests", "-v", "v1:/data/deep", IMAGE, "cat", "/data/deep/f")
        daemon.cli("cp", str(tmp_path / "f"), "rests:/data/deep/f")
        assert daemon.cli("start", "-a", "rests") == "copied"
        daemon.cli("cp", "rests:/data/deep/f", str(tmp_path / "back"))
        assert (tmp_path / "back").read_text() == "copied\n"
    finally:
        daemon.cli("rm", "-f", "rests")
        daemon.cli_try("volume", "rm", "v1")


def test_joining_a_privileged_container(daemon: EngineUnderTest) -> None:
    daemon.cli("run", "-d", "--name", "peer", "--privileged", IMAGE, *SLEEP)
    daemon.cli("run", "-d", "--name", "joins", "--network", "container:peer", IMAGE, *SLEEP)
    daemon.cli("run", "-d", "--name", "own", IMAGE, *SLEEP)
    assert daemon.inspect("joins")["Pannier"]["UserNamespace"] == "host"
    mode = daemon.inspect("joins")["HostConfig"]["NetworkMode"]
    assert mode == f"container:{daemon.inspect('peer')['Id']}"
    words = ("--network", "container:peer", "--pid", "container:own", IMAGE, "true")
    assert "mapped differently" in daemon.cli_try("run", "--rm", *words).err


def test_restart_of_a_container_that_is_removed_at_its_end(daemon: EngineUnderTest) -> None:
    daemon.cli("run", "-d", "--rm", "--name", "once", IMAGE, *SLEEP)
    for words in (("restart", "-t", "0"), ("update", "--image", IMAGE)):
        daemon.cli(*words, "once")
        time.sleep(0.3)
        assert status_of(daemon, "once") == "running"
    daemon.cli("stop", "-t", "0", "once")
    until(lambda: status_of(daemon, "once") == "gone", "its removal")


def test_execs_have_the_limits_and_groups_of_their_container(daemon: EngineUnderTest) -> None:
    words = ("--ulimit", "nofile=123:123", "--group-add", "44")
    daemon.cli("run", "-d", "--name", "limited", *words, IMAGE, *SLEEP)
    assert daemon.cli("exec", "limited", "sh", "-c", "ulimit -n; id -G").split() == [
        "123", "0", "44",
    ]  # fmt: skip


def test_what_a_new_daemon_starts_and_removes(daemon: EngineUnderTest) -> None:
    for policy in ("always", "unless-stopped", "no"):
        daemon.cli("run", "-d", "--name", policy, "--restart", policy, IMAGE, *SLEEP)
    daemon.cli("stop", "-t", "0", "always", "unless-stopped", "no")
    daemon.cli("run", "-d", "--name", "loop", "--restart", "always", IMAGE, *DIES)
    daemon.cli("run", "-d", "--rm", "--name", "once", IMAGE, "sleep", "0.5")
    for _ in range(4):
        daemon.kill9()
        time.sleep(0.3)
        daemon.start()
    until(lambda: status_of(daemon, "always") == "running", "always means always")
    until(lambda: status_of(daemon, "once") == "gone", "the removal that --rm asks for")
    assert [status_of(daemon, name) for name in ("unless-stopped", "no")] == ["exited", "exited"]
    count = daemon.inspect("loop")["RestartCount"]
    until(lambda: daemon.inspect("loop")["RestartCount"] > count, "its further restarts")
    daemon.cli("stop", "loop")
    assert call(daemon, "POST", "/containers/loop/wait")[1]["StatusCode"] == 1


def test_a_daemon_killed_while_it_fills_a_volume(
    daemon: EngineUnderTest, threads: ThreadPoolExecutor
) -> None:
    words = ("run", "--rm", "-v", "half:/usr", IMAGE, "sh", "-c", "find /usr | wc -l")
    content = daemon.instance.volumes / "half" / "_data"
    try:
        create_ = threads.submit(daemon.cli_try, *words)
        until(lambda: content.is_dir() and any(content.iterdir()), "the copy's begin")
        daemon.kill9()
        create_.result()
        daemon.start()
        assert _count(daemon, "id_ranges") == _count(daemon, "containers") == 0
        assert daemon.cli(*words) == daemon.cli("run", "--rm", IMAGE, *words[5:])
    finally:
        daemon.cli_try("volume", "rm", "half")


def _count(daemon: EngineUnderTest, table: str) -> int:
    database = sqlite3.connect(daemon.instance.database)
    try:
        return database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    finally:
        database.close()
