"""Events of directories and files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pannier.base.errors import KernelError
from pannier.kernel.inotify import IN_CREATE, IN_IGNORED, IN_MODIFY, IN_MOVED_TO, Inotify


@pytest.fixture
def inotify():
    made = Inotify()
    yield made
    made.close()


def test_names_of_what_changed(inotify: Inotify, tmp_path: Path) -> None:
    watch = inotify.add(tmp_path, IN_CREATE | IN_MOVED_TO)
    assert list(inotify.read()) == []
    (tmp_path / "a name of odd length").write_text("x")
    (tmp_path / "a name of odd length").rename(tmp_path / "b")
    assert list(inotify.read()) == [
        (watch, IN_CREATE, "a name of odd length"),
        (watch, IN_MOVED_TO, "b"),
    ]


def test_a_file(inotify: Inotify, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    watch = inotify.add(tmp_path / "f", IN_MODIFY)
    with (tmp_path / "f").open("a") as file:
        file.write("x")
    assert list(inotify.read()) == [(watch, IN_MODIFY, "")]
    inotify.remove(watch)
    assert [mask for _, mask, _ in inotify.read()] == [IN_IGNORED]


def test_what_is_not_there(inotify: Inotify, tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="inotify_add_watch"):
        inotify.add(tmp_path / "none", IN_MODIFY)
