"""A further process in a running container: the parent's side of ``exec``.

It enters the container's control groups before its namespaces: once inside it could not any more.
The environment, user, capabilities and filter come from the plan alone, never from the keeper.
"""

from __future__ import annotations

import _socket
import os
import stat

from pannier.base.errors import InvalidArgument
from pannier.kernel import _libc, cgroup, idmap, namespaces, tty
from pannier.kernel._libc import CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER
from pannier.runtime import sources
from pannier.runtime.child import Child, Inheritance
from pannier.runtime.launch import Process, raise_hard_limit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, NoReturn

    from pannier.runtime.launch import Host

    Plan = Mapping[str, Any]


class ExecChild(Child):
    """The child's side."""

    def __init__(self, plan: Plan, inherited: Inheritance, pidfd: int, flags: int) -> None:
        super().__init__(plan, inherited)
        self._pidfd = pidfd
        self._flags = flags

    def keep(self) -> set[int]:
        return super().keep() | {self._pidfd}

    def join(self) -> None:
        """Enter the container and become the process."""
        plan = self._plan
        self._stage = "cgroup"
        cgroup.enter(self._inherited.cgroup_files)
        self._stage = "join"
        _libc.setns(self._pidfd, self._flags)
        os.close(self._pidfd)
        mapped = bool(self._flags & CLONE_NEWUSER)
        if mapped:
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            os.setgroups([])
        terminal = self._open_terminal() if plan["stdio"]["tty"] else -1
        self.finish_exec(terminal, mapped=mapped)

    def _open_terminal(self) -> int:
        self._stage = "console"
        stdio, process = self._plan["stdio"], self._plan["process"]
        # a container's own file system: the path cannot lead out of the mount namespace
        ptmx = os.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        master, slave = tty.from_ptmx(ptmx)
        if stdio["rows"] or stdio["cols"]:
            tty.set_size(master, stdio["rows"], stdio["cols"])
        os.fchown(slave, process["uid"], -1)
        self._tell({"stage": "console"}, [master])
        os.close(master)
        return slave


def start(
    host: Host, container: Plan, pid: int, pidfd: int, plan: Plan, fds: Sequence[int]
) -> Process:
    """Clone a process into a container; it tells when it is ready, like a container's first one.

    Args:
        host: facts.
        container: the plan of the container.
        pid: of its first process.
        pidfd: of the same.
        plan: ``process`` and ``stdio`` of the new process.
        fds: its stdin, stdout and stderr; empty with a terminal.

    Raises:
        PannierError: nothing is left behind.
    """
    _give_pipes(fds, container, plan)
    path = container["cgroup"]["path"] if container["cgroup"] else ""
    cgroup_fd, cgroup_files = host.cgroups(path).open_entry(path) if path else (-1, [])
    ours, theirs = _socket.socketpair(
        _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
    )
    ours.setblocking(False)
    inherited = Inheritance(theirs, fds, cgroup_files, host.permitted, host.last_cap)
    child = ExecChild(plan, inherited, pidfd, _join_flags(container))
    targets = []
    try:
        if "pid" in container["namespaces"]["new"] or "pid" in container["namespaces"]["join"]:
            targets.append((namespaces.open_namespace(pid, "pid"), CLONE_NEWPID))
        with namespaces.visiting(targets, host.anteroom.homes):
            made = Process(*_clone(child, cgroup_fd), ours)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        sources.close_all((cgroup_fd, *cgroup_files, *(fd for fd, _ in targets)))
    for number, _, hard, name in plan["process"]["rlimits"]:
        raise_hard_limit(made.pid, number, hard, name)
    return made


def _clone(child: ExecChild, cgroup_fd: int) -> tuple[int, int]:
    pid, pidfd = _libc.clone3(0, cgroup_fd=cgroup_fd)
    if pid == 0:
        _never_returns(child)
    return pid, pidfd


def _never_returns(child: ExecChild) -> NoReturn:
    child.run(child.join)


def _join_flags(container: Plan) -> int:
    """All namespaces that are not the host's; that of processes is entered before the clone."""
    kinds = {*container["namespaces"]["new"], *container["namespaces"]["join"]} - {"pid"}
    flags = CLONE_NEWNS
    for kind in kinds:
        flags |= namespaces.TYPES[kind][0]
    return flags


def _give_pipes(fds: Sequence[int], container: Plan, plan: Plan) -> None:
    """Programs reopen /dev/stdout, which the owner of the pipe alone may."""
    process, maps = plan["process"], container["maps"]
    try:
        uid, gid = process["uid"], process["gid"]
        if maps:
            uid, gid = idmap.to_host(uid, maps["uid"]), idmap.to_host(gid, maps["gid"])
    except ValueError as error:
        raise InvalidArgument(str(error)) from error
    for fd in fds:
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.fchown(fd, uid, gid)
