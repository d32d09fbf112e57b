"""Control groups of containers: where they are, their limits, figures, and their end.

A container has one path, such as ``pannier/default/<id>``, in every hierarchy that is used. For
each controller it is decided once, in ``kernel.cgroup_layout``, whether version 1 or 2 has it:

    hybrid    limits in version 1; version 2 (without controllers) for freeze, kill, populated
    unified   everything in version 2
    legacy    everything in version 1; freezing by its freezer, killing by a loop

A directory that pannier did not make is never changed, apart from handing controllers on in the
root of version 2. Who is in which container, and what a limit means to a user, is known above.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time

from pannier.base.errors import KernelError, NotFound, Unsupported
from pannier.kernel import cgroup_devices, cgroup_v1, cgroup_v2
from pannier.kernel.cgroup_files import exists, read, read_pids, tree, write
from pannier.kernel.cgroup_layout import Layout, probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from pannier.kernel.cgroup_types import (
        CpuStats,
        IoStats,
        MemoryStats,
        PidsStats,
        Stats,
    )
    from pannier.oci.runtime import DeviceRule, Resources

__all__ = ["CgroupManager", "Layout", "enter", "enter_v2", "probe"]

_V2_NAME = {"blkio": "io", "cpuacct": "cpu"}
_EXEC_LEAF = "exec"
_RETRY = 0.005  # seconds between two looks where the kernel offers nothing to wait for


class CgroupManager:
    """The control groups of one engine.

    Args:
        layout: of the host.
        instance: the engine's name: the directory that all of its containers are in.
        default_devices: the device rules that most containers have. Those with exactly these are
            made below a parent that has them already: one write less per rule and container.
    """

    def __init__(
        self, layout: Layout, instance: str, default_devices: Sequence[DeviceRule] = ()
    ) -> None:
        self.layout = layout
        self.instance = instance
        self._default_devices = list(default_devices)

    def path_for(self, container_id: str, devices: Sequence[DeviceRule] | None) -> str:
        """The path for a container with these device rules."""
        parent = "default" if list(devices or ()) == self._default_devices else "custom"
        return f"{self.instance}/{parent}/{container_id}"

    def directories(self, path: str) -> dict[str, str]:
        """Mount point of each used hierarchy -> the directory of *path* in it."""
        return {mount: os.path.join(mount, path) for mount in self.layout.mounts()}

    # ---------------------------------------------------------------- making and entering

    def setup(self) -> None:
        """Make the parents of all containers; may be called again."""
        if self.layout.v2 is not None:
            cgroup_v2.enable_controllers(self.layout.v2)
        for path in (self.instance, f"{self.instance}/default", f"{self.instance}/custom"):
            for directory in self.directories(path).values():
                self._make_parent(directory, path.endswith("/default"))

    def _make_parent(self, directory: str, restrict_devices: bool) -> None:
        mount = self._mount_of(directory)
        try:
            os.mkdir(directory, 0o755)
        except FileExistsError:
            return
        if mount == self.layout.v1.get("cpuset"):
            cgroup_v1.inherit_cpuset(directory)
        if mount == self.layout.v2:
            cgroup_v2.enable_controllers(directory)
        if restrict_devices and self._default_devices:
            # Only a directory without children accepts "all devices", hence only a new one.
            if mount == self.layout.v1.get("devices"):
                cgroup_v1.apply_devices(directory, self._default_devices)
            elif mount == self.layout.v2 and "devices" not in self.layout.v1:
                cgroup_devices.attach(directory, self._default_devices)

    def _mount_of(self, directory: str) -> str:
        return max((m for m in self.layout.mounts() if directory.startswith(m + "/")), key=len)

    def create(self, path: str, *, owner: tuple[int, int] | None = None) -> None:
        """Make the directories of a container.

        Args:
            path: from ``path_for``, or any other below an existing cgroup.
            owner: uid and gid, as the host sees them, of a root that may manage cgroups below.

        Raises:
            KernelError: nothing is left behind then.
        """
        made: list[str] = []
        try:
            for mount, directory in self.directories(path).items():
                os.mkdir(directory, 0o755)
                made.append(directory)
                if owner is not None and mount == self.layout.v2:
                    cgroup_v2.delegate(directory, *owner)
        except OSError as error:
            for directory in made:
                os.rmdir(directory)
            if isinstance(error, KernelError):
                raise
            raise KernelError(error.errno or errno.EIO, "mkdir", error.filename) from error

    def open_entry(self, path: str) -> tuple[int, list[int]]:
        """Open what a process needs to enter *path*.

        Returns:
            A directory of version 2 for CLONE_INTO_CGROUP, or -1 if there is none; and files of
            version 1 for ``enter``. All are close-on-exec; the caller closes them.
        """
        v2_fd = -1
        if self.layout.v2 is not None:
            entry = self._entry(os.path.join(self.layout.v2, path))
            v2_fd = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # ``tasks``, not ``cgroup.procs``: moving a whole thread group waits 5 to 15 ms for RCU on
        # an idle machine, a thread that moves itself does not (0.1 ms).
        v1_fds = [
            os.open(os.path.join(mount, path, "tasks"), os.O_WRONLY | os.O_CLOEXEC)
            for mount in dict.fromkeys(self.layout.v1.values())
        ]
        return v2_fd, v1_fds

    def _entry(self, directory: str) -> str:
        """The cgroup itself, or a leaf once its init has handed controllers on: then the kernel
        allows no process in it ("no internal processes")."""
        if not read(os.path.join(directory, "cgroup.subtree_control")):
            return directory
        leaf = os.path.join(directory, _EXEC_LEAF)
        if not exists(leaf):
            os.mkdir(leaf, 0o755)
        return leaf

    # ---------------------------------------------------------------- limits

    def apply(self, path: str, resources: Resources) -> None:
        """Set or change limits; only what is named is touched.

        Raises:
            Unsupported: a controller that is needed is missing on this host.
            KernelError: the kernel refused a value; those before it are in force.
        """
        memory, cpu, pids = resources.get("memory"), resources.get("cpu"), resources.get("pids")
        if memory:
            self._on("memory", path, cgroup_v1.apply_memory, cgroup_v2.apply_memory, memory)
        if cpu:
            if any(key not in ("cpus", "mems") for key in cpu):
                self._on("cpu", path, cgroup_v1.apply_cpu, cgroup_v2.apply_cpu, cpu)
            if cpu.get("cpus") or cpu.get("mems"):
                self._on("cpuset", path, cgroup_v1.apply_cpuset, cgroup_v2.apply_cpuset, cpu)
        if pids:
            self._on("pids", path, cgroup_v1.apply_pids, cgroup_v2.apply_pids, pids)
        if resources.get("blockIO"):
            block = resources["blockIO"]
            self._on("blkio", path, cgroup_v1.apply_blkio, cgroup_v2.apply_io, block)
        self._apply_rest(path, resources)

    def _apply_rest(self, path: str, resources: Resources) -> None:
        devices = resources.get("devices")
        if devices and list(devices) != self._inherited_devices(path):
            self._apply_devices(path, devices)
        if resources.get("hugepageLimits"):
            raise Unsupported("limits of huge pages are not supported yet")
        if resources.get("unified"):
            if self.layout.v2 is None or self.layout.v1:
                raise Unsupported("'unified' limits need a host with cgroup version 2 alone")
            cgroup_v2.apply_unified(os.path.join(self.layout.v2, path), resources["unified"])

    def _on(
        self,
        controller: str,
        path: str,
        v1: Callable[[str, Any], None],
        v2: Callable[[str, Any], None],
        value: object,
    ) -> None:
        directory, version = self._controller(controller, path)
        if directory is None:
            raise Unsupported(
                f"this host has no {controller} controller for control groups",
                hint="see /proc/cgroups and, for memory, the kernel option cgroup_enable=memory",
            )
        (v1 if version == 1 else v2)(directory, value)

    def _controller(self, name: str, path: str) -> tuple[str | None, int]:
        mount = self.layout.v1.get(name)
        if mount is not None:
            return os.path.join(mount, path), 1
        if self.layout.v2 is not None and _V2_NAME.get(name, name) in self.layout.v2_controllers:
            return os.path.join(self.layout.v2, path), 2
        return None, 0

    def _inherited_devices(self, path: str) -> list[DeviceRule]:
        if path.startswith(f"{self.instance}/default/"):
            return self._default_devices
        return [{"allow": True, "access": "rwm"}]

    def _apply_devices(self, path: str, rules: Sequence[DeviceRule]) -> None:
        mount = self.layout.v1.get("devices")
        if mount is not None:
            cgroup_v1.apply_devices(os.path.join(mount, path), rules)
        elif self.layout.v2 is not None:
            cgroup_devices.attach(os.path.join(self.layout.v2, path), rules)
        else:
            raise Unsupported("this host has no devices controller for control groups")

    # ---------------------------------------------------------------- figures

    def stats(self, path: str) -> Stats:
        """Memory, CPU, tasks and block I/O; zero where the host has no such controller.

        Raises:
            NotFound: the cgroup is gone.
        """
        if not any(exists(directory) for directory in self.directories(path).values()):
            raise NotFound(f"control group {path} does not exist")
        return {
            "memory": self._memory_stats(path),
            "cpu": self._cpu_stats(path),
            "pids": self._pids_stats(path),
            "io": self._io_stats(path),
        }

    def _memory_stats(self, path: str) -> MemoryStats:
        directory, version = self._controller("memory", path)
        read_stats = cgroup_v1.read_memory if version == 1 else cgroup_v2.read_memory
        return read_stats(directory or os.devnull)

    def _cpu_stats(self, path: str) -> CpuStats:
        cpu, _ = self._controller("cpu", path)
        account, version = self._controller("cpuacct", path)
        if version == 1:
            return cgroup_v1.read_cpu(cpu, account)
        # Version 2 counts the time even without the controller.
        base = os.path.join(self.layout.v2, path) if self.layout.v2 else os.devnull
        return cgroup_v2.read_cpu(base)

    def _pids_stats(self, path: str) -> PidsStats:
        directory, _ = self._controller("pids", path)
        return cgroup_v2.read_pids_stats(directory or os.devnull)

    def _io_stats(self, path: str) -> list[IoStats]:
        directory, version = self._controller("blkio", path)
        if directory is None:
            return []
        return cgroup_v1.read_blkio(directory) if version == 1 else cgroup_v2.read_io(directory)

    def oom_kills(self, path: str) -> int:
        """How many processes the OOM killer ended in it; 0 without the memory controller."""
        directory, version = self._controller("memory", path)
        if directory is None:
            return 0
        return cgroup_v1.oom_kills(directory) if version == 1 else cgroup_v2.oom_kills(directory)

    def processes(self, path: str) -> list[int]:
        """The processes in it and below, by pid as this process sees them."""
        mount = self.layout.v2 or next(iter(self.layout.v1.values()))
        found: list[int] = []
        for directory in tree(os.path.join(mount, path)):
            found += read_pids(os.path.join(directory, "cgroup.procs"))
        return found

    def populated(self, path: str) -> bool:
        """Whether a process lives in it or below."""
        if self.layout.v2 is not None:
            return bool(cgroup_v2.events(os.path.join(self.layout.v2, path)).get("populated"))
        return bool(self.processes(path))

    # ---------------------------------------------------------------- life cycle

    def freeze(self, path: str, *, timeout: float = 10.0) -> None:
        """Stop every process in it; SIGKILL still ends them (version 2). Returns once it is done.

        Args:
            path: of the container.
            timeout: seconds; then KernelError (ETIMEDOUT), with the processes running again.
        """
        try:
            self._set_frozen(path, True, timeout)
        except KernelError:
            self._set_frozen(path, False, timeout)
            raise

    def thaw(self, path: str, *, timeout: float = 10.0) -> None:
        """Let them run again."""
        self._set_frozen(path, False, timeout)

    def _set_frozen(self, path: str, frozen: bool, timeout: float) -> None:
        if self.layout.v2 is not None:
            cgroup_v2.set_frozen(os.path.join(self.layout.v2, path), frozen)
            if not self._wait_event(path, "frozen", int(frozen), timeout):
                raise KernelError(errno.ETIMEDOUT, "freeze" if frozen else "thaw", path)
            return
        freezer = self.layout.v1.get("freezer")
        if freezer is None:
            raise Unsupported("this host has neither cgroup version 2 nor a freezer")
        deadline = time.monotonic() + timeout

        def wait() -> bool:
            time.sleep(_RETRY)
            return time.monotonic() < deadline

        cgroup_v1.set_frozen(os.path.join(freezer, path), frozen, wait)

    def kill(self, path: str) -> None:
        """SIGKILL to every process in it and below, without waiting; gone already is fine."""
        try:
            if self.layout.v2 is not None:
                cgroup_v2.kill(os.path.join(self.layout.v2, path))
                return
        except KernelError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
            return
        self._kill_each(path)

    def _kill_each(self, path: str) -> None:
        """Without ``cgroup.kill``: again until no new process turns up, since they may fork."""
        seen: set[int] = set()
        while fresh := set(self.processes(path)) - seen:
            seen |= fresh
            for pid in fresh:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue

    def wait_empty(self, path: str, timeout: float) -> bool:
        """Wait until no process lives in it; False after *timeout* seconds."""
        if self.layout.v2 is not None:
            return self._wait_event(path, "populated", 0, timeout)
        deadline = time.monotonic() + timeout
        while self.processes(path):
            if time.monotonic() > deadline:
                return False
            time.sleep(_RETRY)
        return True

    def _wait_event(self, path: str, name: str, value: int, timeout: float) -> bool:
        """The kernel marks cgroup.events as exceptional (POLLPRI) when a line changes."""
        if self.layout.v2 is None:
            raise Unsupported("cgroup version 2 is not mounted")
        directory = os.path.join(self.layout.v2, path)
        try:
            fd = os.open(os.path.join(directory, "cgroup.events"), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            poll = select.poll()
            poll.register(fd, select.POLLPRI)
            deadline = time.monotonic() + timeout
            while True:
                lines = _read_again(fd).split("\n")
                if not lines[0] or f"{name} {value}" in lines:
                    return True
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                poll.poll(remaining * 1000)
        finally:
            os.close(fd)

    def remove(self, path: str, *, timeout: float = 10.0) -> None:
        """Remove it and what is below, in all hierarchies. What is gone already is fine.

        Args:
            path: of a container, or of the instance.
            timeout: seconds to wait for dying processes.

        Raises:
            KernelError: EBUSY, a process still lives in it.
        """
        deadline = time.monotonic() + timeout
        for root in self.directories(path).values():
            for directory in tree(root):
                self._remove_one(path, directory, deadline)

    def _remove_one(self, path: str, directory: str, deadline: float) -> None:
        while True:
            try:
                os.rmdir(directory)
            except FileNotFoundError:
                return
            except OSError as error:
                remaining = deadline - time.monotonic()
                if error.errno != errno.EBUSY or remaining <= 0:
                    raise KernelError(error.errno or errno.EIO, "rmdir", directory) from error
                # A process may be gone from the list, but not yet from the cgroup.
                self.wait_empty(path, remaining)
                time.sleep(_RETRY)
            else:
                return


def enter(v1_fds: Iterable[int]) -> None:
    """Move this single-threaded process by the version 1 files of ``CgroupManager.open_entry``.

    In the child, before it unshares its cgroup namespace, which takes its root from here.
    """
    for fd in v1_fds:
        os.write(fd, b"0")


def enter_v2(directory_fd: int) -> None:
    """The same for version 2, where CLONE_INTO_CGROUP was not used."""
    write(f"/proc/self/fd/{directory_fd}/cgroup.procs", "0")


def _read_again(fd: int) -> str:
    try:
        return os.pread(fd, 4096, 0).decode()
    except OSError as error:
        if error.errno == errno.ENODEV:  # removed meanwhile
            return ""
        raise
