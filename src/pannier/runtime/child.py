"""The child's side of a launch: from clone to execve.

It lives in a copy of the keeper, imports nothing, and talks to it over one socket pair:

    keeper -> child   MAPPED when its ids are mapped; LINKS when its interfaces are made; MOUNTS
                      with the detached mounts; GO
    child -> keeper   {"stage": "console"} with a pty master; {"stage": "ready"};
                      {"stage": ..., "error": {...}}; end of file when it has executed

End of file from the keeper ends the child: one that nobody keeps a record of must not run.
"""

from __future__ import annotations

import _socket
import os
import signal
import struct
import sys

from pannier.base.errors import PannierError
from pannier.kernel import _libc, cgroup, tty
from pannier.runtime import channel, netsetup
from pannier.runtime.program import Program
from pannier.runtime.rootfs import STEPS, Scene

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, NoReturn

    Plan = Mapping[str, Any]

MAPPED, LINKS, MOUNTS, GO = b"I", b"L", b"M", b"G"
MAX_FDS = 250  # the kernel's SCM_MAX_FD is 253
_PYTHON_IGNORES = (signal.SIGPIPE, signal.SIGXFSZ)


class Inheritance:
    """What a child gets from its parent besides the plan.

    Args:
        sock: its end of the socket pair.
        stdio: fds of stdin, stdout and stderr; empty with a terminal.
        cgroup_files: of version 1, to enter before the cgroup namespace is unshared.
        permitted: capabilities of the parent, as a mask.
        last_cap: the highest capability of this kernel.
    """

    def __init__(
        self,
        sock: _socket.socket,
        stdio: Sequence[int],
        cgroup_files: Sequence[int],
        permitted: int,
        last_cap: int,
    ) -> None:
        self.sock = sock
        self.stdio = stdio
        self.cgroup_files = cgroup_files
        self.permitted = permitted
        self.last_cap = last_cap


class Child:
    """Runs a plan in this freshly cloned process; ``run`` never returns."""

    def __init__(self, plan: Plan, inherited: Inheritance) -> None:
        self._plan = plan
        self._sock = inherited.sock
        self._inherited = inherited
        self._stage = "start"

    def run(self, work: Callable[[], None]) -> NoReturn:
        """Do *work*; what it raises goes to the keeper, then this process is gone."""
        try:
            self._let_go()
            work()
        except (PannierError, OSError) as error:
            self._tell({"stage": self._stage, "error": channel.error_to_wire(error)})
        except EOFError:
            pass  # the keeper has given up on us
        except BaseException as error:  # nothing may return into the keeper's loop
            sys.excepthook(type(error), error, error.__traceback__)
            wire = channel.error_to_wire(Exception(f"{type(error).__name__}: {error}"))
            self._tell({"stage": self._stage, "error": wire})
        finally:
            os._exit(1)

    def container(self) -> None:
        """The whole way of a container's first process."""
        plan = self._plan
        os.umask(0)
        self._receive(MAPPED)
        mapped = bool(plan["maps"])
        if mapped:
            self._stage = "user namespace"
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            os.setgroups([])
        self._stage = "cgroup"
        cgroup.enter(self._inherited.cgroup_files)
        if "cgroup" in plan["namespaces"]["new"]:
            _libc.unshare(_libc.CLONE_NEWCGROUP)
        terminal = self._build()
        self._finish(plan["process"], terminal, mapped=mapped)

    def _build(self) -> int:
        """Carry out the steps; returns the terminal or -1."""
        plan = self._plan
        stdio, process = plan["stdio"], plan["process"]
        scene = Scene(
            (process["uid"], process["gid"]),
            (stdio["rows"], stdio["cols"]),
            self._tell,
            self._configure,
        )
        self._take(scene, plan["early"])
        self._stage = "root"
        root, *received = self._receive(MOUNTS)
        scene.collect(plan["sources"], received)
        scene.enter(root)
        self._take(scene, plan["steps"])
        return scene.terminal

    def _take(self, scene: Scene, steps: Sequence[Mapping[str, Any]]) -> None:
        for step in steps:
            self._stage = f"{step['do']} {step.get('target', '')}".rstrip()
            STEPS[step["do"]](scene, step)

    def _configure(self) -> None:
        self._receive(LINKS)
        netsetup.configure(self._plan["interfaces"])

    def finish_exec(self, terminal: int, *, mapped: bool) -> None:
        """The rest of the way of an exec'd process, which has joined its namespaces."""
        self._finish(self._plan["process"], terminal, mapped=mapped)

    def _finish(self, plan: Plan, terminal: int, *, mapped: bool) -> None:
        self._stage = "process"
        os.setsid()
        # a user namespace gives its creator's child every capability in it
        every = (1 << (self._inherited.last_cap + 1)) - 1
        program = Program(
            plan,
            permitted=every if mapped else self._inherited.permitted,
            last_cap=self._inherited.last_cap,
        )
        program.prepare()
        self._stage = "ready"
        self._tell({"stage": "ready"})
        self._receive(GO)
        self._stage = "exec"
        self._wire_stdio(terminal)
        for number in _PYTHON_IGNORES:
            signal.signal(number, signal.SIG_DFL)
        program.execute()

    def _wire_stdio(self, terminal: int) -> None:
        if terminal >= 0:
            tty.make_controlling(terminal)
            stdio: Sequence[int] = (terminal, terminal, terminal)
        else:
            stdio = self._inherited.stdio
        # our socket may sit on 0 to 2 only if the keeper itself lacked these; it never does
        for number, fd in enumerate(stdio):
            os.dup2(fd, number, inheritable=True)
        _libc.close_range(3, flags=_libc.CLOSE_RANGE_CLOEXEC)

    # -------------------------------------------------------------- talking

    def keep(self) -> set[int]:
        """The inherited files that are still needed."""
        inherited = self._inherited
        return {self._sock.fileno(), *inherited.stdio, *inherited.cgroup_files}

    def _let_go(self) -> None:
        """Close what belongs to the keeper and to other containers: above all their pipes."""
        first = 3
        for fd in sorted(fd for fd in self.keep() if fd >= first):
            if fd > first:
                _libc.close_range(first, fd - 1)
            first = fd + 1
        _libc.close_range(first)

    def _tell(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        packet = channel.encode({"v": channel.VERSION, **message})
        self._sock.sendmsg([packet], channel.ancillary(fds), _socket.MSG_NOSIGNAL)

    def _receive(self, expected: bytes) -> list[int]:
        """Wait for the keeper's next word; returns the fds that came with it."""
        space = _socket.CMSG_SPACE(MAX_FDS * 4)
        data, control, _, _ = self._sock.recvmsg(1, space, _socket.MSG_CMSG_CLOEXEC)
        if data != expected:
            raise EOFError
        fds: list[int] = []
        for _, _, rights in control:
            fds += struct.unpack(f"={len(rights) // 4}i", rights)
        return fds
