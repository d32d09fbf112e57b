"""Exec'd processes in the keeper: from the request to their end."""

from __future__ import annotations

import signal

from pannier.base.errors import Conflict, NotFound, PannierError
from pannier.kernel import process
from pannier.runtime import channel, execution, launch
from pannier.runtime.child import GO
from pannier.runtime.container import RUNNING, Container, Execution
from pannier.runtime.loop import LATER, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.runtime.keeper import Keeper


# What every process of a container has in common with its first one.
_INHERITED = ("seccomp", "rlimits", "oom_score_adj")


class Execs:
    """Their requests and events."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def on_exec(self, request: Request) -> dict[str, Any]:
        """``container``, ``exec``, ``process``, ``stdio``, with three fds unless it has a terminal.

        Replies with ``pid``, and the pty master, when it has executed its program.
        """
        container = self._keeper.get(request["container"])
        if container.state != RUNNING:
            raise Conflict(f"container {container.id} is not running")
        exec_id = request["exec"]
        if exec_id in container.execs:
            raise Conflict(f"exec {exec_id} exists already")
        inherited = {name: container.plan["process"][name] for name in _INHERITED}
        plan = {"process": {**request["process"], **inherited}, "stdio": request["stdio"]}
        made = execution.start(
            self._keeper.host, container.plan, container.pid, container.pidfd, plan, request.fds
        )
        run = container.execs[exec_id] = Execution(exec_id, made)
        self._keeper.loop.add(made.sock.fileno(), lambda: self._talks(container, run, request))
        return LATER

    def _talks(self, container: Container, run: Execution, request: Request) -> None:
        made = run.process
        try:
            received = made.receive()
        except BlockingIOError:
            return
        if received is None and run.running:
            self._started(container, run, request)
        elif received is None:
            self._failed(container, run, request, launch.died("exec"))
        elif "error" in received[0]:
            self._failed(container, run, request, launch.failure(received[0]))
        elif received[0]["stage"] == "console":
            run.terminal.set(received[1][0])
        else:
            run.running = True
            made.tell(GO)

    def _started(self, container: Container, run: Execution, request: Request) -> None:
        self._keeper.loop.remove(run.process.sock.fileno())
        run.process.sock.close()
        if run.terminal.fd >= 0:
            request.reply_fds = [run.terminal.fd]
        self._keeper.server.reply(request, {"pid": run.process.pid})
        self._keeper.loop.add(run.process.pidfd, lambda: self._exited(container, run))

    def _failed(
        self, container: Container, run: Execution, request: Request, error: PannierError
    ) -> None:
        self._keeper.loop.remove(run.process.sock.fileno())
        run.process.kill()
        run.close()
        container.execs.pop(run.id, None)
        self._keeper.server.reply(request, error)

    def _exited(self, container: Container, run: Execution) -> None:
        status = process.reap(run.process.pidfd)
        if status is None:
            return
        self._keeper.loop.remove(run.process.pidfd)
        container.execs.pop(run.id, None)
        code, number = status
        facts = {"id": container.id, "exec_id": run.id, "pid": run.process.pid}
        run.close()
        self._keeper.server.broadcast(
            channel.event("exec_exit", **facts, status=code, signal=number)
        )

    def get(self, container: Container, exec_id: str) -> Execution:
        run = container.execs.get(exec_id)
        if run is None:
            raise NotFound(f"No such exec instance: {exec_id}")
        return run

    def on_kill(self, request: Request) -> None:
        """``container``, ``exec``, ``signal``."""
        container = self._keeper.get(request["container"])
        run = self.get(container, request["exec"])
        try:
            signal.pidfd_send_signal(run.process.pidfd, int(request["signal"]))
        except ProcessLookupError as error:
            raise NotFound(f"exec {run.id} has ended") from error
