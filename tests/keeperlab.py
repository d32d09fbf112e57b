"""A keeper with its siblings, and containers on the host's own /usr: no image, no engine."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pannier.base.errors import Unavailable
from pannier.base.instance import Instance
from pannier.kernel import cgroup
from pannier.oci import defaults
from pannier.oci.runtime import Mount, Spec
from pannier.oci.seccomp_profile import profile
from pannier.runtime import keeper as keeper_module
from pannier.runtime import processes
from pannier.runtime.async_channel import AsyncChannel
from pannier.runtime.client import ExecExit, ExecRequest, Exit, Launch, Rootfs, Runtime, Stdio

RUNTIME = Path(keeper_module.__file__).parent
PATH = f"PATH={defaults.DEFAULT_PATH}"
BASE = 700_000_000
LINKS = ("bin", "lib", "lib64", "sbin")
USR: Mount = {
    "destination": "/usr",
    "type": "bind",
    "source": "/usr",
    "options": ["rbind", "ro", "idmap", "rprivate"],
}


class KeeperLab:
    """Everything below one instance."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.runtime = Runtime(instance)
        self.logger = processes.Logger(instance)
        self.stager = processes.Stager(instance)
        self.exits: dict[str, Exit] = {}
        self.exec_exits: dict[str, int] = {}
        self.ended_output: set[str] = set()
        self._changed = asyncio.Event()
        self.layer = instance.data / "layer"
        self._make_layer()

    def _make_layer(self) -> None:
        for name in ("usr", "etc", "tmp", "root", "var/tmp"):
            (self.layer / name).mkdir(parents=True, exist_ok=True)
        for name in LINKS:
            if Path("/", name).is_symlink() and not (self.layer / name).is_symlink():
                (self.layer / name).symlink_to(f"usr/{name}")
        (self.layer / "tmp").chmod(0o1777)
        (self.layer / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")

    @property
    def commands(self) -> dict[str, list[str]]:
        run = str(self.instance.run)
        return {
            name: [sys.executable, "-I", "-S", str(RUNTIME / f"{name}.py"), run]
            for name in ("keeper", "logger", "stager")
        }

    async def open(self) -> None:
        name, rules = self.instance.name, defaults.DEFAULT_DEVICE_RULES
        self.cgroups = cgroup.CgroupManager(cgroup.probe(), name, rules)
        self.cgroups.setup()
        await processes.ensure_supervisor(self.instance, self.commands, {})
        self.runtime.on_exit = self._on_exit
        self.runtime.on_exec_exit = self._on_exec_exit
        self.logger.on_eof = self._on_eof
        for process in (self.runtime, self.logger, self.stager):
            await process.connect()

    async def close(self) -> None:
        for known in await self.runtime.list():
            await self.runtime.discard(known.id)
        for process in (self.runtime, self.logger, self.stager):
            process.close()
        await processes.shut_down(self.instance)
        for path in ("default", "custom", ""):
            self.cgroups.remove(f"{self.instance.name}/{path}".rstrip("/"))

    # ------------------------------------------------------------ events

    def _on_exit(self, ended: Exit) -> None:
        self.exits[ended.id] = ended
        self._changed.set()

    def _on_exec_exit(self, ended: ExecExit) -> None:
        self.exec_exits[ended.exec_id] = ended.exit_code
        self._changed.set()

    def _on_eof(self, container_id: str) -> None:
        self.ended_output.add(container_id)
        self._changed.set()

    async def until(self, condition) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    # ------------------------------------------------------------ containers

    def launch(self, container_id: str, args: list[str], **changes: Any) -> Launch:
        """Keys of *changes* are the fields of `Launch`, or ``spec``: a function that changes it."""
        home = self.instance.container_data(container_id)
        for name in ("upper", "work"):
            (home / name).mkdir(parents=True, exist_ok=True)
        spec = make_spec(args)
        changes.pop("spec", lambda _: None)(spec)
        rootfs = Rootfs([str(self.layer)], str(home / "upper"), str(home / "work"))
        made: dict[str, Any] = {
            "id": container_id,
            "spec": spec,
            "rootfs": rootfs,
            "stdio": Stdio(),
            "cgroup": f"{self.instance.name}/default/{container_id}",
        }
        return Launch(**{**made, **changes})

    async def start(self, container_id: str, args: list[str], **changes: Any) -> int:
        """Start it with its log; returns the pid."""
        launch = self.launch(container_id, args, **changes)
        started = await self.runtime.create(launch)
        log = str(self.instance.data / f"{container_id}.log")
        master = await self.runtime.stdin(container_id) if launch.stdio.tty else None
        await self.logger.add(container_id, log, 0, 1, tty_fd=master)
        if master is not None:
            os.close(master)
        await self.runtime.start(container_id)
        return started.pid

    async def finish(self, container_id: str) -> tuple[Exit, str]:
        """Wait for its end and clean up; returns the exit and what it wrote, without times."""
        await self.until(lambda: container_id in self.exits)
        await self.until(lambda: container_id in self.ended_output)
        self.ended_output.discard(container_id)
        ended = self.exits.pop(container_id)
        await self.logger.remove(container_id)
        await self.runtime.forget(container_id)
        run = str(self.instance.container_run(container_id))
        await self.stager.teardown(container_id, [run])
        log = (self.instance.data / f"{container_id}.log").read_bytes()
        return ended, b"".join(_payload(line) for line in log.split(b"\n") if line).decode()

    async def sh(self, script: str, **changes: Any) -> tuple[int, str]:
        """Run a shell script; returns its exit code and output."""
        await self.start("c1", ["sh", "-c", script], **changes)
        ended, output = await self.finish("c1")
        return ended.exit_code, output

    async def exec(self, container_id: str, script: str, **changes: Any) -> tuple[int, str]:
        """Run a shell script in a running container."""
        reader, writer = os.pipe()
        request = ExecRequest(container_id, "e1", ["sh", "-c", script], [PATH], **changes)
        null = os.open(os.devnull, os.O_RDWR)
        try:
            await self.runtime.exec(request, [null, writer, writer])
        finally:
            os.close(writer)
            os.close(null)
        await self.until(lambda: "e1" in self.exec_exits)
        with open(reader, encoding="utf-8") as output:
            return self.exec_exits.pop("e1"), output.read()

    # ------------------------------------------------------------ processes

    async def pid_of(self, name: str) -> int:
        channel = await AsyncChannel.connect(self.instance.supervisor_socket)
        try:
            status = await channel.request("status")
        finally:
            channel.close()
        pid: int = status["pid"] if name == "supervisor" else status["children"][name]["pid"]
        return pid

    async def kill(self, name: str) -> None:
        """SIGKILL a process; returns when another one has taken its place."""
        old = await self.pid_of(name)
        os.kill(old, signal.SIGKILL)
        async with asyncio.timeout(10):
            while await self._pid_or_zero(name) in (0, old):
                await asyncio.sleep(0.01)

    async def _pid_or_zero(self, name: str) -> int:
        try:
            return await self.pid_of(name)
        except (Unavailable, KeyError):
            return 0


def make_spec(args: list[str]) -> Spec:
    """The default specification of an app container in a user namespace."""
    caps = list(defaults.DEFAULT_CAPABILITIES)
    return {
        "ociVersion": "1.2.0",
        "process": {
            "args": args,
            "env": [PATH],
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
        },
        "hostname": "box",
        "mounts": [*defaults.DEFAULT_MOUNTS, USR],
        "linux": {
            "uidMappings": [{"containerID": 0, "hostID": BASE, "size": 65536}],
            "gidMappings": [{"containerID": 0, "hostID": BASE, "size": 65536}],
            "namespaces": list(defaults.DEFAULT_NAMESPACES),
            "maskedPaths": list(defaults.MASKED_PATHS),
            "readonlyPaths": list(defaults.READONLY_PATHS),
            "sysctl": dict(defaults.DEFAULT_SYSCTLS),
            "devices": list(defaults.DEFAULT_NODES),
            "resources": {"pids": {"limit": 50}, "memory": {"limit": 128 << 20}},
            "seccomp": profile(set(caps), os.uname().machine),
        },
    }


def _payload(line: bytes) -> bytes:
    """What follows time, stream and the mark of a part (container log format of CRI)."""
    _, _, mark, data = line.split(b" ", 3)
    return data + (b"\n" if mark == b"F" else b"")


@asynccontextmanager
async def keeper_lab(instance: Instance) -> AsyncIterator[KeeperLab]:
    lab = KeeperLab(instance)
    await lab.open()
    try:
        yield lab
    finally:
        await lab.close()
