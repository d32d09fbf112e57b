"""The daemon's way to the keeper: `Runtime`, and the shapes of what it takes and tells.

Compiling the filter and making the plan happen here, so that the keeper only carries out.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any

from pannier.base.errors import PannierError, Unavailable
from pannier.base.instance import Instance
from pannier.kernel import cgroup
from pannier.kernel.seccomp_compile import compile_filter, compiled_before
from pannier.oci.runtime import Seccomp
from pannier.runtime import plan
from pannier.runtime.async_channel import AsyncChannel, Message
from pannier.runtime.model import (
    ExecExit,
    ExecRequest,
    Executed,
    Exit,
    Known,
    Launch,
    LogPolicy,
    Rootfs,
    Started,
    Stdio,
)
from pannier.runtime.processes import Process

_TINI = ("tini-static", "tini")  # a dynamic one works only in images with the same C library
_UNSEEN = 255  # Docker's code for an end that nobody saw

__all__ = [
    "ExecExit",
    "ExecRequest",
    "Executed",
    "Exit",
    "Known",
    "Launch",
    "LogPolicy",
    "Rootfs",
    "Runtime",
    "Started",
    "Stdio",
]


class Runtime(Process):
    """Containers by their id; each call is one request to the keeper.

    ``on_exit`` and ``on_exec_exit`` are called in the event loop. An exit may be told twice, around
    a restart of the keeper: who listens goes by the pid.
    """

    def __init__(self, instance: Instance) -> None:
        super().__init__(instance.keeper_socket)
        self.on_exit: Callable[[Exit], None] | None = None
        self.on_exec_exit: Callable[[ExecExit], None] | None = None
        self._cache = instance.run / "seccomp"
        self._facts: plan.HostFacts | None = None
        # exec id -> its container, and the connection to the keeper that runs it
        self._execs: dict[str, tuple[str, AsyncChannel]] = {}

    async def connect(self) -> None:
        """Connect, waiting for the keeper if need be.

        Raises:
            Unavailable: it is not there after 15 seconds.
        """
        self._facts = host_facts()
        await super().connect()

    async def create(self, launch: Launch) -> Started:
        """Make the container and its first process, which waits for ``start``.

        Raises:
            InvalidArgument: the command is not there (field ``exit_code`` is 127) or cannot be
                executed (126), a bind source is missing, a limit cannot be given.
            Conflict: it exists already.
            PannierError: a step failed; its ``stage`` is in the fields. Nothing is left behind.
        """
        made = await self.plan(launch)
        reply = await self.request("create", repeat=False, plan=made)
        return Started(reply["pid"], reply["start_time"])

    async def plan(self, launch: Launch) -> plan.Plan:
        """What ``create`` will carry out, for tests and debugging."""
        seccomp = launch.spec.get("linux", {}).get("seccomp")
        compiled = await self._compile(seccomp) if seccomp else b""
        if self._facts is None:
            self._facts = host_facts()
        return plan.build(launch, self._facts, compiled)

    async def start(self, container_id: str) -> None:
        """Let the first process run; returns when it has executed its program.

        Raises:
            InvalidArgument: it could not be executed; ``exit_code`` in the fields, and nothing is
                left behind.
            NotFound, Conflict: it was not created, or runs already.
        """
        await self.request("start", repeat=False, container=container_id)

    async def discard(self, container_id: str) -> None:
        """End it with SIGKILL in whatever state it is, and forget it; unknown ones are fine."""
        await self.request("discard", container=container_id)

    async def kill(self, container_id: str, signal: int) -> None:
        """Send *signal* to the first process.

        Raises:
            NotFound: it does not run.
        """
        await self.request("kill", container=container_id, signal=int(signal))

    async def exec(self, request: ExecRequest, fds: Sequence[int] = ()) -> Executed:
        """Run a further process; returns when it has executed its program.

        Args:
            request: what to run.
            fds: its stdin, stdout and stderr; stay open here. Not with a terminal.

        Returns:
            Its pid, and with a terminal the master, which the caller closes.

        Raises:
            InvalidArgument: the command is not there, or cannot be executed (``exit_code``).
            NotFound, Conflict: the container does not run, or *exec_id* is used.
        """
        channel = await self._connected()
        self._execs[request.exec_id] = request.id, channel
        try:
            reply, received = await channel.request_fds(
                "exec",
                fds=fds,
                container=request.id,
                exec=request.exec_id,
                process=plan.exec_plan(request),
                stdio={"tty": request.tty, "rows": request.rows, "cols": request.cols},
            )
        except PannierError:
            self._execs.pop(request.exec_id, None)
            raise
        return Executed(reply["pid"], received[0] if received else None)

    async def exec_detached(self, request: ExecRequest) -> Executed:
        """``exec`` with nothing to read and its output thrown away."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            return await self.exec(request, [null, null, null])
        finally:
            os.close(null)

    async def kill_exec(self, container_id: str, exec_id: str, signal: int = 9) -> None:
        """Send *signal* to an exec'd process.

        Raises:
            NotFound: it has ended.
        """
        await self.request("kill_exec", container=container_id, exec=exec_id, signal=int(signal))

    async def resize(self, container_id: str, exec_id: str | None, rows: int, cols: int) -> None:
        """Tell a terminal its size in characters: the container's, or an exec's.

        Raises:
            Conflict: it has none.
        """
        await self.request("resize", container=container_id, exec=exec_id, rows=rows, cols=cols)

    async def stdin(self, container_id: str) -> int:
        """An fd to write its input to: a pipe, or the pty's master; the caller closes it.

        Raises:
            Conflict: it has none, or it was closed.
        """
        channel = await self._connected()
        _, fds = await channel.request_fds("stdin", container=container_id)
        return fds[0]

    async def close_stdin(self, container_id: str) -> None:
        """Let it read end of file, once the fds that ``stdin`` has given out are closed as well."""
        await self.request("close_stdin", container=container_id)

    async def list(self) -> list[Known]:
        """All containers that the keeper has: created, running, exited and not forgotten."""
        reply = await self.request("list")
        return [_known(entry) for entry in reply["containers"]]

    async def forget(self, container_id: str) -> None:
        """Drop an exited container; returns when its root file system is unmounted.

        Raises:
            Conflict: it has not exited.
        """
        await self.request("forget", container=container_id)

    def on_event(self, message: Message) -> None:
        """Pass an event on."""
        if message["event"] == "exit" and self.on_exit is not None:
            self.on_exit(_exit(message))
        elif message["event"] == "exec_exit":
            self._execs.pop(message["exec_id"], None)
            self._tell_exec_exit(message["id"], message["exec_id"], _exit_code(message))

    async def on_reconnect(self) -> None:
        """The keeper was restarted: tell what was missed meanwhile."""
        known = await self.list()
        for entry in known:
            if entry.exit is not None and self.on_exit is not None:
                self.on_exit(entry.exit)
        alive = {exec_id for entry in known for exec_id in entry.execs}
        # Those of the new connection may have begun after the list was made.
        earlier = [e for e, (_, channel) in self._execs.items() if channel.closed]
        for exec_id in earlier:
            if exec_id not in alive:
                self._tell_exec_exit(self._execs.pop(exec_id)[0], exec_id, _UNSEEN)

    def _tell_exec_exit(self, container_id: str, exec_id: str, code: int) -> None:
        if self.on_exec_exit is not None:
            self.on_exec_exit(ExecExit(container_id, exec_id, code))

    async def _stay_connected(self) -> None:
        """Events must arrive even when nobody asks for anything."""
        first = True
        while True:
            try:
                channel = await self._connected()
                if not first:
                    await self.on_reconnect()
            except Unavailable:
                continue
            first = False
            await channel.wait_closed()

    async def _compile(self, seccomp: Seccomp) -> bytes:
        known = compiled_before(seccomp)
        if known is not None:
            return known
        # tens of milliseconds the first time, and libseccomp does not let the loop run meanwhile
        return await asyncio.to_thread(compile_filter, seccomp, self._cache)


