"""Facts about processes, ids and capabilities, as far as they need no rights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pannier.base.errors import InvalidArgument
from pannier.kernel import capabilities, idmap, mount, process
from pannier.oci import defaults

MAP = [[0, 100_000, 1000], [2000, 500_000, 10]]


def test_start_time_tells_processes_apart() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = process.start_time(child.pid)
    assert started >= process.start_time(os.getpid())
    fd = process.open_pidfd(child.pid, started)
    assert fd is not None
    assert process.pid_of(fd) == child.pid
    assert process.open_pidfd(child.pid, started + 1) is None
    child.communicate(b"\n")
    assert process.open_pidfd(child.pid, started) is None
    with pytest.raises(ProcessLookupError):
        process.pid_of(fd)
    with pytest.raises(ProcessLookupError):
        process.start_time(child.pid)
    os.close(fd)


def test_reap() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    fd = os.pidfd_open(pid)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert process.reap(fd) == (7, 0)
    with pytest.raises(ChildProcessError):
        process.reap(fd)
    assert process.exit_after_reaping(fd) in ((7, 0), None)  # None before Linux 6.15
    os.close(fd)


def test_find_program(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "plain").write_text("")
    tool = tmp_path / "tool"
    tool.write_text("")
    tool.chmod(0o755)
    env = {"PATH": f"/nonexistent:{tmp_path}"}
    assert process.find_program("tool", env, "") == str(tool)
    assert process.find_program("tool", {}, str(tmp_path)) == str(tool)
    assert process.find_program(str(tool), {}, "") == str(tool)
    with pytest.raises(FileNotFoundError):
        process.find_program("other", env, "")
    with pytest.raises(PermissionError):
        process.find_program("plain", env, "")
    with pytest.raises(IsADirectoryError):
        process.find_program("directory", env, "")
    with pytest.raises(FileNotFoundError):
        process.find_program("./tool", env, "")


def test_ids_outside() -> None:
    assert idmap.to_host(0, MAP) == 100_000
    assert idmap.to_host(2009, MAP) == 500_009
    assert idmap.to_host(42, []) == 42
    for unmapped in (1000, 1999, 2010):
        with pytest.raises(ValueError, match=str(unmapped)):
            idmap.to_host(unmapped, MAP)


def test_capability_numbers_are_the_kernels() -> None:
    for number, name in enumerate(defaults.ALL_CAPABILITIES):
        assert capabilities.mask([name]) == 1 << number
    assert capabilities.mask(defaults.DEFAULT_CAPABILITIES) == 0xA80425FB  # as Docker's
    with pytest.raises(InvalidArgument, match="CAP_FLY"):
        capabilities.mask(["CAP_FLY"])


def test_permitted() -> None:
    assert capabilities.permitted(b"Name:\tx\nCapPrm:\t00000000a80425fb\n") == 0xA80425FB
    assert capabilities.permitted(b"") == 0


def test_each_option_has_an_opposite_that_clears_it() -> None:
    for table in (mount.FLAGS, mount.ATTRIBUTES):
        for word in ("nosuid", "nodev", "noexec"):
            assert table[word][0] == table[word.removeprefix("no")][1] != 0
