"""Limits, figures and life cycle of cgroup version 2: functions over one cgroup's directory.

Names and rules: Documentation/admin-guide/cgroup-v2.rst of the kernel. The device filter, a BPF
program in version 2, is in ``kernel.cgroup_devices``.
"""

from __future__ import annotations

import errno
import os

from pannier.base.errors import KernelError, Unsupported
from pannier.kernel.cgroup_files import exists, read, read_int, read_pairs, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pannier.kernel.cgroup_types import CpuStats, IoStats, MemoryStats, PidsStats
    from pannier.oci.runtime import BlockIO, Cpu, Memory, Pids

CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")
# What a container's own init must own to manage cgroups below its own; the limits stay root's
# (Documentation/admin-guide/cgroup-v2.rst, "Delegation").
DELEGATED = ("", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control")

_DEFAULT_PERIOD = 100_000  # microseconds
_MEMORY_IN_USE = "its processes use more than that; stop some work in it or choose a larger limit"
_IO_THROTTLES = (
    ("throttleReadBpsDevice", "rbps"),
    ("throttleWriteBpsDevice", "wbps"),
    ("throttleReadIOPSDevice", "riops"),
    ("throttleWriteIOPSDevice", "wiops"),
)


def enable_controllers(directory: str) -> None:
    """Hand every controller that *directory* has on to its children."""
    available = set(read(os.path.join(directory, "cgroup.controllers")).split())
    control = os.path.join(directory, "cgroup.subtree_control")
    enabled = set(read(control).split())
    wanted = [name for name in CONTROLLERS if name in available and name not in enabled]
    if wanted:
        write(control, " ".join(f"+{name}" for name in wanted))


def delegate(directory: str, uid: int, gid: int) -> None:
    """Let *uid*:*gid* make cgroups below *directory* and move its own processes."""
    for name in DELEGATED:
        path = os.path.join(directory, name) if name else directory
        os.chown(path, uid, gid)


def _limit(value: int) -> str:
    return "max" if value == -1 else str(value)


def apply_memory(directory: str, memory: Memory) -> None:
    """Memory, swap (``swap`` is both together, as in version 1), reservation; bytes, -1 for none.

    Raises:
        KernelError: EBUSY if more than the new limit is in use. The kernel itself would accept it
            and then kill processes, which nobody means by an update.
    """
    limit, swap = memory.get("limit"), memory.get("swap")
    if limit is not None:
        usage = read_int(os.path.join(directory, "memory.current"))
        path = os.path.join(directory, "memory.max")
        if limit not in (-1, 0) and usage > limit:
            raise KernelError(errno.EBUSY, f"write '{limit}' to", path, _MEMORY_IN_USE)
        write(path, _limit(limit))
    if swap is not None:
        _apply_swap(directory, limit, swap)
    if memory.get("reservation") is not None:
        write(os.path.join(directory, "memory.low"), _limit(memory["reservation"]))


def _apply_swap(directory: str, limit: int | None, swap: int) -> None:
    path = os.path.join(directory, "memory.swap.max")
    if not exists(path):  # kernel without swap accounting
        return
    if limit is None:
        limit = read_int(os.path.join(directory, "memory.max"), -1)
    if swap == -1 or limit == -1:
        write(path, "max")
    else:
        write(path, str(max(swap - limit, 0)))


def weight_of_shares(shares: int) -> int:
    """Version 1's 2..262144 (default 1024) on version 2's 1..10000, as runc and systemd do it."""
    return 1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142


def apply_cpu(directory: str, cpu: Cpu) -> None:
    """Shares, quota, period and burst (microseconds), idle."""
    if cpu.get("shares"):
        write(os.path.join(directory, "cpu.weight"), str(weight_of_shares(cpu["shares"])))
    if cpu.get("quota") or cpu.get("period"):
        old_quota, old_period = read(os.path.join(directory, "cpu.max")).split()
        quota = _limit(cpu["quota"]) if cpu.get("quota") else old_quota
        period = cpu.get("period") or int(old_period) or _DEFAULT_PERIOD
        write(os.path.join(directory, "cpu.max"), f"{quota} {period}")
    if cpu.get("burst") is not None:
        write(os.path.join(directory, "cpu.max.burst"), str(cpu["burst"]))
    if cpu.get("idle") is not None:
        write(os.path.join(directory, "cpu.idle"), str(cpu["idle"]))


def apply_cpuset(directory: str, cpu: Cpu) -> None:
    """CPUs and memory nodes as lists such as ``0-3,6``."""
    if cpu.get("cpus"):
        write(os.path.join(directory, "cpuset.cpus"), cpu["cpus"])
    if cpu.get("mems"):
        write(os.path.join(directory, "cpuset.mems"), cpu["mems"])


def apply_pids(directory: str, pids: Pids) -> None:
    """The number of tasks; 0 and -1 are no limit."""
    limit = pids["limit"]
    write(os.path.join(directory, "pids.max"), str(limit) if limit > 0 else "max")


def apply_io(directory: str, block: BlockIO) -> None:
    """Weight (10 to 1000, as in version 1) and throttles per device.

    Raises:
        Unsupported: the kernel has no weights for block devices.
    """
    if block.get("weight"):
        _write_weight(directory, block["weight"], "")
    for weight in block.get("weightDevice", ()):
        device = f"{weight['major']}:{weight['minor']} "
        _write_weight(directory, weight.get("weight", 0), device)
    path = os.path.join(directory, "io.max")
    for key, name in _IO_THROTTLES:
        for one in block.get(key, ()):  # type: ignore[attr-defined]
            rate = one["rate"] or "max"
            write(path, f"{one['major']}:{one['minor']} {name}={rate}")


def _write_weight(directory: str, weight: int, device: str) -> None:
    bfq = os.path.join(directory, "io.bfq.weight")
    plain = os.path.join(directory, "io.weight")
    if exists(bfq):
        write(bfq, f"{device or 'default '}{weight}")
    elif exists(plain):  # 10..1000 on 1..10000
        write(plain, f"{device or 'default '}{1 + (weight - 10) * 9999 // 990}")
    else:
        raise Unsupported(
            "this kernel has no weights for block devices",
            hint="choose the bfq scheduler for the device, or limit bytes per second",
        )


def apply_unified(directory: str, values: dict[str, str]) -> None:
    """Files named by the caller, as they are."""
    for name, value in values.items():
        write(os.path.join(directory, name), value)


def read_memory(directory: str) -> MemoryStats:
    def number(name: str, default: int = 0) -> int:
        return read_int(os.path.join(directory, name), default)

    events = read_pairs(os.path.join(directory, "memory.events"))
    return {
        "usage": number("memory.current"),
        "limit": number("memory.max", -1),
        "peak": number("memory.peak"),  # since Linux 5.19
        "swap": number("memory.swap.current"),
        "failures": events.get("max", 0),
        "oom_kills": events.get("oom_kill", 0),
        "stat": read_pairs(os.path.join(directory, "memory.stat")),
    }


def oom_kills(directory: str) -> int:
    """How many processes the OOM killer ended in this cgroup and those below."""
    return read_pairs(os.path.join(directory, "memory.events")).get("oom_kill", 0)


def read_cpu(directory: str) -> CpuStats:
    stat = read_pairs(os.path.join(directory, "cpu.stat"))

    def nanoseconds(name: str) -> int:
        return stat.get(name, 0) * 1000

    return {
        "usage_ns": nanoseconds("usage_usec"),
        "user_ns": nanoseconds("user_usec"),
        "system_ns": nanoseconds("system_usec"),
        "per_cpu_ns": [],  # version 2 does not count per CPU
        "periods": stat.get("nr_periods", 0),
        "throttled_periods": stat.get("nr_throttled", 0),
        "throttled_ns": nanoseconds("throttled_usec"),
    }


def read_pids_stats(directory: str) -> PidsStats:
    return {
        "current": read_int(os.path.join(directory, "pids.current")),
        "limit": read_int(os.path.join(directory, "pids.max"), -1),
        "refused": read_pairs(os.path.join(directory, "pids.events")).get("max", 0),
    }


def read_io(directory: str) -> list[IoStats]:
    path = os.path.join(directory, "io.stat")
    if not exists(path):
        return []
    result: list[IoStats] = []
    for line in read(path).splitlines():  # "254:0 rbytes=1 wbytes=2 rios=3 wios=4 ..."
        device, *words = line.split()
        major, _, minor = device.partition(":")
        pairs = (word.partition("=") for word in words)
        values = {name: int(value) for name, _, value in pairs if value.isdigit()}
        result.append(
            {
                "major": int(major),
                "minor": int(minor),
                "read_bytes": values.get("rbytes", 0),
                "write_bytes": values.get("wbytes", 0),
                "read_operations": values.get("rios", 0),
                "write_operations": values.get("wios", 0),
            }
        )
    return result


def set_frozen(directory: str, frozen: bool) -> None:
    """Ask for it; ``events`` says when it is done. Works without any controller."""
    write(os.path.join(directory, "cgroup.freeze"), str(int(frozen)))


def kill(directory: str) -> None:
    """SIGKILL to every process in it and below, forks in flight included (Linux 5.14)."""
    write(os.path.join(directory, "cgroup.kill"), "1")


def events(directory: str) -> dict[str, int]:
    """``populated`` and ``frozen``; empty if the cgroup is gone."""
    return read_pairs(os.path.join(directory, "cgroup.events"))
