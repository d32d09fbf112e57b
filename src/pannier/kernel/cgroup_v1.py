"""Limits and figures of cgroup version 1: functions over one controller's directory.

Which directory that is, and whether version 1 has the controller at all, is decided in
``kernel.cgroup``. Names and rules: Documentation/admin-guide/cgroup-v1 of the kernel.
"""

from __future__ import annotations

import errno
import os

from pannier.base.errors import KernelError, Unsupported
from pannier.kernel.cgroup_files import exists, read, read_int, read_pairs, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pannier.kernel.cgroup_types import CpuStats, IoStats, MemoryStats, PidsStats
    from pannier.oci.runtime import BlockIO, Cpu, DeviceRule, Memory, Pids

_UNLIMITED = 1 << 62  # what the kernel shows as "no limit" is just below 2**63, in whole pages
_MEMORY_IN_USE = "its processes use more than that; stop some work in it or choose a larger limit"


def apply_memory(directory: str, memory: Memory) -> None:
    """Memory, memory plus swap, reservation, swappiness, OOM killer; bytes, -1 for none.

    Raises:
        KernelError: EBUSY if more than the new limit is in use and cannot be reclaimed.
    """
    _apply_memory_and_swap(directory, memory.get("limit"), memory.get("swap"))
    for key, name in (
        ("reservation", "memory.soft_limit_in_bytes"),
        ("kernelTCP", "memory.kmem.tcp.limit_in_bytes"),
        ("swappiness", "memory.swappiness"),
    ):
        value = memory.get(key)
        if value is not None:
            write(os.path.join(directory, name), str(value))
    if "disableOOMKiller" in memory:
        write(os.path.join(directory, "memory.oom_control"), str(int(memory["disableOOMKiller"])))


def _apply_memory_and_swap(directory: str, limit: int | None, swap: int | None) -> None:
    """The kernel refuses (EINVAL) memory above memory+swap at any moment: order by direction."""
    memory_file = os.path.join(directory, "memory.limit_in_bytes")
    swap_file = os.path.join(directory, "memory.memsw.limit_in_bytes")
    if not exists(swap_file):  # kernel without swap accounting
        swap = None
    elif limit is not None and swap is None:
        swap = _raised_swap(swap_file, limit)
    writes: list[tuple[str, int]] = []
    if limit is not None:
        writes.append((memory_file, limit))
    if swap is not None:
        current = read_int(swap_file)
        raising = swap == -1 or swap > current
        writes.insert(0 if raising else len(writes), (swap_file, swap))
    for path, value in writes:
        write(path, str(value), hint=_MEMORY_IN_USE if value != -1 else None)


def _raised_swap(swap_file: str, limit: int) -> int | None:
    """The memory+swap limit that has to make room for a larger *limit*, if any."""
    current = read_int(swap_file)
    if limit == -1:
        return -1
    return limit if limit > current else None


def apply_cpu(directory: str, cpu: Cpu) -> None:
    """Shares, quota, period and burst (microseconds), idle."""
    if cpu.get("shares"):
        write(os.path.join(directory, "cpu.shares"), str(cpu["shares"]))
    _apply_quota(directory, cpu.get("quota"), cpu.get("period"))
    for key, name in (
        ("burst", "cpu.cfs_burst_us"),
        ("idle", "cpu.idle"),
        ("realtimePeriod", "cpu.rt_period_us"),
        ("realtimeRuntime", "cpu.rt_runtime_us"),
    ):
        value = cpu.get(key)
        if value is not None:
            write(os.path.join(directory, name), str(value))


def _apply_quota(directory: str, quota: int | None, period: int | None) -> None:
    """A new period with the old quota may exceed what the parent allows (EINVAL): then the other
    way round is right."""
    period_file = os.path.join(directory, "cpu.cfs_period_us")
    late_period = None
    if period:
        try:
            write(period_file, str(period))
        except KernelError as error:
            if error.errno != errno.EINVAL or not quota:
                raise
            late_period = period
    if quota:
        write(os.path.join(directory, "cpu.cfs_quota_us"), str(quota))
    if late_period:
        write(period_file, str(late_period))


def apply_cpuset(directory: str, cpu: Cpu) -> None:
    """CPUs and memory nodes as lists such as ``0-3,6``."""
    for key, name in (("cpus", "cpuset.cpus"), ("mems", "cpuset.mems")):
        value = cpu.get(key)
        if value:
            write(os.path.join(directory, name), str(value), hint="see cpuset.cpus of the parent")


def inherit_cpuset(directory: str) -> None:
    """Give a new cpuset its parent's CPUs and nodes: with none it accepts no process.

    Its children then take over its own (``cgroup.clone_children``).
    """
    parent = os.path.dirname(directory)
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not read(os.path.join(directory, name)):
            write(os.path.join(directory, name), read(os.path.join(parent, name)))
    write(os.path.join(directory, "cgroup.clone_children"), "1")


def apply_pids(directory: str, pids: Pids) -> None:
    """The number of tasks; 0 and -1 are no limit."""
    limit = pids["limit"]
    write(os.path.join(directory, "pids.max"), str(limit) if limit > 0 else "max")


def apply_devices(directory: str, rules: Iterable[DeviceRule]) -> None:
    """Device rules, in order. Children of the directory made later start with the result."""
    for rule in rules:
        name = "devices.allow" if rule["allow"] else "devices.deny"
        write(os.path.join(directory, name), format_device_rule(rule))


