"""A host of its own in a network namespace, containers and an outside machine to try it with.

The test's thread moves into a fresh network namespace, so every bridge and rule dies with it,
whatever the test does, and nothing on the real host is touched.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pannier.kernel import _libc
from pannier.network import resolver as resolver_module
from pannier.runtime import netsetup

OUTSIDE_HOST, OUTSIDE = "198.51.100.1", "198.51.100.2"
_CLIENT = Path(__file__).with_name("netclient.py")


@contextmanager
def host_of_its_own() -> Iterator[None]:
    """A fresh network namespace for this thread and its children."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    _libc.unshare(_libc.CLONE_NEWNET)
    try:
        sh("ip link set lo up")
        yield
    finally:
        _libc.setns(before, _libc.CLONE_NEWNET)
        os.close(before)


def sh(command: str) -> str:
    return _output(["sh", "-c", command])


class Box:
    """A process in a network namespace of its own, as good as a container for this."""

    def __init__(self) -> None:
        self.id = secrets.token_hex(32)
        self._process = subprocess.Popen(["unshare", "-n", "sleep", "300"])
        own = os.readlink("/proc/thread-self/ns/net")
        while os.readlink(f"/proc/{self.pid}/ns/net") == own:
            os.sched_yield()

    @property
    def pid(self) -> int:
        return self._process.pid

    def plug(self, interfaces: Sequence[Any]) -> None:
        netsetup.connect(self.pid, json.loads(json.dumps(list(interfaces))))

    def run(self, command: str) -> str:
        return sh(f"nsenter -t {self.pid} -n {command}")

    def client(self, *arguments: str | int) -> Any:
        """Run netclient.py inside; returns what it prints as JSON."""
        command = ["nsenter", "-t", str(self.pid), "-n", *_client(*arguments)]
        return json.loads(_output(command))

    @contextmanager
    def serving(self, kind: str, port: int, text: str) -> Iterator[None]:
        """A server inside that answers every connection or datagram with *text* and the peer."""
        command = ["nsenter", "-t", str(self.pid), "-n", *_client("serve", kind, port, text)]
        with _running(command):
            yield

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def client(*arguments: str | int) -> Any:
    """netclient.py on the host."""
    return json.loads(_output(_client(*arguments)))


@contextmanager
def host_serving(kind: str, port: int, text: str, address: str = "0.0.0.0") -> Iterator[None]:
    with _running(_client("serve", kind, port, text, address)):
        yield


@contextmanager
def resolver(instance: Any, resolv_conf: Path) -> Iterator[subprocess.Popen[str]]:
    """The resolver process as the supervisor starts it."""
    script = resolver_module.__file__
    command = [sys.executable, "-IS", script, str(instance.run), str(resolv_conf)]
    process = subprocess.Popen(command, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def plug_outside(box: Box) -> None:
    """Make *box* a machine on the host's wire: it routes everything by the host."""
    sh(f"ip link add wire type veth peer name eth0 netns {box.pid}")
    sh(f"ip addr add {OUTSIDE_HOST}/24 dev wire && ip link set wire up")
    box.run("ip link set lo up")
    box.run(f"ip addr add {OUTSIDE}/24 dev eth0")
    box.run("ip link set eth0 up")
    box.run(f"ip route add default via {OUTSIDE_HOST}")


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def _client(*arguments: str | int) -> list[str]:
    return [sys.executable, "-IS", str(_CLIENT), *map(str, arguments)]


@contextmanager
def _running(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
