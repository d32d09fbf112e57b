"""Volumes, binds and tmpfs: content of first use, ownership on both sides, life after rm."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from engine_under_test import EngineUnderTest

IMAGE = "debian:12"
SLEEP = ("sleep", "infinity")


def run(daemon: EngineUnderTest, *words: str) -> str:
    return daemon.cli("run", "--rm", *words)


@pytest.fixture
def volume(daemon: EngineUnderTest):
    """The name of a volume that is removed at the end."""
    yield "data"
    ids = daemon.cli("ps", "-aq").split()
    if ids:
        daemon.cli("rm", "-f", *ids)
    daemon.cli_try("volume", "rm", "data")


def test_a_named_volume_outlives_its_containers(daemon: EngineUnderTest, volume: str) -> None:
    run(daemon, "-v", f"{volume}:/data", IMAGE, "sh", "-c", "echo kept > /data/file")
    assert run(daemon, "-v", f"{volume}:/other", IMAGE, "cat", "/other/file") == "kept"
    assert volume in daemon.cli("volume", "ls", "-q").split()
    seen = json.loads(daemon.cli("volume", "inspect", volume))[0]
    assert (Path(seen["Mountpoint"]) / "file").read_text() == "kept\n"


def test_two_containers_with_other_ids_share_it(daemon: EngineUnderTest, volume: str) -> None:
    daemon.cli("run", "-d", "--name", "one", "-v", f"{volume}:/data", IMAGE, *SLEEP)
    daemon.cli("run", "-d", "--name", "two", "-v", f"{volume}:/data", IMAGE, *SLEEP)
    daemon.cli("exec", "one", "sh", "-c", "echo x > /data/f && chown www-data /data/f")
    assert daemon.cli("exec", "two", "stat", "-c", "%U %G", "/data/f") == "www-data root"
    assert daemon.cli("exec", "--user", "www-data", "two", "sh", "-c", "echo y >> /data/f") == ""


def test_first_use_copies_what_the_image_has_there(daemon: EngineUnderTest, volume: str) -> None:
    words = ("-v", f"{volume}:/etc/apt", IMAGE)
    listed = run(daemon, IMAGE, "ls", "/etc/apt")
    assert run(daemon, *words, "ls", "/etc/apt") == listed
    assert run(daemon, *words, "stat", "-c", "%u:%g %a", "/etc/apt") == "0:0 755"
    run(daemon, *words, "sh", "-c", "rm -r /etc/apt/*")
    assert run(daemon, *words, "ls", "/etc/apt") == "", "only the first use copies"


def test_first_use_may_be_told_not_to_copy(daemon: EngineUnderTest, volume: str) -> None:
    assert run(daemon, "-v", f"{volume}:/etc/apt:nocopy", IMAGE, "ls", "/etc/apt") == ""


def test_a_volume_in_use_is_not_removed(daemon: EngineUnderTest, volume: str) -> None:
    daemon.cli("create", "--name", "user", "-v", f"{volume}:/data", IMAGE)
    done = daemon.cli_try("volume", "rm", volume)
    assert done.code == 1
    assert "volume is in use" in done.err
    daemon.cli("rm", "user")
    daemon.cli("volume", "rm", volume)
    assert "no such volume" in daemon.cli_try("volume", "inspect", volume).err


def test_unnamed_volumes_go_with_rm(daemon: EngineUnderTest) -> None:
    before = set(daemon.cli("volume", "ls", "-q").split())
    run(daemon, "-v", "/data", IMAGE, "touch", "/data/x")
    daemon.cli("run", "--name", "holder", "-v", "/data", IMAGE, "touch", "/data/x")
    assert len(set(daemon.cli("volume", "ls", "-q").split()) - before) == 1
    daemon.cli("rm", "-v", "holder")
    assert set(daemon.cli("volume", "ls", "-q").split()) == before


def test_volumes_of_another_container(daemon: EngineUnderTest, volume: str) -> None:
    daemon.cli("create", "--name", "holder", "-v", f"{volume}:/data", IMAGE)
    run(daemon, "--volumes-from", "holder", IMAGE, "sh", "-c", "echo x > /data/f")
    assert run(daemon, "--volumes-from", "holder:ro", IMAGE, "cat", "/data/f") == "x"
    done = daemon.cli_try("run", "--rm", "--volumes-from", "holder:ro", IMAGE, "touch", "/data/f")
    assert "Read-only file system" in done.err


def test_a_bind_has_the_hosts_owners_on_both_sides(daemon: EngineUnderTest, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "mine").write_text("x")
    (tmp_path / "theirs").write_text("x")
    os.chown(tmp_path / "theirs", 33, 33)
    words = ("-v", f"{tmp_path}:/in", IMAGE)
    assert run(daemon, *words, "stat", "-c", "%u", "/in/mine", "/in/theirs").split() == ["0", "33"]
    run(daemon, "--user", "www-data", *words, "sh", "-c", "echo y > /in/theirs")
    run(daemon, *words, "sh", "-c", "echo new > /in/new")
    assert (tmp_path / "theirs").read_text() == "y\n"
    facts = [(tmp_path / name).stat() for name in ("theirs", "new")]
    assert [(f.st_uid, f.st_gid) for f in facts] == [(33, 33), (0, 0)]


def test_a_read_only_bind(daemon: EngineUnderTest, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for option in (
        ("-v", f"{tmp_path}:/in:ro"),
        ("--mount", f"type=bind,source={tmp_path},target=/in,readonly"),
    ):
        done = daemon.cli_try("run", "--rm", *option, IMAGE, "sh", "-c", "cat /in/file; >/in/file")
        assert done.out == "x"
        assert "Read-only file system" in done.err
    assert (tmp_path / "file").read_text() == "x"


def test_one_file_is_bound(daemon: EngineUnderTest, tmp_path: Path) -> None:
    (tmp_path / "conf").write_text("from the host\n")
    for target in ("/etc/apt/apt.conf", "/new/place/conf", "/etc/hosts"):
        got = run(daemon, "-v", f"{tmp_path}/conf:{target}", IMAGE, "cat", target)
        assert got == "from the host"


def test_v_makes_a_missing_directory(daemon: EngineUnderTest, tmp_path: Path) -> None:
    run(daemon, "-v", f"{tmp_path}/a/b:/in", IMAGE, "touch", "/in/x")
    assert (tmp_path / "a/b/x").exists()


def test_what_is_mounted_later_on_the_host_stays_outside(
    daemon: EngineUnderTest, tmp_path: Path
) -> None:
    """Binds are private: no mount goes from the host inwards, or from inside to the host."""
    daemon.cli(
        "run", "-d", "--name", "b", "--cap-add", "SYS_ADMIN", "-v", f"{tmp_path}:/in", IMAGE, *SLEEP
    )
    daemon.cli("exec", "b", "sh", "-c", "mkdir /in/d && mount -t tmpfs none /in/d && >/in/d/x")
    assert list((tmp_path / "d").iterdir()) == []


def test_a_link_in_the_image_does_not_lead_a_mount_outside(
    daemon: EngineUnderTest, tmp_path: Path
) -> None:
    """CVE-2021-30465 and others: the target of a mount is looked up inside the root file system."""
    daemon.cli("run", "--name", "evil", IMAGE, "sh", "-c", f"ln -s ../../../../../{tmp_path} /link")
    daemon.cli("commit", "evil", "evil:1")
    try:
        got = run(daemon, "-v", "/link/deep", "evil:1", "sh", "-c", "touch /link/deep/x; pwd")
        assert got == "/"
        assert list(tmp_path.iterdir()) == []
    finally:
        daemon.cli("rm", "evil")
        daemon.cli("rmi", "-f", "evil:1")


def test_tmpfs(daemon: EngineUnderTest) -> None:
    script = "stat -f -c %T /t; stat -c %a /t; touch /t/x && ls /t"
    for option in (
        ("--tmpfs", "/t:size=1m,mode=1777"),
        ("--mount", "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1777"),
    ):
        assert run(daemon, *option, IMAGE, "sh", "-c", script).split() == ["tmpfs", "1777", "x"]


def test_prune_removes_only_what_nobody_uses(daemon: EngineUnderTest, volume: str) -> None:
    daemon.cli("create", "--name", "user", "-v", f"{volume}:/data", "-v", "/more", IMAGE)
    daemon.cli("volume", "create", "lonely")
    daemon.cli("volume", "prune", "--force", "--all")
    left = daemon.cli("volume", "ls", "-q").split()
    assert volume in left
    assert len(left) == 2
    daemon.cli("rm", "-v", "user")
