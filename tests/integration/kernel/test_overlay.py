"""Overlays as every supported kernel takes them; the newer forms are switched off one by one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pannier.base.errors import KernelError, Unsupported
from pannier.base.instance import Instance
from pannier.kernel import _libc, idmap, overlay

BASE = 700_000_000
MAP = [[0, BASE, 65536]]
FORMS = list(overlay._forms)


@pytest.fixture(params=range(len(FORMS)), ids=[form.__name__ for form in FORMS])
def form(request: pytest.FixtureRequest) -> Iterator[str]:
    before = list(overlay._forms)
    overlay._forms[:] = FORMS[request.param :]
    yield FORMS[request.param].__name__
    overlay._forms[:] = before


@pytest.fixture
def stack(instance: Instance) -> overlay.Stack:
    lowers = []
    for number in range(6):
        lower = instance.data / f"l{number}"
        lower.mkdir()
        (lower / f"from{number}").write_text(str(number))
        os.chown(lower / f"from{number}", number, number)
        lowers.append(str(lower))
    for name in ("upper", "work"):
        (instance.data / "own" / name).mkdir(parents=True)
    return overlay.Stack(lowers, str(instance.data / "own/upper"), str(instance.data / "own/work"))


def in_child(fd: int, script: str) -> int:
    """Run Python in the mount *fd* with the overlay's ids, in a process of its own."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.fchdir(os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd))
            exec(script, {"os": os, "_libc": _libc, "BASE": BASE})
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_plain(stack: overlay.Stack, form: str) -> None:
    fd = overlay.mount_overlay(stack)
    try:
        assert in_child(fd, "assert open('from3').read() == '3'; open('new', 'w').close()") == 0
    finally:
        os.close(fd)
    assert Path(stack.upper, "new").exists()


def test_idmapped(stack: overlay.Stack, form: str) -> None:
    userns = idmap.new_user_namespace(MAP, MAP)
    fd = overlay.mount_overlay(stack, userns_fd=userns, owner=(BASE, BASE))
    try:
        script = (
            "assert os.stat('from3').st_uid == BASE + 3\n"
            "_libc.setfsgid(BASE + 5); _libc.setfsuid(BASE)\n"
            "os.mkdir('made')"
        )
        assert in_child(fd, script) == 0
    finally:
        os.close(fd)
        os.close(userns)
    assert Path(stack.upper, "made").stat().st_uid == 0
    assert Path(stack.upper, "made").stat().st_gid == 5


def test_without_upper_it_is_read_only(stack: overlay.Stack, form: str) -> None:
    fd = overlay.mount_overlay(overlay.Stack(stack.lowers))
    try:
        assert in_child(fd, "open('from1').close(); open('new', 'w')") == 1
    finally:
        os.close(fd)


def test_many_layers(instance: Instance) -> None:
    """More than fit into the one page of options that mount(2) takes."""
    lowers = []
    for number in range(300):
        (instance.data / f"layer{number}").mkdir()
        lowers.append(str(instance.data / f"layer{number}"))
    os.close(overlay.mount_overlay(overlay.Stack(lowers)))
    before = list(overlay._forms)
    overlay._forms[:] = FORMS[-1:]
    try:
        with pytest.raises(Unsupported, match="too many"):
            overlay.mount_overlay(overlay.Stack(lowers))
    finally:
        overlay._forms[:] = before


def test_the_id_that_mounts_must_be_mapped(stack: overlay.Stack) -> None:
    userns = idmap.new_user_namespace(MAP, MAP)
    try:
        with pytest.raises(Unsupported, match="read-only"):
            overlay.mount_overlay(stack, userns_fd=userns, owner=(0, 0))
    finally:
        os.close(userns)


def test_missing_layer(stack: overlay.Stack) -> None:
    stack.lowers.append("/nonexistent")
    with pytest.raises(KernelError):
        overlay.mount_overlay(stack)
    assert overlay._forms == FORMS or overlay._forms  # a bad layer is no reason to give up a form


def test_upper_and_work_lie_beside_each_other(stack: overlay.Stack) -> None:
    crossed = overlay.Stack(stack.lowers, stack.upper, stack.upper + "/work")
    with pytest.raises(Unsupported, match="beside"):
        _ = crossed.writable_parent
