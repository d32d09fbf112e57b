"""The daemon's side of the small processes: that they run, and what they are asked to do.

The keeper's client is ``runtime.client``; the processes themselves are ``runtime.supervisor``,
``logger`` and ``stager``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pannier.base.atomic import write_atomic
from pannier.base.errors import PannierError, Unavailable
from pannier.base.instance import Instance
from pannier.runtime.async_channel import AsyncChannel, Message

_CONNECT_TIMEOUT = 15.0  # seconds; a small process is up in milliseconds, unless the host is busy
_RETRY = 0.01
_SUPERVISOR_RETRY = 1.0
_SUPERVISOR = Path(__file__).with_name("supervisor.py")


async def ensure_supervisor(
    instance: Instance, commands: Mapping[str, Sequence[str]], builds: Mapping[str, str]
) -> None:
    """Have a supervisor, and by it all small processes, running.

    Args:
        instance: whose they are.
        commands: name of each process -> its argument list, program first.
        builds: names the code each runs; one that runs other code is replaced (an upgrade).

    Raises:
        Unavailable: the supervisor did not come up; its log is named.
    """
    children = {name: list(argv) for name, argv in commands.items()}
    with contextlib.suppress(Unavailable):
        supervisor = await AsyncChannel.connect(instance.supervisor_socket)
        try:
            await supervisor.request("configure", children=children, builds=dict(builds))
        finally:
            supervisor.close()
        return
    config = instance.run / "supervisor.config"
    started = {"run": str(instance.run), "children": children, "builds": dict(builds)}
    write_atomic(config, json.dumps(started).encode())
    await _start_supervisor(instance, config)


async def _start_supervisor(instance: Instance, config: Path) -> None:
    log = instance.run / "supervisor.log"
    argv = [sys.executable, "-I", "-S", str(_SUPERVISOR), "--config", str(config)]
    with log.open("ab") as output:
        # It forks itself away, and this one ends as soon as its socket is there.
        starter = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output
        )
    if await starter.wait() != 0:
        raise Unavailable(f"the supervisor does not start; see {log}")


async def keep_supervisor(
    instance: Instance, commands: Mapping[str, Sequence[str]], builds: Mapping[str, str]
) -> None:
    """Have the supervisor started again whenever it dies, until cancelled.

    Everything else goes on without it, but nothing would be restarted any more.
    """
    while True:
        try:
            await ensure_supervisor(instance, commands, builds)
            supervisor = await AsyncChannel.connect(instance.supervisor_socket)
        except Unavailable:
            await asyncio.sleep(_SUPERVISOR_RETRY)
            continue
        try:
            await supervisor.wait_closed()
        finally:
            supervisor.close()


async def shut_down(instance: Instance) -> None:
    """End the supervisor and all small processes.

    Raises:
        Conflict: containers run.
        Unavailable: there is no supervisor.
    """
    supervisor = await AsyncChannel.connect(instance.supervisor_socket)
    try:
        await supervisor.request("shutdown")
    finally:
        supervisor.close()


class Process:
    """A connection to one small process; comes back by itself after the process was restarted."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._channel: AsyncChannel | None = None
        self._connecting = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Connect, waiting for the process if need be.

        Raises:
            Unavailable: it is not there after 15 seconds.
        """
        await self._connected()
        self._watch = asyncio.create_task(self._stay_connected())

    def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if self._channel is not None:
            self._channel.close()

    async def request(
        self, op: str, *, fds: Sequence[int] = (), repeat: bool = True, **arguments: Any
    ) -> Message:
        """Ask; a process that is just being restarted is waited for.

        Args:
            op: what to do.
            fds: handed over, stay open here.
            repeat: ask its successor if the process dies meanwhile: right where doing it twice
                comes to the same.
            arguments: of the request.

        Raises:
            PannierError: what the process raised, or Unavailable if it died.
        """
        while True:
            channel = await self._connected()
            try:
                return await channel.request(op, fds=fds, **arguments)
            except Unavailable:
                if not repeat or not channel.closed:
                    raise

    def on_event(self, message: Message) -> None:
        """An event arrived; for subclasses."""

    async def _connected(self) -> AsyncChannel:
        async with self._connecting:
            deadline = asyncio.get_running_loop().time() + _CONNECT_TIMEOUT
            while self._channel is None or self._channel.closed:
                try:
                    self._channel = await AsyncChannel.connect(self._path, self.on_event)
                except Unavailable:
                    if asyncio.get_running_loop().time() > deadline:
                        raise
                    await asyncio.sleep(_RETRY)
            return self._channel

    async def _stay_connected(self) -> None:
        """Events must arrive even when nobody asks for anything."""
        while True:
            with contextlib.suppress(PannierError):
                channel = await self._connected()
                await channel.wait_closed()


class Logger(Process):
    """The logger. ``on_eof`` is called with a container's id when its output is complete."""

    def __init__(self, instance: Instance) -> None:
        super().__init__(instance.logger_socket)
        self.on_eof: Callable[[str], None] | None = None

    async def add(
        self,
        container_id: str,
        path: str,
        max_size: int,
        max_files: int,
        *,
        tty_fd: int | None = None,
    ) -> None:
        """Write the output of a container to its log from now on.

        Args:
            container_id: its pipes are in its run directory.
            path: of the log.
            max_size: bytes after which the log is rotated; 0 is never.
            max_files: how many files are kept.
            tty_fd: its pty master, if it has a terminal; stays open here.
        """
        await self.request(
            "add",
            fds=[] if tty_fd is None else [tty_fd],
            container=container_id,
            path=path,
            max_size=max_size,
            max_files=max_files,
        )

    async def remove(self, container_id: str) -> None:
        """Write what is there still, then forget the container; its log stays."""
        await self.request("remove", container=container_id)

    async def has(self, container_id: str) -> bool:
        """Whether output of the container may still come."""
        return bool((await self.request("has", container=container_id))["has"])

    async def list(self) -> Sequence[dict[str, Any]]:
        """What it reads, with ``stuck`` where a log cannot be written."""
        containers: list[dict[str, Any]] = (await self.request("list"))["containers"]
        return containers

    def on_event(self, message: Message) -> None:
        if message["event"] == "eof" and self.on_eof is not None:
            self.on_eof(message["container"])


class Stager(Process):
    """The stager."""

    def __init__(self, instance: Instance) -> None:
        super().__init__(instance.stager_socket)
        self._instance = instance

    async def teardown(
        self, container_id: str, paths: Sequence[str] = (), *, links: Sequence[str] = ()
    ) -> None:
        """Remove a container's cgroups with all that lives in them; then it may be started again.

        Args:
            container_id: whose.
            paths: directories that are gone from their place when this returns; their content is
                removed behind.
            links: host's ends of its network, removed behind if they do not go by themselves.
        """
        name = self._instance.name
        groups = [f"{name}/{parent}/{container_id}" for parent in ("default", "custom")]
        await self.request("teardown", cgroups=groups, paths=list(paths), links=list(links))

    async def connect_interfaces(self, pid: int, interfaces: Sequence[Any]) -> None:
        """Add interfaces to the network of the running process *pid*."""
        await self.request("connect", repeat=False, pid=pid, interfaces=list(interfaces))

    async def disconnect_interfaces(
        self, hosts: Sequence[str], pid: int = 0, remaining: Sequence[Any] = ()
    ) -> None:
        """Remove links by their host's names; *remaining* are the interfaces that *pid* keeps."""
        await self.request("disconnect", hosts=list(hosts), pid=pid, remaining=list(remaining))
