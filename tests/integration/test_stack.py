"""Compose projects on a real engine: order, health, scale, update, rollback, crash."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]

_numbers = itertools.count(1)


class Stack:
    """One project in a directory of its own, driven by the command."""

    def __init__(self, daemon, directory: Path) -> None:
        self.daemon = daemon
        self.name = f"st{next(_numbers)}"
        self._file = directory / "compose.yaml"

    def write(self, text: str) -> None:
        self._file.write_text(f"name: {self.name}\n" + textwrap.dedent(text))

    def __call__(self, *arguments: str) -> str:
        return self.daemon.cli("compose", "-f", str(self._file), *arguments)

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        script = "import sys; from pannier.cli.main import main; main()"
        words = [sys.executable, "-c", script, "compose", "-f", str(self._file), *arguments]
        environment = self.daemon.environment
        return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)

    def fails(self, *arguments: str) -> str:
        done = self.daemon.cli_try("compose", "-f", str(self._file), *arguments)
        assert done.code != 0, done.out
        return done.err

    def containers(self, service: str) -> list[dict]:
        names = self.daemon.cli(
            "ps",
            "--all",
            "--quiet",
            "--no-trunc",
            "--filter",
            f"label=com.docker.compose.project={self.name}",
            "--filter",
            f"label=com.docker.compose.service={service}",
        ).split()
        views = [self.daemon.cli_try("inspect", name) for name in names]
        # One that was listed may be gone by now: an update goes on meanwhile.
        found = [json.loads(view.out)[0] for view in views if view.code == 0]
        return sorted(found, key=lambda view: view["Name"])

    def exec(self, service: str, *command: str) -> str:
        return self.daemon.cli("exec", f"{self.name}-{service}-1", *command)


@pytest.fixture
def stack(daemon, tmp_path):
    made = Stack(daemon, tmp_path)
    yield made
    made("down", "--volumes", "--timeout", "1", "--remove-orphans")


def test_up_waits_for_health_and_the_second_one_touches_nothing(stack):
    stack.write(
        """
        services:
          web:
            image: debian:12
            command: sleep infinity
            stop_signal: SIGKILL
            depends_on: {db: {condition: service_healthy}}
          db:
            image: debian:12
            command: sh -c 'sleep 1; touch /ready; exec sleep infinity'
            stop_signal: SIGKILL
            healthcheck: {test: [CMD, test, -e, /ready], interval: 200ms, start_interval: 100ms,
                          start_period: 10s}
        """
    )
    stack("up", "-d")
    (db,), (web,) = stack.containers("db"), stack.containers("web")
    assert db["State"]["Health"]["Status"] == "healthy"
    assert web["State"]["StartedAt"] > db["State"]["StartedAt"]
    stack("up", "-d")
    assert stack.containers("db")[0]["State"]["StartedAt"] == db["State"]["StartedAt"]
    assert stack.containers("web")[0]["Id"] == web["Id"]


def test_up_in_the_foreground_shows_all_output_and_stops_on_a_signal(stack):
    stack.write(
        """
        services:
          web:
            image: debian:12
            command: sh -c 'echo web is up; exec sleep infinity'
            stop_signal: SIGKILL
            depends_on: {db: {condition: service_healthy}}
          db:
            image: debian:12
            command: sh -c 'echo db is up; touch /ready; exec sleep infinity'
            stop_signal: SIGKILL
            healthcheck: {test: [CMD, test, -e, /ready], interval: 100ms}
        """
    )
    process = stack.begin("up")
    lines = iter(process.stdout.readline, "")
    shown = set()
    while not {"db  | db is up", "web | web is up"} <= shown:
        shown.add(next(lines).strip().replace("-1", "").replace(f"{stack.name}-", ""))
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 130
    assert not stack.containers("db")[0]["State"]["Running"]
    assert not stack.containers("web")[0]["State"]["Running"]


def test_a_service_that_is_not_there_is_named(stack):
    stack.write("services: {web: {image: debian:12, command: sleep infinity}}")
    assert "no such service: wbe" in stack.fails("logs", "wbe")
    assert "has no running container" in stack.fails("exec", "web", "true")


def test_only_the_changed_service_is_replaced_and_volumes_stay(stack):
    text = """
        services:
          web:
            image: debian:12
            command: sleep infinity
            stop_signal: SIGKILL
            environment: {VERSION: "%s"}
            volumes: ["data:/data"]
          other: {image: debian:12, command: sleep infinity, stop_signal: SIGKILL}
        volumes: {data: }
        """
    stack.write(text % 1)
    stack("up", "-d")
    stack.exec("web", "sh", "-c", "echo kept > /data/file")
    (web,), (other,) = stack.containers("web"), stack.containers("other")
    stack.write(text % 2)
    stack("up", "-d")
    (new,) = stack.containers("web")
    assert new["Id"] != web["Id"]
    assert new["Name"] == web["Name"]
    assert stack.containers("other")[0]["Id"] == other["Id"]
    assert stack.exec("web", "sh", "-c", "echo $VERSION; cat /data/file") == "2\nkept"


def test_a_service_name_answers_with_every_replica(stack):
    stack.write(
        """
        services:
          app: {image: debian:12, command: sleep infinity, scale: 3, stop_signal: SIGKILL}
          client: {image: debian:12, command: sleep infinity, stop_signal: SIGKILL}
        """
    )
    stack("up", "-d")
    assert len(_addresses(stack)) == 3
    stack("scale", "app=1", "--timeout", "1")
    assert len(_addresses(stack)) == 1
    assert len(stack.containers("app")) == 1
    stack("scale", "app=2")
    assert len(_addresses(stack)) == 2


def _addresses(stack: Stack) -> set[str]:
    lines = stack.exec("client", "getent", "ahostsv4", "app").splitlines()
    return {line.split()[0] for line in lines}


SERVER = """
    services:
      app:
        image: debian:12
        init: true
        command: ["sh", "-c", "touch /ready; exec sleep infinity"]
        environment: {VERSION: "%s"}
        scale: 3
        healthcheck: {test: [CMD-SHELL, "%s"], interval: 300ms, start_interval: 100ms,
                      start_period: 2s, retries: 2}
