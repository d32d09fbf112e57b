"""Exit records of containers whose keeper is gone: found by the pid records that it left on disk.

A pid alone is no identity, it is used again; with the time when the process started it is one.
"""

from __future__ import annotations

import os
import time

from pannier.base import jsonlite
from pannier.base.atomic import write_atomic
from pannier.base.errors import PannierError
from pannier.kernel import cgroup, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

PID_RECORD = "pid.json"
EXIT_RECORD = "exit.json"


def start_time(pid: int) -> int:
    """When *pid* started, in clock ticks after boot (proc_pid_stat(5), field 22); 0 if it is gone
    or only waits to be reaped."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in b"ZX" else int(fields[19])


def pid_records(run: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(container id, record) of each container that was started since the host was."""
    directory = os.path.join(run, "containers")
    boot_id = process.boot_id()
    try:
        ids = os.listdir(directory)
    except FileNotFoundError:
        return
    for container_id in ids:
        try:
            with open(os.path.join(directory, container_id, PID_RECORD), "rb") as file:
                record = jsonlite.decode(file.read())
        except (FileNotFoundError, NotADirectoryError):
            continue
        if record.get("boot_id") == boot_id:
            yield container_id, record


def any_running(run: str) -> bool:
    """Whether the first process of a container lives."""
    return any(
        record.get("pid") and start_time(record["pid"]) == record.get("start_time")
        for _, record in pid_records(run)
    )


def record_exit(run: str, pid: int, status: int) -> dict[str, Any] | None:
    """Write the exit record of the container whose first process was *pid*, if there is one.

    Args:
        run: directory of the instance.
        pid: a process that was just reaped.
        status: as wait(2) gives it.
    """
    for container_id, record in pid_records(run):
        if record.get("pid") != pid:
            continue
        path = os.path.join(run, "containers", container_id, EXIT_RECORD)
        if os.path.exists(path):  # an earlier life of the container had this pid
            continue
        made = {
            "id": container_id,
            "pid": pid,
            "status": os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0,
            "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
            "oom": _out_of_memory(str(record.get("cgroup", ""))),
            "time_ns": time.time_ns(),
            "known": True,
        }
        write_atomic(path, jsonlite.encode(made))
        return made
    return None


def _out_of_memory(path: str) -> bool:
    if not path:
        return False
    try:
        manager = cgroup.CgroupManager(cgroup.probe(), path.partition("/")[0])
        return manager.oom_kills(path) > 0
    except PannierError:
        return False
