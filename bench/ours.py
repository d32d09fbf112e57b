"""An engine of our own for the measurements, and the two ways to talk to it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine_under_test import EngineUnderTest

from pannier.base.instance import Instance

_ROOT = Path(__file__).resolve().parents[1]
_CLI = _ROOT / ".venv" / "bin" / "pannier"
_CACHE = Path(os.environ.get("PANNIER_TEST_CACHE", "/var/cache/pannier-tests"))
_SMALL = ("supervisor", "keeper", "logger", "stager", "resolver")
IMAGE = "debian:12"


class Ours:
    """A running engine with the base image."""

    def __init__(self, engine: EngineUnderTest) -> None:
        self.engine = engine
        self.environment = engine.environment

    def cli(self, *words: str, cwd: Path | None = None) -> str:
        """Run the installed ``pannier`` command, which has to succeed."""
        return subprocess.run(
            [str(_CLI), *words],
            env=self.environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    def processes(self) -> dict[str, int]:
        """Name and pid of every process of the engine."""
        small = {name: self.engine.pid_of(name) for name in _SMALL}
        return {"daemon": self.engine.daemon_pid, **small}

    def request_run(self, *argv: str) -> int:
        """What ``pannier run --rm IMAGE ARGV`` asks for, by one request of a resident client.

        Returns:
            The exit code.
        """
        body = json.dumps(
            {
                "Body": {
                    "Image": IMAGE,
                    "Cmd": list(argv),
                    "AttachStdout": True,
                    "AttachStderr": True,
                    "HostConfig": {"AutoRemove": True},
                },
                "Attach": {"Stdout": True, "Stderr": True},
            }
        ).encode()
        head = (
            "POST /pannier/run HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.engine.socket)
            client.sendall(head.encode() + body)
            return _exit_code(client)


def _exit_code(client: socket.socket) -> int:
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(client)
    head, _, received = received.partition(b"\r\n\r\n")
    if b" 101 " not in head.splitlines()[0]:
        raise RuntimeError((head + received).decode(errors="replace"))
    while True:
        while len(received) < 8:
            received += _more(client)
        stream, length = struct.unpack(">BxxxI", received[:8])
        while len(received) < 8 + length:
            received += _more(client)
        payload, received = received[8 : 8 + length], received[8 + length :]
        if stream == 4:
            return int(json.loads(payload)["StatusCode"])


def _more(client: socket.socket) -> bytes:
    data = client.recv(65536)
    if not data:
        raise ConnectionResetError("the engine closed the connection")
    return data


def archive() -> Path:
    """The base image as an archive: bootstrapped once for this machine."""
    path = _CACHE / "debian-12.tar"
    if not path.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        with _engine() as engine:
            engine.cli("image", "bootstrap", IMAGE, timeout=600)
            engine.cli("save", "-o", str(path), IMAGE, timeout=600)
    return path


@contextmanager
def running() -> Iterator[Ours]:
    """An engine with the base image, gone without a trace at the end."""
    image = archive()
    with _engine() as engine:
        engine.cli("load", "-i", str(image), timeout=600)
        yield Ours(engine)


@contextmanager
def _engine() -> Iterator[EngineUnderTest]:
    name = f"pnb{secrets.token_hex(3)}"
    base = Path("/var/tmp/pannier-bench") / name
    base.mkdir(parents=True)
    engine = EngineUnderTest(Instance(name=name, data=base / "data", run=base / "run"))
    try:
        engine.start()
        yield engine
    finally:
        engine.take_down()
        shutil.rmtree(base, ignore_errors=True)
