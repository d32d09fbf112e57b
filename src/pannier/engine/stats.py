"""``stats`` and ``top``: what a container uses and runs, read from its cgroups and /proc."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pannier.base.errors import Conflict, InvalidArgument
from pannier.base.units import rfc3339
from pannier.engine.model import Container
from pannier.kernel.cgroup import CgroupManager
from pannier.kernel.cgroup_types import IoStats

_HEADERS = 2  # of /proc/net/dev


def sample(container: Container, cgroups: CgroupManager, path: str) -> dict[str, Any]:
    """One reading in Docker's shape; all zero for a stopped container, as Docker does."""
    view: dict[str, Any] = {
        "read": rfc3339(time.time_ns()),
        "name": f"/{container.name}",
        "id": container.id,
        "num_procs": 0,
        "pids_stats": {},
        "networks": {},
        "memory_stats": {},
        "blkio_stats": {"io_service_bytes_recursive": None},
        "cpu_stats": _cpu(0, 0, {}),
    }
    if not container.running:
        return view
    reading = cgroups.stats(path)
    memory, cpu = reading["memory"], reading["cpu"]
    view["memory_stats"] = {
        "usage": memory["usage"],
        "max_usage": memory["peak"],
        "limit": memory["limit"] if memory["limit"] > 0 else _host_memory(),
        "failcnt": memory["failures"],
        "stats": memory["stat"],
    }
    pids = reading["pids"]
    view["pids_stats"] = {"current": pids["current"], "limit": max(pids["limit"], 0)}
    view["cpu_stats"] = _cpu(cpu["usage_ns"], cpu["system_ns"], cpu)
    view["blkio_stats"] = {"io_service_bytes_recursive": _blkio(reading["io"])}
    view["networks"] = interfaces(container.state.pid)
    return view


def _blkio(devices: Sequence[IoStats]) -> list[dict[str, Any]]:
    return [
        {"major": d["major"], "minor": d["minor"], "op": op, "value": value}
        for d in devices
        for op, value in (("read", d["read_bytes"]), ("write", d["write_bytes"]))
    ]


def _cpu(total: int, kernel: int, reading: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "cpu_usage": {
            "total_usage": total,
            "usage_in_kernelmode": kernel,
            "usage_in_usermode": max(total - kernel, 0),
        },
        "system_cpu_usage": _host_cpu_ns(),
        "online_cpus": os.cpu_count() or 1,
        "throttling_data": {
            "periods": reading.get("periods", 0),
            "throttled_periods": reading.get("throttled_periods", 0),
            "throttled_time": reading.get("throttled_ns", 0),
        },
    }


def _host_cpu_ns() -> int:
    with open("/proc/stat", "rb") as file:
        ticks = sum(int(word) for word in file.readline().split()[1:9])
    return ticks * (10**9 // os.sysconf("SC_CLK_TCK"))


def _host_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def interfaces(pid: int) -> dict[str, dict[str, int]]:
    """Bytes and packets of each interface as the process sees them (proc(5), /proc/PID/net/dev)."""
    try:
        with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
            lines = file.read().splitlines()[_HEADERS:]
    except (FileNotFoundError, ProcessLookupError):
        return {}
    names = ("bytes", "packets", "errors", "dropped")
    result = {}
    for line in lines:
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            continue
        fields = [int(word) for word in numbers.split()]
        received = {f"rx_{key}": fields[i] for i, key in enumerate(names)}
        sent = {f"tx_{key}": fields[8 + i] for i, key in enumerate(names)}
        result[name.strip()] = received | sent
    return result


def top(container: Container, cgroups: CgroupManager, path: str, ps_args: str) -> dict[str, Any]:
    """The host's ``ps`` over the container's processes.

    Raises:
        Conflict: it does not run.
        InvalidArgument: ps refuses the arguments.
    """
    if not container.running:
        raise Conflict(f"Container {container.id} is not running")
    pids = {str(pid) for pid in cgroups.processes(path)}
    command = ["ps", *(ps_args or "-ef").split()]
    # By itself ps shows less than all, or more than ours; some of its options refuse -q.
    done = _ps([*command, "-q", ",".join(pids)])
    if done.returncode:
        done = _ps(command)
    if done.returncode:
        raise InvalidArgument(f"ps: {done.stderr.strip()}")
    header, *rows = done.stdout.splitlines()
    titles = header.split()
    if "PID" not in titles:
        raise InvalidArgument("Couldn't find PID field in ps output")
    position = titles.index("PID")
    processes = [row.split(None, len(titles) - 1) for row in rows]
    return {"Titles": titles, "Processes": [p for p in processes if p[position] in pids]}


def _ps(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)
