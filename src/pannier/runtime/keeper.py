"""The keeper process: parent of every container. It clones, lets go, waits, and notes the end.

Single-threaded, standard library only, never blocked by the daemon. It runs from a read-only bind
of the interpreter, is not dumpable, and its memory is frozen for the garbage collector, so that its
children share it. What can be killed, can be killed: containers live on, the supervisor reaps them,
and the next keeper takes them over from the records on disk.

Requests: ``create start discard kill exec kill_exec resize stdin close_stdin list forget``. Events:
``exit`` and ``exec_exit``. Started as ``python -I -S keeper.py RUN_DIRECTORY``.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time

if __name__ == "__main__":  # started by path, without site: the package is not found otherwise
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from pannier.base.errors import Conflict, NotFound, PannierError
from pannier.kernel import _libc, cgroup, process
from pannier.runtime import adoption, anteroom, channel, launch, replay
from pannier.runtime.container import CREATED, CREATING, EXITED, RUNNING, Container
from pannier.runtime.execs import Execs
from pannier.runtime.fdstore import FdStore
from pannier.runtime.loop import LATER, Loop, Request, Server
from pannier.runtime.records import Records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pannier.runtime.launch import Process

_SIGKILL = 9


class Keeper:
    """The process.

    Args:
        run: directory of the instance.
        host: facts.
    """

    def __init__(self, run: str, host: launch.Host) -> None:
        self.host = host
        self.loop = Loop()
        self.records = Records(run)
        self.run_directory = run
        self.store = FdStore(self.loop, os.path.join(run, "supervisor.sock"))
        self.containers: dict[str, Container] = {}
        self._starting: dict[str, Request] = {}
        self._discarding: dict[str, list[Request]] = {}
        self._draining: dict[str, list[Callable[[], None]]] = {}
        self.execs = Execs(self)
        self.server = Server(
            self.loop,
            os.path.join(run, "keeper.sock"),
            {
                "create": self._on_create,
                "start": self._on_start,
                "discard": self._on_discard,
                "kill": self._on_kill,
                "exec": self.execs.on_exec,
                "kill_exec": self.execs.on_kill,
                "resize": self._on_resize,
                "stdin": self._on_stdin,
                "close_stdin": self._on_close_stdin,
                "list": self._on_list,
                "forget": self._on_forget,
            },
        )
        adoption.adopt(self)

    def get(self, container_id: str) -> Container:
        """
        Raises:
            NotFound: the keeper does not have it.
        """
        container = self.containers.get(container_id)
        if container is None:
            raise NotFound(f"container {container_id} is not running")
        return container

    # ------------------------------------------------------------ create and start

    def _on_create(self, request: Request) -> dict[str, Any]:
        """``plan``: clone the first process and prepare everything; it waits for ``start``.

        Replies with ``pid`` and ``start_time``.
        """
        plan = request["plan"]
        container_id = plan["id"]
        self._check_free(container_id)
        self._when_drained(container_id, lambda: self._create(request, plan))
        return LATER

    def _check_free(self, container_id: str) -> None:
        known = self.containers.get(container_id)
        if known is not None and known.state != EXITED:
            raise Conflict(f"container {container_id} is {known.state} already")

    def _create(self, request: Request, plan: dict[str, Any]) -> None:
        def answer(result: dict[str, Any] | PannierError) -> None:
            self.server.reply(request, result)

        try:
            self._check_free(plan["id"])
            self.create(plan, answer)
        except (PannierError, OSError) as error:
            self.server.reply(request, error)

    def create(
        self, plan: dict[str, Any], answer: Callable[[dict[str, Any] | PannierError], None]
    ) -> None:
        """Carry out *plan* up to the go; *answer* gets the reply or the error."""
        earlier = self.containers.pop(plan["id"], None)
        if earlier is not None:
            earlier.close()
        container = Container(plan["id"], plan, self.store)
        self.containers[container.id] = container
        try:
            made = container.launch(self.host, self.records.begin(container.id, plan))
        except (PannierError, OSError):
            self._remove(container)
            raise
        self.loop.add(made.sock.fileno(), lambda: self._child_talks(container, made, answer))

    def _child_talks(
        self,
        container: Container,
        made: Process,
        answer: Callable[[dict[str, Any] | PannierError], None],
    ) -> None:
        """Messages of a first process before its go."""
        try:
            received = made.receive()
        except BlockingIOError:
            return
        if received is None:
            self._failed(container, made, launch.died(container.state), answer)
        elif "error" in received[0]:
            self._failed(container, made, launch.failure(received[0]), answer)
        elif received[0]["stage"] == "console":
            container.terminal.set(received[1][0])
        else:
            container.ready(made)
            answer({"pid": container.pid, "start_time": container.start_time})

    def _failed(
        self,
        container: Container,
        made: Process,
        error: PannierError,
        answer: Callable[[dict[str, Any] | PannierError], None],
    ) -> None:
        """It never ran: nothing may be left of it."""
        self.loop.remove(made.sock.fileno())
        self.loop.remove(made.pidfd)
        container.abandon()
        self._remove(container)
        starting = self._starting.pop(container.id, None)
        if starting is not None:
            self.server.reply(starting, error)
        else:
            answer(error)
        self._discarded(container.id)

    def _remove(self, container: Container) -> None:
        container.close()
        self.containers.pop(container.id, None)
        self.records.erase(container.id)

    def _on_start(self, request: Request) -> dict[str, Any]:
        """``container``: let it run. Replies when it has executed its program."""
        container = self.get(request["container"])
        if container.state != CREATED:
            raise Conflict(f"container {container.id} is {container.state}, it cannot be started")
        self._starting[container.id] = request
        self.start(container)
        return LATER

    def start(self, container: Container) -> None:
        """Write the pid record, then let *container* run."""
        record = self.records.write_pid(
            container.id, container.pid, container.start_time, container.cgroup
        )
        container.started_ns = record["started_ns"]
        made = container.go()
        self.loop.remove(made.sock.fileno())
        self.loop.add(made.sock.fileno(), lambda: self._executing(container, made))
        self.loop.add(container.pidfd, lambda: self._exited(container))

    def _executing(self, container: Container, made: Process) -> None:
        """The socket closes by itself in execve; before that there can only be an error."""
        try:
            received = made.receive()
        except BlockingIOError:
            return
        if received is not None and "error" in received[0]:
            self._failed(container, made, launch.failure(received[0]), lambda _: None)
            return
        self.loop.remove(made.sock.fileno())
        container.executed()
        starting = self._starting.pop(container.id, None)
        if starting is not None:
            self.server.reply(starting, {"started_ns": container.started_ns})

    # ------------------------------------------------------------ the end

    def _exited(self, container: Container) -> None:
        launching = container.launching
        if launching is not None and launching.process is not None:
            # what the child has said before its end comes first
            self._executing(container, launching.process)
            if container.id not in self.containers:
                return
        try:
            status = process.reap(container.pidfd)
        except ChildProcessError:
            adoption.settle(self, container)
            return
        if status is not None:
            self.ended(container, self.exit_record(container, *status))

    def exit_record(
        self, container: Container, code: int, number: int, *, known: bool = True
    ) -> dict[str, Any]:
        """What ``exit.json`` holds: *code*, or the signal *number* that ended it."""
        path = container.cgroup
        return {
            "id": container.id,
            "pid": container.pid,
            "status": code,
            "signal": number,
            "oom": bool(path) and self.host.cgroups(path).oom_kills(path) > 0,
            "time_ns": time.time_ns(),
            "known": known,
        }

    def ended(self, container: Container, record: dict[str, Any], *, write: bool = True) -> None:
        """Write the exit down, then tell it, unless it was asked for by ``discard``."""
        if write:
            self.records.write_exit(container.id, record)
        self.loop.remove(container.pidfd)
        container.ended(record)
        discarded = container.id in self._discarding
        if not discarded:
            self.server.broadcast(channel.event("exit", **record))
        self._drain(container)
        if discarded:
            self._erase_discarded(container)
        elif replay.wanted(container, record) and not self.server.peers:
            self._when_drained(container.id, lambda: replay.begin(self, container))

    def _drain(self, container: Container) -> None:
        helper = container.drain()
        if helper is None:
            return
        pid, pidfd = helper
        self._draining[container.id] = []

        def drained() -> None:
            self.loop.remove(pidfd)
            os.close(pidfd)
            os.waitpid(pid, 0)
            for then in self._draining.pop(container.id):
                then()

        self.loop.add(pidfd, drained)

    def _when_drained(self, container_id: str, then: Callable[[], None]) -> None:
        """Two overlays on one upper directory are undefined; the kernel does not refuse them."""
        waiting = self._draining.get(container_id)
        if waiting is None:
            then()
        else:
            waiting.append(then)

    def _on_discard(self, request: Request) -> dict[str, Any]:
        """``container``: end it in whatever state it is, and forget it. Unknown ones are fine."""
        container_id = request["container"]
        container = self.containers.get(container_id)
        if container is None:
            self.records.erase(container_id)
            self._when_drained(container_id, lambda: self.server.reply(request, {}))
            return LATER
        self._discarding.setdefault(container_id, []).append(request)
        if container.state in (CREATING, CREATED):
            self._forget_unstarted(container)
        elif container.state == RUNNING:
            try:
                container.signal(_SIGKILL)
            except NotFound:  # it has ended already, which is about to be noticed
                return LATER
        else:
            self._erase_discarded(container)
        return LATER

    def _forget_unstarted(self, container: Container) -> None:
        launching = container.launching
        if launching is not None and launching.process is not None:
            self.loop.remove(launching.process.sock.fileno())
        container.abandon()
        self._remove(container)
        self._discarded(container.id)

    def _erase_discarded(self, container: Container) -> None:
        path = container.cgroup
        self._remove(container)
        if path:
            manager = self.host.cgroups(path)
            manager.kill(path)
            manager.remove(path, timeout=1.0)
        self._discarded(container.id)

    def _discarded(self, container_id: str) -> None:
        for request in self._discarding.pop(container_id, []):
            self._when_drained(container_id, self._replier(request))

    def _replier(self, request: Request) -> Callable[[], None]:
        return lambda: self.server.reply(request, {})

    def _on_forget(self, request: Request) -> dict[str, Any]:
        """``container``: drop an exited one. Replies when its root file system is unmounted."""
        container = self.containers.get(request["container"])
        if container is not None:
            if container.state != EXITED:
                raise Conflict(f"container {container.id} is {container.state}")
            self._remove(container)
        self._when_drained(request["container"], self._replier(request))
        return LATER

    # ------------------------------------------------------------ while it runs

    def _on_kill(self, request: Request) -> None:
        """``container``, ``signal``: send it to the first process."""
        self.get(request["container"]).signal(int(request["signal"]))

    def _on_resize(self, request: Request) -> None:
        """``container``, ``exec`` or null, ``rows``, ``cols``."""
        container = self.get(request["container"])
        exec_id = request.get("exec")
        owner = self.execs.get(container, exec_id) if exec_id else container
        owner.terminal.resize(int(request["rows"]), int(request["cols"]))

    def _on_stdin(self, request: Request) -> None:
        """``container``: replies with the fd to write its input to, or the pty master."""
        request.reply_fds = [self.get(request["container"]).input()]

    def _on_close_stdin(self, request: Request) -> None:
        self.get(request["container"]).close_input()

    def _on_list(self, _: Request) -> dict[str, Any]:
        return {
            "containers": [
                {
                    "id": container.id,
                    "state": container.state,
                    "pid": container.pid,
                    "start_time": container.start_time,
                    "started_ns": container.started_ns,
                    "replayed": container.replayed,
                    "exit": container.exit,
                    "execs": [e.id for e in container.execs.values() if e.running],
                }
                for container in self.containers.values()
                if container.state != CREATING
            ]
        }


def _reset_signals() -> None:
    """What a program finds ignored, it keeps ignoring: children must not inherit that from us."""
    for number in range(1, signal.NSIG):
        # Python itself ignores these two; the child takes care of them
        if number in (signal.SIGPIPE, signal.SIGXFSZ):
            continue
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def main() -> None:
    host_mounts = anteroom.isolate(sys.argv)
    _libc.prctl(_libc.PR_SET_DUMPABLE, 0)
    os.umask(0o022)
    os.chdir("/")
    _reset_signals()
    run = sys.argv[1]
    room = anteroom.Anteroom(host_mounts)
    keeper = Keeper(run, launch.Host(room, cgroup.probe(), os.path.join(run, "nodes")))
    gc.collect()
    gc.freeze()
    keeper.loop.run()


if __name__ == "__main__":
    main()
