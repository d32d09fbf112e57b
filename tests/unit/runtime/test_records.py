"""Records on disk, and copies of directories into fresh file systems."""

from __future__ import annotations

import os
from pathlib import Path

from pannier.runtime import copyup
from pannier.runtime.records import EXIT, PID, PLAN, Records


def test_a_life_in_records(tmp_path: Path) -> None:
    records = Records(str(tmp_path))
    assert list(records.all()) == []
    directory = records.begin("c1", {"id": "c1"})
    assert records.read("c1", PLAN) == {"id": "c1"}
    assert records.read("c1", PID) is None
    written = records.write_pid("c1", 7, 99, "p/c1")
    assert records.read("c1", PID) == written
    assert written["boot_id"] == records.boot_id
    records.write_exit("c1", {"pid": 7})
    assert list(records.all()) == ["c1"]
    records.begin("c1", {"id": "c1", "second": True})
    assert records.read("c1", EXIT) is None  # of the earlier life
    os.mkfifo(f"{directory}/stdout")
    records.erase("c1")
    assert list(records.all()) == []


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    records = Records(str(tmp_path))
    directory = Path(records.begin("c1", {}))
    (directory / "logger.json").write_text("{}")
    records.erase("c1")
    assert os.listdir(directory) == ["logger.json"]


def test_broken_records_are_no_records(tmp_path: Path) -> None:
    records = Records(str(tmp_path))
    directory = Path(records.begin("c1", {}))
    for content in ("", "{", "[]"):
        (directory / PID).write_text(content)
        assert records.read("c1", PID) is None


def test_copy_up(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "a/b").mkdir(parents=True)
    (source / "a/b/file").write_bytes(b"x" * 2_000_000)
    (source / "a/b/file").chmod(0o640)
    (source / "a").chmod(0o750)
    (source / "link").symlink_to("/outside")
    os.mkfifo(source / "pipe")
    target.mkdir()
    fds = [os.open(path, os.O_RDONLY) for path in (source, target)]
    copyup.copy_tree(*fds)
    for fd in fds:
        os.close(fd)
    assert (target / "a/b/file").read_bytes() == b"x" * 2_000_000
    assert (target / "a/b/file").stat().st_mode & 0o777 == 0o640
    assert (target / "a").stat().st_mode & 0o777 == 0o750
    assert os.readlink(target / "link") == "/outside"
    assert not (target / "pipe").exists()