"""


def _versions(stack: Stack) -> list[str]:
    return sorted(
        item.removeprefix("VERSION=")
        for view in stack.containers("app")
        for item in view["Config"]["Env"]
        if item.startswith("VERSION=")
    )


def test_rolling_update_rollback_and_undo(stack):
    stack.write(SERVER % ("1", "test -e /ready"))
    stack("up", "-d", "--wait")
    before = [view["Name"] for view in stack.containers("app")]
    stack.write(SERVER % ("2", "test -e /ready"))
    stack("up", "-d")
    assert _versions(stack) == ["2"] * 3
    assert [view["Name"] for view in stack.containers("app")] == before
    stack.daemon.cli("rollback", f"{stack.name}/app")
    assert _versions(stack) == ["1"] * 3
    stack("rollback", "--undo", "app")
    assert _versions(stack) == ["2"] * 3


def test_an_update_that_fails_leaves_the_old_replicas(stack):
    stack.write(SERVER % ("1", "test -e /ready"))
    stack("up", "-d", "--wait")
    before = [view["Id"] for view in stack.containers("app")]
    stack.write(SERVER % ("2", "echo not yet; false"))
    error = stack.fails("up", "-d")
    assert "is unhealthy" in error
    assert "(health check, exit code 1) not yet" in error
    assert [view["Id"] for view in stack.containers("app")] == before


def test_an_update_survives_a_crash_of_the_daemon(stack):
    stack.write(SERVER % ("1", "test -e /ready"))
    stack("up", "-d", "--wait")
    stack.write(SERVER % ("2", "sleep 0.5; test -e /ready"))
    update = threading.Thread(
        target=stack.daemon.cli_try, args=("compose", "-f", str(stack._file), "up", "-d")
    )
    update.start()
    time.sleep(2)
    stack.daemon.kill9()
    stack.daemon.start()
    update.join()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        names = [view["Name"] for view in stack.containers("app")]
        if _versions(stack) == ["2"] * 3 and not any("_" in name for name in names):
            return
        time.sleep(0.3)
    raise AssertionError(f"not finished: {_versions(stack)}, {names}")


def test_jobs_secrets_configs_and_shared_namespaces(stack, tmp_path):
    (tmp_path / "key").write_text("secret")
    stack.write(
        """
        services:
          job:
            image: debian:12
            command: [sh, -c, "cat /run/secrets/key /etc/conf > /out/result"]
            secrets: [key]
            configs: [{source: conf, target: /etc/conf}]
            volumes: ["out:/out"]
          web:
            image: debian:12
            command: sleep infinity
            stop_signal: SIGKILL
            volumes: ["out:/in:ro"]
            tmpfs: /scratch:size=1m
            depends_on: {job: {condition: service_completed_successfully}}
          side:
            image: debian:12
            command: sleep infinity
            stop_signal: SIGKILL
            network_mode: service:web
        volumes: {out: }
        secrets: {key: {file: ./key}}
        configs: {conf: {content: "+config"}}
        """
    )
    stack("up", "-d")
    assert stack.exec("web", "cat", "/in/result") == "secret+config"
    shared = [stack.exec(name, "readlink", "/proc/self/ns/net") for name in ("web", "side")]
    assert shared[0] == shared[1]


def test_bad_files_leave_nothing(stack):
    stack.write("services:\n  web:\n    image: debian:12\n    port: ['80']\n")
    error = stack.fails("up", "-d")
    assert "compose.yaml:5: services.web.port: unknown key" in error
    assert "did you mean 'ports'?" in error
    stack.write(
        """
        services:
          a: {image: debian:12, depends_on: [b]}
          b: {image: debian:12, depends_on: [a]}
        """
    )
    assert "dependency cycle detected: a -> b -> a" in stack.fails("up", "-d")
    stack.write("services: {a: {image: 'debian:12', command: '${NEEDED:?say which}'}}")
    assert "required variable NEEDED is missing a value: say which" in stack.fails("up", "-d")
    assert stack.containers("a") == []
    assert stack.name not in stack.daemon.cli("network", "ls")
    stack.write("services: {a: {image: 'debian:12', command: sleep infinity}}")  # for down


def test_config_prints_what_it_reads(stack):
    stack.write("services: {web: {image: 'debian:12', ports: ['127.0.0.1:8080:80']}}")
    printed = stack("config")
    assert "host_ip: 127.0.0.1" in printed
    listed = json.loads(stack.daemon.cli("compose", "ls", "--format", "json") or "[]")
    assert isinstance(listed, list)
