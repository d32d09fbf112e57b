"""Exit records written by the supervisor from the pid records on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pannier.kernel import process
from pannier.runtime import orphans


def _record(run: Path, container_id: str, **facts: object) -> Path:
    directory = run / "containers" / container_id
    directory.mkdir(parents=True)
    (directory / "pid.json").write_text(json.dumps({"boot_id": process.boot_id(), **facts}))
    return directory


def test_start_time_tells_processes_apart() -> None:
    assert orphans.start_time(os.getpid()) > 0
    assert orphans.start_time(2**22 + 1) == 0


def test_a_zombie_is_gone() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert orphans.start_time(pid) == 0
    os.waitpid(pid, 0)


def test_exit_is_recorded_for_the_right_container(tmp_path: Path) -> None:
    _record(tmp_path, "a", pid=11)
    wanted = _record(tmp_path, "b", pid=12)
    made = orphans.record_exit(str(tmp_path), 12, 3 << 8)
    assert made is not None
    assert (made["id"], made["status"], made["signal"]) == ("b", 3, 0)
    assert json.loads((wanted / "exit.json").read_text()) == made
    killed = _record(tmp_path, "c", pid=13)
    orphans.record_exit(str(tmp_path), 13, 9)
    assert json.loads((killed / "exit.json").read_text())["signal"] == 9


def test_no_container(tmp_path: Path) -> None:
    assert orphans.record_exit(str(tmp_path), 5, 0) is None
    _record(tmp_path, "a", pid=5)
    orphans.record_exit(str(tmp_path), 5, 0)
    assert orphans.record_exit(str(tmp_path), 5, 256) is None


def test_running(tmp_path: Path) -> None:
    assert not orphans.any_running(str(tmp_path))
    _record(tmp_path, "a", pid=os.getpid(), start_time=1)
    assert not orphans.any_running(str(tmp_path))
    _record(tmp_path, "b", pid=os.getpid(), start_time=orphans.start_time(os.getpid()))
    assert orphans.any_running(str(tmp_path))


def test_a_record_from_before_a_reboot_means_nothing(tmp_path: Path) -> None:
    _record(tmp_path, "a", pid=7, boot_id="another")
    assert orphans.record_exit(str(tmp_path), 7, 0) is None