def host_facts() -> plan.HostFacts:
    """Look up what plans depend on."""
    found = (shutil.which(name) for name in _TINI)
    layout = cgroup.probe()
    hierarchies: dict[str, list[str]] = {}
    for controller, directory in layout.v1.items():
        hierarchies.setdefault(directory, []).append(controller)
    return plan.HostFacts(
        tini=next((path for path in found if path), ""),
        cgroup_v1=[(",".join(names), path) for path, names in hierarchies.items()],
        cgroup_v2=layout.v2 or "",
    )


def _exit_code(record: dict[str, Any]) -> int:
    return 128 + record["signal"] if record["signal"] else int(record["status"])


def _exit(record: dict[str, Any]) -> Exit:
    return Exit(
        id=record["id"],
        pid=record["pid"],
        exit_code=_exit_code(record),
        signal=record["signal"],
        oom_killed=record["oom"],
        time_ns=record["time_ns"],
        known=record.get("known", True),
    )


def _known(entry: dict[str, Any]) -> Known:
    return Known(
        id=entry["id"],
        state=entry["state"],
        pid=entry["pid"],
        start_time=entry["start_time"],
        started_ns=entry["started_ns"],
        replayed=entry["replayed"],
        exit=_exit(entry["exit"]) if entry["exit"] else None,
        execs=entry["execs"],
    )
