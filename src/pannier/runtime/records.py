"""What the keeper has on disk about a container, so that no exit is lost with a process.

<run>/containers/<id>/plan.json   what was carried out, for exec and replay
                      pid.json    written before the first process may run
                      exit.json   written before anybody is told of the end; by the supervisor
                                  if the keeper is gone (``runtime.orphans``)
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from pannier.base import jsonlite
from pannier.base.atomic import write_atomic
from pannier.kernel import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Record = dict[str, Any]

PLAN, PID, EXIT = "plan.json", "pid.json", "exit.json"
_PIPES = ("stdin", "stdout", "stderr")


class Records:
    """The records below one run directory."""

    def __init__(self, run: str) -> None:
        self._base = os.path.join(run, "containers")
        self.boot_id = process.boot_id()

    def directory(self, container_id: str) -> str:
        return os.path.join(self._base, container_id)

    def begin(self, container_id: str, plan: Record) -> str:
        """Make the directory with the plan in it, and nothing left of an earlier life."""
        directory = self.directory(container_id)
        os.makedirs(directory, 0o711, exist_ok=True)
        for name in (PID, EXIT):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(directory, name))
        self._write(container_id, PLAN, plan)
        return directory

    def write_pid(self, container_id: str, pid: int, start_time: int, cgroup: str) -> Record:
        """Note who is about to run."""
        record: Record = {
            "v": 1,
            "id": container_id,
            "pid": pid,
            "start_time": start_time,
            "boot_id": self.boot_id,
            "cgroup": cgroup,
            "started_ns": time.time_ns(),
        }
        self._write(container_id, PID, record)
        return record

    def write_exit(self, container_id: str, record: Record) -> None:
        self._write(container_id, EXIT, record)

    def read(self, container_id: str, name: str) -> Record | None:
        """A record, None if there is none, or none that can be read."""
        try:
            content = process.read_file(os.path.join(self.directory(container_id), name))
            record = jsonlite.decode(content)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def all(self) -> Iterator[str]:
        """Ids of the containers that have a directory."""
        with suppress(FileNotFoundError):
            yield from os.listdir(self._base)

    def erase(self, container_id: str) -> None:
        """Remove what was written here; the directory too if nothing else is in it."""
        directory = self.directory(container_id)
        for name in (PLAN, PID, EXIT, *_PIPES):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(directory, name))
        with suppress(OSError):
            os.rmdir(directory)

    def _write(self, container_id: str, name: str, record: Record) -> None:
        path = os.path.join(self.directory(container_id), name)
        write_atomic(path, jsonlite.encode(record))
