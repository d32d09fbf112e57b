"""An engine of its own for tests: started, talked to, killed, restarted, and taken down whole."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from leaks import bridge_prefix

from pannier.base.errors import PannierError, Unavailable
from pannier.base.instance import Instance
from pannier.kernel import cgroup
from pannier.runtime import processes

_START_TIMEOUT = 30.0
_STOP_TIMEOUT = 15.0
_CLI = "import sys; from pannier.cli.main import main; sys.argv[0] = 'pannier'; main()"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


class EngineUnderTest:
    """One daemon with its small processes.

    Args:
        instance: its name and directories, not shared with anything else.
    """

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.log = instance.data.parent / "daemon.log"
        self._daemon: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> str:
        """Path of the API's socket."""
        return str(self.instance.socket)

    @property
    def environment(self) -> dict[str, str]:
        """For programs that talk to this engine."""
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith("PANNIER_")},
            "PANNIER_NAME": self.instance.name,
            "PANNIER_DATA": str(self.instance.data),
            "PANNIER_RUN": str(self.instance.run),
            "PANNIER_HOST": f"unix://{self.socket}",
            "DOCKER_HOST": f"unix://{self.socket}",
        }

    @property
    def daemon_pid(self) -> int:
        assert self._daemon is not None
        return self._daemon.pid

    def pid_of(self, name: str) -> int:
        """Of a small process, as the supervisor knows it (or of ``supervisor`` itself); 0 while it
        does not run."""
        try:
            status = asyncio.run(self._supervisor("status"))
        except Unavailable:  # the supervisor is being restarted
            return 0
        return int(status["pid"] if name == "supervisor" else status["children"][name]["pid"])

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        with self.log.open("ab") as log:
            self._daemon = subprocess.Popen(
                [sys.executable, "-m", "pannier.daemon"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._answers():
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the daemon did not start:\n{self.daemon_log()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End the daemon in good order; containers go on."""
        if self._daemon is not None:
            self._daemon.send_signal(signal.SIGTERM)
            self._wait()

    def kill9(self) -> None:
        """Kill the daemon."""
        assert self._daemon is not None
        self._daemon.kill()
        self._wait()

    def restart(self) -> None:
        """Stop the daemon if it runs, and start it again."""
        self.stop()
        self.start()

    def kill_process(self, name: str, number: int = signal.SIGKILL) -> None:
        """Kill a small process by name; returns when another one has taken its place."""
        old = 0
        while not old:  # it may just be between two lives
            old = self.pid_of(name)
        os.kill(old, number)
        deadline = time.monotonic() + _START_TIMEOUT
        while self.pid_of(name) in (0, old):
            assert time.monotonic() < deadline, f"{name} was not started again"
            time.sleep(0.01)

    def daemon_log(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def cli_try(
        self, *arguments: str, stdin: bytes = b"", timeout: float = 120, cwd: Path | None = None
    ) -> Done:
        """Run a ``pannier`` command."""
        done = subprocess.run(
            [sys.executable, "-c", _CLI, *arguments],
            env=self.environment,
            input=stdin,
            capture_output=True,
            timeout=timeout,
            check=False,
            cwd=cwd,
        )
        out, err = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
        return Done(done.returncode, out, err)

    def cli(
        self, *arguments: str, stdin: bytes = b"", timeout: float = 120, cwd: Path | None = None
    ) -> str:
        """Run a ``pannier`` command that has to succeed; returns its output without the last
        newline."""
        done = self.cli_try(*arguments, stdin=stdin, timeout=timeout, cwd=cwd)
        shown = f"pannier {' '.join(arguments)}: {done.code}\n{done.out}\n{done.err}"
        assert done.code == 0, f"{shown}\n--- daemon:\n{self.daemon_log()[-4000:]}"
        return done.out.rstrip("\n")

    def take_down(self) -> None:
        """End everything: containers, daemon, small processes, network, cgroups. Never raises for
        what is gone already."""
        with suppress(Exception):
            self._remove_containers()
            self._wait_links_gone()
        self.stop()
        self._kill_cgroups()
        with suppress(PannierError):
            asyncio.run(processes.shut_down(self.instance))
        self._remove_network()

    def _remove_containers(self) -> None:
        ids = self.cli_try("ps", "-aq", timeout=20).out.split()
        if ids:
            self.cli_try("rm", "-f", "-v", *ids, timeout=60)

    def _wait_links_gone(self) -> None:
        """The stager removes, a second later, what lingering connections keep: it ends next."""
        prefix = "v" + bridge_prefix(self.instance)[1:]
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            if not any(name.startswith(prefix) for name in os.listdir("/sys/class/net")):
                return
            time.sleep(0.05)

    def _kill_cgroups(self) -> None:
        with suppress(PannierError):
            manager = cgroup.CgroupManager(cgroup.probe(), self.instance.name)
            manager.kill(self.instance.name)
            manager.wait_empty(self.instance.name, 10)
            manager.remove(self.instance.name)

    def _remove_network(self) -> None:
        """Bridges and rules stay while a daemon is down; here it does not come back."""
        subprocess.run(
            ["nft", "delete", "table", "inet", self.instance.name],
            stderr=subprocess.DEVNULL,
            check=False,
        )
        prefix = bridge_prefix(self.instance)
        for name in os.listdir("/sys/class/net"):
            if name.startswith(prefix):
                subprocess.run(["ip", "link", "delete", name], check=False)

    def _wait(self) -> None:
        assert self._daemon is not None
        try:
            self._daemon.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait()
            raise AssertionError(f"the daemon did not end:\n{self.daemon_log()}") from None
        finally:
            self._daemon = None

    def _answers(self) -> bool:
        """One bare request: no client of the project may hide a daemon that is half up."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            try:
                client.connect(self.socket)
                client.sendall(b"GET /_ping HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
                return b" 200 " in client.recv(100)
            except OSError:
                return False

    async def _supervisor(self, op: str) -> dict:
        channel = await processes.AsyncChannel.connect(self.instance.supervisor_socket)
        try:
            return await channel.request(op)
        finally:
            channel.close()

    def inspect(self, ref: str) -> dict:
        """``pannier inspect`` of a container, as data."""
        return json.loads(self.cli("inspect", ref))[0]
