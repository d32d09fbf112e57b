"""The parent's side of a launch: namespaces, id maps, mounts from the host, cgroup, interfaces.

One executor for the keeper and for ``pannier-runtime``: single-threaded, and never waiting for the
child, whose messages the caller awaits by polling. ``runtime.child`` is the other side.
"""

from __future__ import annotations

import _socket
import errno
import os
import resource
import signal

from pannier.base.errors import Conflict, InvalidArgument, KernelError, PannierError
from pannier.kernel import _libc, capabilities, cgroup, idmap, namespaces, process
from pannier.kernel._libc import CLONE_NEWNS, CLONE_NEWUSER, CLONE_PARENT
from pannier.runtime import channel, netsetup, sources
from pannier.runtime.child import LINKS, MAPPED, MAX_FDS, MOUNTS, Child, Inheritance
from pannier.runtime.program import limit_refused
from pannier.runtime.stdio import Pipes, open_pipes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, NoReturn

    from pannier.kernel.cgroup import Layout
    from pannier.runtime.anteroom import Anteroom

    Plan = Mapping[str, Any]

_REAP_OPTIONS = os.WEXITED
_ENTRY_TIMEOUT = 0.5  # seconds to wait for the last life's processes to leave the cgroup
_MESSAGE = 1 << 16


class Host:
    """What every launch needs to know about this host and process; made once.

    Args:
        anteroom: mount namespaces to visit.
        layout: of the control groups.
        nodes: a directory to keep device nodes in.
    """

    def __init__(self, anteroom: Anteroom, layout: Layout, nodes: str) -> None:
        self.anteroom = anteroom
        self.layout = layout
        self.nodes = nodes
        self.last_cap = capabilities.last_capability()
        self.permitted = capabilities.permitted(process.read_file("/proc/self/status"))

    def cgroups(self, path: str) -> cgroup.CgroupManager:
        """The manager for a container's cgroup *path*."""
        return cgroup.CgroupManager(self.layout, path.partition("/")[0])


