"""One container in the keeper: its process, its files, its state.

    creating --> created --> running --> exited
        |           |
        `-----------`--> gone (failed or discarded: nothing is left)

Who is told what, and when, is decided in ``runtime.keeper``.
"""

from __future__ import annotations

import os
import signal

from pannier.base.errors import Conflict, NotFound
from pannier.kernel import _libc, process, tty
from pannier.runtime import launch
from pannier.runtime.child import GO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pannier.runtime.fdstore import FdStore
    from pannier.runtime.launch import Host, Launching, Process

    Plan = Mapping[str, Any]

CREATING, CREATED, RUNNING, EXITED = "creating", "created", "running", "exited"


class Terminal:
    """A pty master, or none (-1), with a copy in the supervisor's store."""

    def __init__(self, store: FdStore | None = None, key: str = "") -> None:
        self._store = store
        self._key = key
        self.fd = -1

    def set(self, fd: int) -> None:
        self.fd = fd
        if self._store is not None:
            self._store.store(self._key, [fd])

    def resize(self, rows: int, columns: int) -> None:
        """
        Raises:
            Conflict: there is no terminal.
        """
        if self.fd < 0:
            raise Conflict("it has no terminal to resize")
        tty.set_size(self.fd, rows, columns)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            if self._store is not None:
                self._store.drop(self._key)


class Execution:
    """An exec'd process."""

    def __init__(self, exec_id: str, made: Process) -> None:
        self.id = exec_id
        self.process = made
        self.terminal = Terminal()
        self.running = False

    def close(self) -> None:
        self.process.close()
        self.terminal.close()


class Container:
    """See the module.

    Args:
        container_id: its id.
        plan: what was or is carried out.
        store: of the supervisor.
    """

    def __init__(self, container_id: str, plan: Plan, store: FdStore) -> None:
        self.id = container_id
        self.plan = plan
        self.state = CREATING
        self.pid = 0
        self.pidfd = -1
        self.start_time = 0
        self.started_ns = 0
        self.replayed = False
        self.exit: dict[str, Any] | None = None
        self.execs: dict[str, Execution] = {}
        self.launching: Launching | None = None
        self.terminal = Terminal(store, f"tty-{container_id}")
        self._store = store
        self._stdin = -1
        self._outputs: list[int] = []
        self._root = -1

    @property
    def cgroup(self) -> str:
        return self.plan["cgroup"]["path"] if self.plan["cgroup"] else ""

    # -------------------------------------------------------------- start

    def launch(self, host: Host, directory: str) -> Process:
        """Clone its first process, which tells when it is ready."""
        self.launching = launch.Launching(host, self.plan, directory)
        return self.launching.start()

    def ready(self, made: Process) -> None:
        """Its first process waits for the go."""
        assert self.launching is not None
        self.state = CREATED
        self.pid, self.pidfd = made.pid, made.pidfd
        self.start_time = process.start_time(made.pid)
        pipes = self.launching.pipes
        self._stdin, self._outputs = pipes.stdin, pipes.outputs
        self._root = self.launching.root
        if self._stdin >= 0:
            self._store.store(f"stdin-{self.id}", [self._stdin])
        if self._outputs:
            self._store.store(f"output-{self.id}", self._outputs)

    def go(self) -> Process:
        """Let it run; whether it could execute its program shows on the process' socket.

        Raises:
            Conflict: it runs, or has ended.
        """
        if self.state != CREATED or self.launching is None or self.launching.process is None:
            raise Conflict(f"container {self.id} is {self.state}, it cannot be started")
        self.state = RUNNING
        self.launching.process.tell(GO)
        return self.launching.process

    def executed(self) -> None:
        """The program has taken over: nothing of the launch is needed any more."""
        if self.launching is not None and self.launching.process is not None:
            self.launching.process.sock.close()
        self.launching = None

    def abandon(self) -> None:
        """Take everything back that ``launch`` has made."""
        if self.launching is not None:
            self.launching.abandon()
            self.launching = None
            # abandon() has closed these
            self.pidfd = self._stdin = self._root = -1
            self._outputs = []
        self.close()

    def adopt(self, record: Mapping[str, Any], pidfd: int) -> None:
        """Take over a container that an earlier keeper has started."""
        self.pid, self.start_time = record["pid"], record["start_time"]
        self.started_ns = record.get("started_ns", 0)
        self.pidfd = pidfd
        self.state = RUNNING
        self.fetch()

    def fetch(self) -> None:
        """Get its files back from the supervisor's store."""
        self.terminal.fd = _one(self._store.fetch(f"tty-{self.id}"))
        self._stdin = _one(self._store.fetch(f"stdin-{self.id}"))
        self._outputs = self._store.fetch(f"output-{self.id}")

    # -------------------------------------------------------------- while it runs

    def signal(self, number: int) -> None:
        """
        Raises:
            NotFound: it does not run.
        """
        if self.pidfd < 0 or self.state not in (CREATED, RUNNING):
            raise NotFound(f"container {self.id} is not running")
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError as error:
            raise NotFound(f"container {self.id} is not running") from error

    def input(self) -> int:
        """The fd to write its standard input to; it stays the container's.

        Raises:
            Conflict: it has none, or it was closed.
        """
        fd = self.terminal.fd if self.terminal.fd >= 0 else self._stdin
        if fd < 0:
            raise Conflict(f"container {self.id} has no open standard input")
        return fd

    def close_input(self) -> None:
        """Let it read end of file, once everybody else who writes has closed too."""
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1
            self._store.drop(f"stdin-{self.id}")

    # -------------------------------------------------------------- end

    def ended(self, record: dict[str, Any]) -> None:
        """Its first process is gone."""
        self.state = EXITED
        self.exit = record
        self.executed()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        self.close_input()

    def drain(self) -> tuple[int, int] | None:
        """Have the last hold on its root file system let go by a process of its own.

        An overlay that is not volatile writes the whole file system below it to disk when it is
        unmounted: tens of milliseconds that would otherwise be part of every exit.

        Returns:
            (pid, pidfd) of that process, None if there is nothing to wait for.
        """
        root, self._root = self._root, -1
        if root < 0:
            return None
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        pid, pidfd = _libc.clone3(0)
        if pid == 0:
            os.close(write_end)
            os.read(read_end, 1)  # ends when the parent has closed its hold: ours is the last
            os._exit(0)
        for fd in (root, read_end, write_end):
            os.close(fd)
        return pid, pidfd

    def close(self) -> None:
        """Let go of all files, here and in the supervisor's store."""
        self.close_input()
        self.terminal.close()
        for fd in (*self._outputs, self.pidfd, self._root):
            if fd >= 0:
                os.close(fd)
        self._outputs, self.pidfd, self._root = [], -1, -1
        self._store.drop(f"output-{self.id}")
        for execution in self.execs.values():
            execution.close()
        self.execs.clear()


def _one(fds: list[int]) -> int:
    for fd in fds[1:]:
        os.close(fd)
    return fds[0] if fds else -1
