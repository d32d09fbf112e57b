"""Cgroups of the real kernel, in whatever layout this host has them."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from pannier.base.errors import KernelError, NotFound, Unsupported
from pannier.kernel import cgroup, cgroup_devices
from pannier.kernel.cgroup import CgroupManager
from pannier.oci.defaults import DEFAULT_DEVICE_RULES

MIB = 1 << 20


class Box:
    """One cgroup and the processes that a test puts in it."""

    def __init__(self, manager: CgroupManager, path: str) -> None:
        self.manager = manager
        self.path = path
        self.pids: list[int] = []

    def run(self, work: Callable[[], object]) -> int:
        """Fork a child that enters the cgroup and does *work*; returns its pid."""
        v2, v1 = self.manager.open_entry(self.path)
        pid = os.fork()
        if pid == 0:
            try:
                cgroup.enter(v1)
                if v2 >= 0:
                    cgroup.enter_v2(v2)
                os._exit(int(bool(work())))
            finally:
                os._exit(99)
        for fd in (v2, *v1):
            if fd >= 0:
                os.close(fd)
        self.pids.append(pid)
        return pid

    def wait(self, pid: int) -> int:
        self.pids.remove(pid)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def sleeper(self) -> int:
        pid = self.run(signal.pause)
        wait_until(lambda: pid in self.manager.processes(self.path))
        return pid


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(scope="module")
def manager() -> Iterator[CgroupManager]:
    made = CgroupManager(cgroup.probe(), f"pnt{secrets.token_hex(3)}", DEFAULT_DEVICE_RULES)
    made.setup()
    made.setup()
    yield made
    made.remove(made.instance)
    assert not any(os.path.exists(d) for d in made.directories(made.instance).values())


@pytest.fixture(params=["default", "custom"])
def box(manager: CgroupManager, request: pytest.FixtureRequest) -> Iterator[Box]:
    made = Box(manager, f"{manager.instance}/{request.param}/{secrets.token_hex(4)}")
    manager.create(made.path)
    yield made
    manager.kill(made.path)
    for pid in made.pids:
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
    manager.remove(made.path)
    assert not any(os.path.exists(d) for d in manager.directories(made.path).values())


def _needs(manager: CgroupManager, controller: str) -> None:
    if controller not in manager.layout.v1 and controller not in manager.layout.v2_controllers:
        pytest.skip(f"no {controller} controller")


def test_memory_limit_kills_and_is_counted(box: Box) -> None:
    _needs(box.manager, "memory")
    box.manager.apply(box.path, {"memory": {"limit": 32 * MIB, "swap": 32 * MIB}})
    assert box.wait(box.run(lambda: len(bytearray(64 * MIB)))) == -signal.SIGKILL
    assert box.manager.oom_kills(box.path) == 1
    assert box.manager.stats(box.path)["memory"]["limit"] == 32 * MIB


def test_memory_live_up_and_down(box: Box) -> None:
    _needs(box.manager, "memory")

    def hold() -> None:
        held = bytearray(40 * MIB)
        signal.pause()
        del held

    box.manager.apply(box.path, {"memory": {"limit": 64 * MIB, "swap": 64 * MIB}})
    box.run(hold)
    wait_until(lambda: box.manager.stats(box.path)["memory"]["usage"] > 40 * MIB)
    for size in (256, 128, 512, 64):
        box.manager.apply(box.path, {"memory": {"limit": size * MIB, "swap": size * MIB}})
    with pytest.raises(KernelError, match="busy") as caught:
        box.manager.apply(box.path, {"memory": {"limit": 16 * MIB, "swap": 16 * MIB}})
    assert "larger limit" in (caught.value.hint or "")
    assert box.manager.populated(box.path)
    box.manager.apply(box.path, {"memory": {"limit": -1, "swap": -1}})
    assert box.manager.stats(box.path)["memory"]["limit"] == -1


def test_pids_limit(box: Box) -> None:
    _needs(box.manager, "pids")
    box.manager.apply(box.path, {"pids": {"limit": 3}})

    def fork_much() -> int:
        count = 1
        try:
            while count < 10:
                if os.fork() == 0:
                    signal.pause()
                count += 1
        except BlockingIOError:
            return 0 if count == 3 else 1
        return 2

    assert box.wait(box.run(fork_much)) == 0
    assert box.manager.stats(box.path)["pids"]["refused"] >= 1


def test_cpu_quota(box: Box) -> None:
    _needs(box.manager, "cpu")
    box.manager.apply(box.path, {"cpu": {"quota": 20000, "period": 100000, "shares": 512}})

    def spin() -> None:
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            pass

    before = os.times()
    assert box.wait(box.run(spin)) == 0
    after = os.times()
    assert after.children_user - before.children_user < 0.6
    cpu = box.manager.stats(box.path)["cpu"]
    assert cpu["throttled_periods"] > 2
    assert 0 < cpu["usage_ns"] < 6 * 10**8


def test_cpuset(box: Box) -> None:
    _needs(box.manager, "cpuset")
    box.manager.apply(box.path, {"cpu": {"cpus": "0"}})
    assert box.wait(box.run(lambda: os.sched_getaffinity(0) != {0})) == 0


def test_freeze_and_thaw(box: Box) -> None:
    pid = box.run(lambda: [time.sleep(0.001) for _ in range(10**6)])
    wait_until(lambda: box.manager.populated(box.path))
    box.manager.freeze(box.path)

    def ticks() -> list[str]:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split()[13:15]

    def switches() -> str:
        with open(f"/proc/{pid}/status") as file:
            return next(line for line in file if line.startswith("voluntary"))

    first = switches()
    time.sleep(0.05)
    assert switches() == first
    box.manager.thaw(box.path)
    wait_until(lambda: switches() != first)
    assert ticks()


def test_kill_reaches_frozen_and_forking_ones(box: Box) -> None:
    pid = box.sleeper()
    if box.manager.layout.v2 is not None:
        box.manager.freeze(box.path)
    box.manager.kill(box.path)
    assert box.wait(pid) == -signal.SIGKILL
    assert box.manager.wait_empty(box.path, 10)
    assert not box.manager.populated(box.path)


def test_devices(box: Box) -> None:
    if "custom" in box.path:
        box.manager.apply(box.path, {"devices": list(DEFAULT_DEVICE_RULES)})

    def look() -> int:
        os.close(os.open("/dev/null", os.O_RDWR))
        try:
            os.close(os.open("/dev/kmsg", os.O_RDONLY))
        except PermissionError:
            return 0
        return 1

    assert box.wait(box.run(look)) == 0


def test_device_program(manager: CgroupManager) -> None:
    """The filter of version 2, which this kernel may accept though version 1 does the work."""
    if manager.layout.v2 is None:
        pytest.skip("no cgroup version 2")
    box = Box(manager, f"{manager.instance}/custom/{secrets.token_hex(4)}")
    manager.create(box.path)
    directory = os.path.join(manager.layout.v2, box.path)
    try:
        cgroup_devices.attach(directory, DEFAULT_DEVICE_RULES)
        cgroup_devices.attach(directory, [{"allow": False, "access": "rwm"}])

        def look() -> int:
            try:
                os.open("/dev/zero", os.O_RDONLY)
            except PermissionError:
                return 0
            return 1

        assert box.wait(box.run(look)) == 0
    finally:
        manager.remove(box.path)


def test_owner_may_make_cgroups_below(manager: CgroupManager) -> None:
    if manager.layout.v2 is None:
        pytest.skip("no cgroup version 2")
    path = f"{manager.instance}/custom/{secrets.token_hex(4)}"
    manager.create(path, owner=(123456, 123456))
    directory = os.path.join(manager.layout.v2, path)
    pid = os.fork()
    if pid == 0:
        try:
            os.setgid(123456)
            os.setuid(123456)
            os.makedirs(f"{directory}/init.scope/deeper")
            os.access(f"{directory}/cgroup.freeze", os.W_OK) or os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    manager.remove(path)
    assert not os.path.exists(directory)


def test_remove_of_a_cgroup_in_use(box: Box) -> None:
    box.sleeper()
    with pytest.raises(KernelError, match="busy"):
        box.manager.remove(box.path, timeout=0.05)


def test_what_is_gone(manager: CgroupManager) -> None:
    path = f"{manager.instance}/custom/none"
    manager.kill(path)
    manager.remove(path)
    assert manager.wait_empty(path, 1)
    with pytest.raises(NotFound):
        manager.stats(path)


def test_huge_pages_are_refused_clearly(box: Box) -> None:
    with pytest.raises(Unsupported):
        box.manager.apply(box.path, {"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]})