class Process:
    """A cloned child that has not executed its program yet, and the parent's end of its socket."""

    def __init__(self, pid: int, pidfd: int, sock: _socket.socket) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.sock = sock
        self._buffer = bytearray(_MESSAGE)

    def tell(self, word: bytes, fds: Sequence[int] = ()) -> None:
        """Send a word of ``runtime.child``; a child that is gone is noticed by reading."""
        try:
            self.sock.sendmsg([word], channel.ancillary(fds), _socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError):
            return

    def receive(self) -> tuple[dict[str, Any], list[int]] | None:
        """Its next message; None at the end: it has executed, or died.

        Raises:
            BlockingIOError: nothing there yet.
        """
        try:
            return channel.receive(self.sock, self._buffer)
        except ConnectionResetError:
            return None

    def kill(self) -> None:
        """End it and wait for that, which takes a moment only: it runs no foreign code yet."""
        try:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            os.waitid(os.P_PIDFD, self.pidfd, _REAP_OPTIONS)
        except (ProcessLookupError, ChildProcessError):
            pass
        self.close()

    def close(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        self.sock.close()


def failure(message: Mapping[str, Any]) -> PannierError:
    """The error in a child's message, with the stage it happened in."""
    error = channel.error_from_wire(message["error"])
    error.fields.setdefault("stage", message.get("stage", ""))
    return error


def died(stage: str) -> PannierError:
    """The error for a child that ended without a word, which only a SIGKILL from outside does."""
    return InvalidArgument(
        f"the first process ended before it could run its program (after {stage!r})",
        hint="was it killed, or is a memory limit too small to start anything?",
    )


# ------------------------------------------------------------------ containers


class Launching:
    """One container on its way; what it has made is taken back by ``abandon``.

    Args:
        host: facts.
        plan: from ``runtime.plan``.
        directory: of the container below the run directory; it exists.

    Attributes:
        root: a hold on the root file system that outlives the container, or -1.
        pipes: its standard files.
        process: the child.
    """

    def __init__(self, host: Host, plan: Plan, directory: str) -> None:
        self._host = host
        self._plan = plan
        self._directory = directory
        self._userns = -1
        self._birthplace = -1
        self._made_cgroup = False
        self.root = -1
        self.pipes = Pipes([], -1, [])
        self.process: Process | None = None

    def start(self) -> Process:
        """Clone the child and give it everything; it tells when it is ready.

        Raises:
            PannierError: nothing is left behind.
        """
        try:
            return self._start()
        except OSError as error:
            self.abandon()
            if isinstance(error, KernelError):
                raise
            raise KernelError(error.errno or 0, "launch", error.filename) from error
        except (PannierError, ValueError) as error:
            self.abandon()
            if isinstance(error, PannierError):
                raise
            raise InvalidArgument(str(error)) from error

    def abandon(self) -> None:
        """End the child and take back what was made."""
        if self.process is not None:
            self.process.kill()
            self.process = None
        self.pipes.close()
        self._close_birthplace()
        self._close_userns()
        sources.close_all([self.root])
        self.root = -1
        if self._made_cgroup:
            path = self._plan["cgroup"]["path"]
            self._host.cgroups(path).remove(path)
            self._made_cgroup = False

    def _start(self) -> Process:
        plan = self._plan
        entry = self._enter_cgroup()
        try:
            self.pipes = open_pipes(self._directory, plan)
            self._lock_mounts()
            made = self.process = self._clone(*entry)
        finally:
            sources.close_all((entry[0], *entry[1]))
        self.pipes.close_child()
        self._close_birthplace()
        self._map_ids(made.pid)
        self._raise_limits(made.pid)
        made.tell(MAPPED)
        if "network" in plan["namespaces"]["new"]:
            netsetup.create_links(plan["interfaces"], made.pid)
            made.tell(LINKS)
        self._hand_mounts(made)
        self._close_userns()
        return made

    def _enter_cgroup(self) -> tuple[int, list[int]]:
        wanted = self._plan["cgroup"]
        if wanted is None:
            return -1, []
        path = wanted["path"]
        manager = self._host.cgroups(path)
        owner = self._owner() if wanted["owned"] and self._plan["maps"] else None
        try:
            manager.create(path, owner=owner)
        except KernelError as error:
            if error.errno != errno.EEXIST:
                raise
            self._replace_cgroup(manager, path, owner)
        self._made_cgroup = True
        manager.apply(path, wanted["resources"])
        return manager.open_entry(path)

    def _replace_cgroup(
        self, manager: cgroup.CgroupManager, path: str, owner: tuple[int, int] | None
    ) -> None:
        """Its last life's clean-up is not through yet, or was lost with the stager."""
        if not manager.wait_empty(path, _ENTRY_TIMEOUT):
            raise Conflict(f"processes of an earlier life are still in control group {path}")
        manager.remove(path)
        manager.create(path, owner=owner)

    def _owner(self) -> tuple[int, int]:
        maps = self._plan["maps"]
        return idmap.to_host(0, maps["uid"]), idmap.to_host(0, maps["gid"])

    # -------------------------------------------------------------- clone

    def _clone(self, cgroup_fd: int, cgroup_files: list[int]) -> Process:
        plan = self._plan
        ours, theirs = _socket.socketpair(
            _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
        )
        host = self._host
        inherited = Inheritance(
            theirs, self.pipes.child, cgroup_files, host.permitted, host.last_cap
        )
        child = Child(plan, inherited)
        ours.setblocking(False)
        join = dict(plan["namespaces"]["join"])
        user_path = join.pop("user", None)
        if self._userns >= 0:
            user_path = f"/proc/self/fd/{self._userns}"
        flags = _clone_flags(plan["namespaces"]["new"])
        if user_path is not None:
            flags &= ~CLONE_NEWUSER
        opened = [(os.open(path, os.O_RDONLY | os.O_CLOEXEC), kind) for kind, path in join.items()]
        targets = [(fd, namespaces.TYPES[kind][0]) for fd, kind in opened]
        birthplace = self._birthplace if self._birthplace >= 0 else host.anteroom.small
        targets.append((birthplace, CLONE_NEWNS))
        try:
            with namespaces.visiting(targets, host.anteroom.homes):
                if user_path is None:
                    pid, pidfd = _clone_one(flags, cgroup_fd, lambda: child.run(child.container))
                else:
                    pid, pidfd = _clone_into(
                        user_path, flags, cgroup_fd, lambda: child.run(child.container)
                    )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            sources.close_all([fd for fd, _ in opened])
        return Process(pid, pidfd, ours)

    def _lock_mounts(self) -> None:
        """Have the child born with the mounts whose flags it must not change.

        They get their id map before there is a child: hence the user namespace comes first.
        """
        plan = self._plan
        locked = [n for n, source in enumerate(plan["sources"]) if source.get("locked")]
        if not locked:
            return
        path, maps = plan["namespaces"]["join"].get("user"), plan["maps"]
        if path is None:
            self._userns = idmap.new_user_namespace(maps["uid"], maps["gid"])
        else:
            self._userns = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        fds = self._open_sources([plan["sources"][n] for n in locked])
        try:
            self._birthplace = self._host.anteroom.with_mounts(dict(zip(locked, fds, strict=True)))
        finally:
            sources.close_all(fds)

    def _open_sources(self, wanted: Sequence[Mapping[str, Any]]) -> list[int]:
        host = self._host
        with namespaces.visiting([(host.anteroom.host, CLONE_NEWNS)], host.anteroom.homes):
            return sources.open_sources(wanted, self._userns, host.nodes)

    def _map_ids(self, pid: int) -> None:
        plan = self._plan
        maps = plan["maps"]
        if not maps or self._userns >= 0:
            return
        if "user" in plan["namespaces"]["new"]:
            idmap.write_maps(pid, maps["uid"], maps["gid"])
        self._userns = namespaces.open_namespace(pid, "user")

    def _hand_mounts(self, made: Process) -> None:
        """Look everything up in the host's mount namespace, and pass it on as detached mounts."""
        plan = self._plan
        if len(plan["sources"]) >= MAX_FDS:
            raise InvalidArgument(f"more than {MAX_FDS - 1} mounts from the host")
        owner = self._owner() if plan["maps"] else (0, 0)
        fds: list[int] = []
        try:
            with namespaces.visiting(
                [(self._host.anteroom.host, CLONE_NEWNS)], self._host.anteroom.homes
            ):
                fds.append(sources.open_rootfs(plan["rootfs"], self._userns, owner))
                loose = [source for source in plan["sources"] if not source.get("locked")]
                fds += sources.open_sources(loose, self._userns, self._host.nodes)
            made.tell(MOUNTS, fds)
            if not plan["rootfs"]["volatile"]:
                self.root = os.dup(fds[0])
        finally:
            sources.close_all(fds)

    def _raise_limits(self, pid: int) -> None:
        """What a child in a user namespace may not do for itself."""
        process_plan = self._plan["process"]
        for number, _, hard, name in process_plan["rlimits"]:
            raise_hard_limit(pid, number, hard, name)
        adjustment = process_plan["oom_score_adj"]
        if adjustment is not None:
            set_oom_score(pid, adjustment)

    def _close_birthplace(self) -> None:
        """The child has a copy; ours would keep the mounts from being unmounted."""
        if self._birthplace >= 0:
            os.close(self._birthplace)
            self._birthplace = -1

    def _close_userns(self) -> None:
        if self._userns >= 0:
            os.close(self._userns)
            self._userns = -1


def raise_hard_limit(pid: int, number: int, hard: int, name: str) -> None:
    """Raise the hard limit of *pid* to *hard* if it is lower; it lowers them itself at the end.

    Raises:
        InvalidArgument: this process may not raise limits.
    """
    soft, now = resource.prlimit(pid, number)
    infinite = resource.RLIM_INFINITY
    if now == infinite or (hard != infinite and hard <= now):
        return
    try:
        resource.prlimit(pid, number, (soft, hard))
    except (OSError, ValueError) as error:
        raise limit_refused(name, hard) from error


def set_oom_score(pid: int, adjustment: int) -> None:
    """Write oom_score_adj; below the engine's own value that needs CAP_SYS_RESOURCE."""
    idmap.write_file(f"/proc/{pid}/oom_score_adj", str(adjustment))


def _clone_flags(kinds: Sequence[str]) -> int:
    flags = 0
    for kind in kinds:
        if kind != "cgroup":  # unshared by the child, when it is in its cgroup
            flags |= namespaces.TYPES[kind][0]
    return flags


def _clone_one(flags: int, cgroup_fd: int, run: Callable[[], NoReturn]) -> tuple[int, int]:
    pid, pidfd = _libc.clone3(flags, cgroup_fd=cgroup_fd)
    if pid == 0:
        run()
    return pid, pidfd


def _clone_into(
    user_path: str, flags: int, cgroup_fd: int, run: Callable[[], NoReturn]
) -> tuple[int, int]:
    """Clone a child into an existing user namespace, and then into new ones that this one owns.

    There is no way back from a user namespace, so a stub goes in; its child becomes ours
    (CLONE_PARENT).
    """
    user = os.open(user_path, os.O_RDONLY | os.O_CLOEXEC)
    ours, theirs = _socket.socketpair(
        _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
    )
    stub, stub_fd = _libc.clone3(0, cgroup_fd=cgroup_fd)
    if stub == 0:
        _stub(user, theirs, flags, run)
    try:
        theirs.close()
        received = channel.receive(ours, bytearray(_MESSAGE))
        os.waitid(os.P_PIDFD, stub_fd, _REAP_OPTIONS)
    finally:
        for fd in (user, stub_fd):
            os.close(fd)
        ours.close()
    if received is None:
        raise KernelError(errno.ECHILD, "clone3", user_path)
    if "error" in received[0]:
        raise channel.error_from_wire(received[0]["error"])
    pidfd = received[1][0]
    return process.pid_of(pidfd), pidfd


def _stub(user: int, sock: _socket.socket, flags: int, run: Callable[[], NoReturn]) -> NoReturn:
    try:
        _libc.setns(user, CLONE_NEWUSER)
        pid, pidfd = _libc.clone3(flags | CLONE_PARENT)
        if pid == 0:
            run()
        # no number: the stub may be in a pid namespace where it means something else
        message: dict[str, Any] = {"v": channel.VERSION}
        sock.sendmsg([channel.encode(message)], channel.ancillary([pidfd]))
    except OSError as error:
        message = {"v": channel.VERSION, "error": channel.error_to_wire(error)}
        sock.sendmsg([channel.encode(message)])
    finally:
        os._exit(0)
