"""Docker as Debian packages it: the one we are compared with.

Its daemon runs in a network and a mount namespace of its own, so that its bridge, its rules and its
mounts are never the host's and end with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Not by PATH: another docker may come first there.
_DOCKER = "/usr/bin/docker"
_DAEMONS = ("/usr/sbin/dockerd", "/usr/bin/dockerd")
_POLICY = Path("/usr/sbin/policy-rc.d")
_CGROUP = "pannier-bench"
_START_TIMEOUT = 60.0


class Peer:
    """A running dockerd, by its client.

    Args:
        socket: of the daemon.
    """

    def __init__(self, socket: Path) -> None:
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(socket.parent),
            "DOCKER_HOST": f"unix://{socket}",
            "DOCKER_BUILDKIT": "0",
        }

    def cli(self, *words: str, cwd: Path | None = None) -> str:
        """Run ``docker``, which has to succeed."""
        return subprocess.run(
            [_DOCKER, *words],
            env=self._environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    def answers(self) -> bool:
        with suppress(subprocess.CalledProcessError):
            return bool(self.cli("version", "--format", "{{.Server.Version}}"))
        return False


def install() -> None:
    """Install Debian's packages if they are missing; the service is not started."""
    if Path(_DOCKER).exists() and _daemon():
        return
    own_policy = not _POLICY.exists()
    if own_policy:
        _POLICY.write_text("#!/bin/sh\nexit 101\n")
        _POLICY.chmod(0o755)
    try:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        packages = ["docker.io", "iptables"]
        command = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages]
        if subprocess.run(command, env=environment, check=False).returncode:
            subprocess.run(["apt-get", "update", "-qq"], env=environment, check=True)
            subprocess.run(command, env=environment, check=True)
    finally:
        if own_policy:
            _POLICY.unlink()


def _daemon() -> str:
    return next((path for path in _DAEMONS if Path(path).exists()), "")


@contextmanager
def running(image: Path) -> Iterator[Peer]:
    """A Docker engine with the image of archive *image*, gone at the end."""
    install()
    # Not /tmp: where that is a tmpfs, Docker would be measured on memory and we on the disk.
    base = Path(tempfile.mkdtemp(prefix="pannier-bench-docker-", dir="/var/tmp"))
    with (base / "log").open("wb") as log:
        process = subprocess.Popen(
            _command(base), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    peer = Peer(base / "docker.sock")
    try:
        _await(peer, process, base / "log")
        peer.cli("load", "-i", str(image))
        yield peer
    finally:
        _end(peer, process)
        shutil.rmtree(base, ignore_errors=True)
        _remove_cgroups()


def _command(base: Path) -> list[str]:
    daemon = [
        _daemon(),
        f"--data-root={base}/data",
        f"--exec-root={base}/exec",
        f"--pidfile={base}/pid",
        f"--host=unix://{base}/docker.sock",
        f"--cgroup-parent=/{_CGROUP}",
        "--storage-driver=overlay2",
        "--group=root",
    ]
    script = 'ip link set lo up && exec "$@"'
    return ["unshare", "--net", "--mount", "sh", "-c", script, "sh", *daemon]


def _await(peer: Peer, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while not peer.answers():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"dockerd did not start:\n{log.read_text()[-3000:]}")
        time.sleep(0.2)


def _end(peer: Peer, process: subprocess.Popen[bytes]) -> None:
    with suppress(subprocess.CalledProcessError):
        if containers := peer.cli("ps", "-aq").split():
            peer.cli("rm", "-f", *containers)
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _remove_cgroups() -> None:
    for parent in (*Path("/sys/fs/cgroup").glob(f"*/{_CGROUP}"), Path("/sys/fs/cgroup") / _CGROUP):
        if parent.is_dir():
            for path in sorted(parent.rglob("*/"), reverse=True):
                with suppress(OSError):
                    path.rmdir()
            with suppress(OSError):
                parent.rmdir()
