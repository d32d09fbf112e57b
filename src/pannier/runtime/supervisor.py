"""The supervisor process: starts the other small processes again when they die, keeps a second hand
on their file descriptors, and reaps the containers of a keeper that is gone.

Started as ``python -I -S supervisor.py --config <file>``; the file says which processes there are.
It runs nothing else, so it has no reason to die; if it is killed all the same, the others go on and
the next supervisor adopts them.

Requests: ``store``, ``fetch``, ``drop`` (file descriptors by key), ``configure``, ``status``,
``shutdown``. Event: ``exit`` of a container that only this process could reap.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time

if __name__ == "__main__":  # started by path, without site: the package is not found otherwise
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from pannier.base import jsonlite
from pannier.base.atomic import write_atomic
from pannier.base.errors import Conflict
from pannier.kernel import _libc
from pannier.runtime import channel, orphans
from pannier.runtime.loop import LATER, Loop, Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.runtime.loop import Request

_QUICK = 1.0  # seconds: a child that lives shorter several times is given pauses between starts
_FREE_STARTS = 3
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_END_TIMEOUT = 5.0  # seconds that a child has to end by SIGTERM
_STATE = "supervisor.json"


class Child:
    """One of the processes that are kept running."""

    def __init__(self, name: str, argv: list[str]) -> None:
        self.name = name
        self.argv = argv
        self.pid = 0
        self.pidfd = -1
        self.build = ""
        self.started = 0.0
        self.starts = 0
        self.quick_ends = 0


class Supervisor:
    """The process.

    Args:
        config: ``run`` (directory) and ``children`` (name -> argument list).
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self._run = str(config["run"])
        self.loop = Loop()
        self._stored: dict[str, list[int]] = {}
        self._children: dict[str, Child] = {}
        self._ending: Request | None = None
        self._builds: dict[str, str] = config.get("builds", {})
        self._replacing: set[str] = set()
        self._configuring: list[Request] = []
        self._watch_children()
        self._server = Server(
            self.loop,
            self._path("supervisor.sock"),
            {
                "store": self._on_store,
                "fetch": self._on_fetch,
                "drop": self._on_drop,
                "configure": self._on_configure,
                "status": self._on_status,
                "shutdown": self._on_shutdown,
            },
        )
        self._adopt(config["children"])
        self._set_children(config["children"])

    def _path(self, name: str) -> str:
        return os.path.join(self._run, name)

    # ------------------------------------------------------------ file descriptors

    def _on_store(self, request: Request) -> None:
        """Keep the file descriptors of the message by ``key``, in place of earlier ones."""
        key = request["key"]
        self._close_stored(key)
        self._stored[key] = request.take_fds()

    def _on_fetch(self, request: Request) -> None:
        """Reply with copies of what is kept by ``key``, maybe none."""
        request.reply_fds = self._stored.get(request["key"], [])

    def _on_drop(self, request: Request) -> None:
        self._close_stored(request["key"])

    def _close_stored(self, key: str) -> None:
        for fd in self._stored.pop(key, []):
            os.close(fd)

    # ------------------------------------------------------------ children

    def _watch_children(self) -> None:
        """SIGCHLD as a byte in a pipe: orphans are not known before they end."""
        read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        self.loop.add(read_end, lambda: self._reap(read_end))

    def _reap(self, pipe: int) -> None:
        os.read(pipe, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if all(child.pid != pid for child in self._children.values()):  # they have a pidfd
                self._orphan_ended(pid, status)

    def _orphan_ended(self, pid: int, status: int) -> None:
        record = orphans.record_exit(self._run, pid, status)
        if record is not None:
            self._server.broadcast(channel.event("exit", **record))

    def _adopt(self, commands: dict[str, list[str]]) -> None:
        """Take over what a supervisor that was killed has left running. These are no children of
        ours, which is why all are watched by pidfd."""
        try:
            with open(self._path(_STATE), "rb") as file:
                known = jsonlite.decode(file.read())
        except FileNotFoundError:
            return
        for name, (pid, start_time, *build) in known.items():
            if orphans.start_time(pid) != start_time:
                continue
            child = Child(name, commands.get(name, []))
            child.build = build[0] if build else ""  # an older supervisor wrote none
            try:
                self._watch(child, pid)
            except ProcessLookupError:
                continue
            self._children[name] = child

    def _watch(self, child: Child, pid: int) -> None:
        child.pidfd = os.pidfd_open(pid)
        child.pid, child.started = pid, time.monotonic()
        self.loop.add(child.pidfd, lambda: self._ended(child))

    def _set_children(self, commands: dict[str, list[str]]) -> None:
        for name, argv in commands.items():
            child = self._children.setdefault(name, Child(name, argv))
            child.argv = argv
            if not child.pid:
                self._start(child)

    def _start(self, child: Child) -> None:
        if self._ending is not None or child.pid:
            return
        log = self._path(f"{child.name}.log")
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawn(
            child.argv[0],
            child.argv,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, flags, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
        )
        self._watch(child, pid)
        child.build = self._builds.get(child.name, "")
        child.starts += 1
        self._save()

    def _ended(self, child: Child) -> None:
        self.loop.remove(child.pidfd)
        os.close(child.pidfd)
        child.pidfd = -1
        lived = time.monotonic() - child.started
        child.pid = 0
        if self._ending is not None:
            self._finish_shutdown()
            return
        child.quick_ends = 0 if lived > _QUICK else child.quick_ends + 1
        excess = child.quick_ends - _FREE_STARTS
        if excess <= 0:
            self._start(child)
        else:
            pause = min(_FIRST_PAUSE * 2**excess, _LONGEST_PAUSE)
            self.loop.call_later(pause, lambda: self._start(child))
        self._replacing.discard(child.name)
        self._answer_configured()

    def _save(self) -> None:
        running = {
            name: (child.pid, orphans.start_time(child.pid), child.build)
            for name, child in self._children.items()
            if child.pid
        }
        write_atomic(self._path(_STATE), jsonlite.encode(running))

    # ------------------------------------------------------------ requests

    def _on_configure(self, request: Request) -> dict[str, Any]:
        """Change what is started from now on: ``children``, of the code that ``builds`` names.

        A child that runs other code is replaced: each of them can be killed at any time, and the
        daemon is not to meet one that does not understand it. The reply comes when that is done.
        """
        self._builds = request.get("builds", self._builds)
        self._set_children(request["children"])
        for name, child in self._children.items():
            if child.pid and child.build != self._builds.get(name, child.build):
                self._replacing.add(name)
                _kill(child.pid, signal.SIGTERM)
        self._configuring.append(request)
        self._answer_configured()
        return LATER

    def _answer_configured(self) -> None:
        while self._configuring and not self._replacing:
            self._server.reply(self._configuring.pop(), {})

    def _on_status(self, request: Request) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "children": {
                name: {"pid": child.pid, "starts": child.starts, "argv": child.argv}
                for name, child in self._children.items()
            },
            "stored": {key: len(fds) for key, fds in self._stored.items()},
        }

    def _on_shutdown(self, request: Request) -> dict[str, Any]:
        """End all children and this process; the reply comes when the children are gone.

        Raises:
            Conflict: a container runs.
        """
        if orphans.any_running(self._run):
            raise Conflict("containers are running", hint="stop them first")
        self._ending = request
        for child in self._children.values():
            if child.pid:
                _kill(child.pid, signal.SIGTERM)
        self.loop.call_later(_END_TIMEOUT, self._kill_rest)
        self._finish_shutdown()
        return LATER

    def _kill_rest(self) -> None:
        for child in self._children.values():
            if child.pid:
                _kill(child.pid, signal.SIGKILL)

    def _finish_shutdown(self) -> None:
        if self._ending is None or any(child.pid for child in self._children.values()):
            return
        for name in ("supervisor.sock", _STATE, *(f"{c}.sock" for c in self._children)):
            try:
                os.unlink(self._path(name))
            except FileNotFoundError:
                continue
        self._server.reply(self._ending, {})
        self.loop.stop()


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _take_lock(run: str) -> int:
    """One supervisor for each run directory; -1 if there is one. The lock goes with the process."""
    fd = os.open(os.path.join(run, "supervisor.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return -1
    return fd


def _detach() -> int:
    """Leave whoever started us: they wait until the socket is there, init is the parent then.

    Returns:
        The file descriptor to write one byte to when all is ready.
    """
    ready, done = os.pipe2(os.O_CLOEXEC)
    if os.fork():
        os.close(done)
        os._exit(0 if os.read(ready, 1) else 1)
    os.close(ready)
    os.setsid()
    os.chdir("/")
    return done


def main() -> None:
    with open(sys.argv[2], "rb") as file:
        config = jsonlite.decode(file.read())
    if _take_lock(config["run"]) < 0:
        return
    done = -1 if "--foreground" in sys.argv else _detach()
    _libc.prctl(_libc.PR_SET_CHILD_SUBREAPER, 1)
    supervisor = Supervisor(config)
    if done >= 0:
        os.write(done, b"1")
        os.close(done)
    supervisor.loop.run()


if __name__ == "__main__":
    main()