def format_device_rule(rule: DeviceRule) -> str:
    """``c 1:3 rwm``, or ``a`` for all devices at once, the only rule that resets the others."""
    kind = rule.get("type", "a")
    if kind == "a":
        return "a"
    major, minor = (str(rule[key]) if key in rule else "*" for key in ("major", "minor"))
    return f"{kind} {major}:{minor} {rule.get('access') or 'rwm'}"


def apply_blkio(directory: str, block: BlockIO) -> None:
    """Weight (10 to 1000) and throttles per device (bytes or operations per second).

    Raises:
        Unsupported: the kernel's I/O scheduler has no weights.
    """
    if block.get("weight"):
        _write_weight(directory, str(block["weight"]))
    for weight in block.get("weightDevice", ()):
        _write_weight(directory, f"{weight['major']}:{weight['minor']} {weight.get('weight', 0)}")
    for key, name in (
        ("throttleReadBpsDevice", "read_bps"),
        ("throttleWriteBpsDevice", "write_bps"),
        ("throttleReadIOPSDevice", "read_iops"),
        ("throttleWriteIOPSDevice", "write_iops"),
    ):
        path = os.path.join(directory, f"blkio.throttle.{name}_device")
        for one in block.get(key, ()):  # type: ignore[attr-defined]
            write(path, f"{one['major']}:{one['minor']} {one['rate']}")


def _write_weight(directory: str, value: str) -> None:
    device = "_device" if ":" in value else ""
    for name in (f"blkio.weight{device}", f"blkio.bfq.weight{device}"):
        path = os.path.join(directory, name)
        if exists(path):
            write(path, value)
            return
    raise Unsupported(
        "this kernel has no weights for block devices",
        hint="choose the bfq scheduler for the device, or limit bytes per second",
    )


def read_memory(directory: str) -> MemoryStats:
    def number(name: str) -> int:
        return read_int(os.path.join(directory, name))

    limit = number("memory.limit_in_bytes")
    usage = number("memory.usage_in_bytes")
    return {
        "usage": usage,
        "limit": -1 if limit >= _UNLIMITED else limit,
        "peak": number("memory.max_usage_in_bytes"),
        "swap": max(number("memory.memsw.usage_in_bytes") - usage, 0),
        "failures": number("memory.failcnt"),
        "oom_kills": oom_kills(directory),
        "stat": read_pairs(os.path.join(directory, "memory.stat")),
    }


def oom_kills(directory: str) -> int:
    """How many processes the OOM killer ended in this cgroup."""
    return read_pairs(os.path.join(directory, "memory.oom_control")).get("oom_kill", 0)


def read_cpu(cpu_directory: str | None, acct_directory: str | None) -> CpuStats:
    """Of the controllers ``cpu`` (throttling) and ``cpuacct`` (time used)."""
    throttling = read_pairs(os.path.join(cpu_directory, "cpu.stat")) if cpu_directory else {}

    def used(name: str) -> int:
        return read_int(os.path.join(acct_directory, name)) if acct_directory else 0

    per_cpu = read(os.path.join(acct_directory, "cpuacct.usage_percpu")) if acct_directory else ""
    return {
        "usage_ns": used("cpuacct.usage"),
        "user_ns": used("cpuacct.usage_user"),
        "system_ns": used("cpuacct.usage_sys"),
        "per_cpu_ns": [int(word) for word in per_cpu.split()],
        "periods": throttling.get("nr_periods", 0),
        "throttled_periods": throttling.get("nr_throttled", 0),
        "throttled_ns": throttling.get("throttled_time", 0),
    }


def read_pids_stats(directory: str) -> PidsStats:
    return {
        "current": read_int(os.path.join(directory, "pids.current")),
        "limit": read_int(os.path.join(directory, "pids.max"), -1),
        "refused": read_pairs(os.path.join(directory, "pids.events")).get("max", 0),
    }


def read_blkio(directory: str) -> list[IoStats]:
    devices: dict[tuple[int, int], IoStats] = {}
    for name, unit in (("io_service_bytes", "bytes"), ("io_serviced", "operations")):
        for (major, minor), operation, value in _blkio_lines(directory, name):
            one = devices.setdefault((major, minor), _no_io(major, minor))
            if operation == "Read":
                one["read_bytes" if unit == "bytes" else "read_operations"] = value
            elif operation == "Write":
                one["write_bytes" if unit == "bytes" else "write_operations"] = value
    return list(devices.values())


def _blkio_lines(directory: str, name: str) -> Iterable[tuple[tuple[int, int], str, int]]:
    path = os.path.join(directory, f"blkio.throttle.{name}_recursive")
    if not exists(path):
        return
    for line in read(path).splitlines():
        words = line.split()  # "254:0 Read 4096"; the last line is "Total 4096"
        if len(words) == 3:
            major, _, minor = words[0].partition(":")
            yield (int(major), int(minor)), words[1], int(words[2])


def _no_io(major: int, minor: int) -> IoStats:
    return {
        "major": major,
        "minor": minor,
        "read_bytes": 0,
        "write_bytes": 0,
        "read_operations": 0,
        "write_operations": 0,
    }


def set_frozen(directory: str, frozen: bool, wait: Callable[[], bool]) -> None:
    """The freezer of version 1, for kernels where version 2 is not mounted.

    Args:
        directory: of the ``freezer`` controller.
        frozen: the wanted state.
        wait: called between looks; False when it took too long.
    """
    wanted = "FROZEN" if frozen else "THAWED"
    path = os.path.join(directory, "freezer.state")
    write(path, wanted)
    while read(path) != wanted:
        if not wait():
            raise KernelError(errno.ETIMEDOUT, "freeze", directory)
        write(path, wanted)  # a fork during FREEZING needs another push
