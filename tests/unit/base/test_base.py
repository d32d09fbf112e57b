"""Units, ids, undo stacks, atomic files and the database."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.base import ids, units
from pannier.base.atomic import write_atomic
from pannier.base.database import Database
from pannier.base.errors import InvalidArgument, KernelError
from pannier.base.undo import AsyncUndoStack, UndoStack


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512", 512),
        ("64m", 64 << 20),
        ("1.5g", 3 << 29),
        ("10KiB", 10240),
        ("2GB", 2 << 30),
        (7, 7),
    ],
)
def test_sizes(text, size):
    assert units.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "12x", "-3m", "1 2"])
def test_bad_size_names_the_text(text):
    with pytest.raises(InvalidArgument, match="invalid size"):
        units.parse_size(text)


@pytest.mark.parametrize(
    ("text", "ns"),
    [("1m30s", 90 * 10**9), ("500ms", 5 * 10**8), ("10", 10**10), ("1h", 36 * 10**11)],
)
def test_durations(text, ns):
    assert units.parse_duration(text) == ns


@given(st.integers(min_value=1, max_value=4 * 10**18))
def test_time_round_trip(ns):
    assert units.parse_time(units.rfc3339(ns)) == ns


def test_time_with_zone():
    assert units.parse_time("1970-01-01T02:00:00+02:00") == 0
    assert units.parse_time("10s", now_ns=20 * 10**9) == 10**10


def test_names():
    assert ids.check_name("/web-1") == "web-1"
    assert len(ids.new_id()) == 64
    ids.check_name(ids.random_name())
    for bad in ("", "-x", "a b", "x/y", "ä"):
        with pytest.raises(InvalidArgument, match="Invalid container name"):
            ids.check_name(bad)


def test_undo_runs_in_reverse_and_keeps_the_first_error():
    seen: list[int] = []

    def broken() -> None:
        raise RuntimeError("second")

    def change() -> None:
        with UndoStack() as undo:
            undo.push(seen.append, 1)
            undo.push(broken)
            undo.push(seen.append, 2)
            raise ValueError("first")

    with pytest.raises(ValueError, match="first") as caught:
        change()
    assert seen == [2, 1]
    assert "second" in caught.value.__notes__[0]


async def test_async_undo_and_commit():
    seen: list[str] = []

    async def step(word: str) -> None:
        seen.append(word)

    async with AsyncUndoStack() as undo:
        undo.push(step, "never")
        undo.commit()
    with pytest.raises(ValueError, match="x"):
        async with AsyncUndoStack() as undo:
            undo.push(step, "a")
            undo.push(seen.append, "b")
            raise ValueError("x")
    assert seen == ["b", "a"]


def test_atomic_write_replaces_whole_files(tmp_path):
    target = tmp_path / "f"
    write_atomic(target, b"one", sync=True)
    write_atomic(target, b"two")
    assert target.read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_kernel_error_is_an_os_error():
    error = KernelError(2, "mount", "/x")
    assert isinstance(error, OSError)
    assert error.errno == 2
    assert str(error) == "mount /x: No such file or directory"


def test_database_rolls_back(tmp_path):
    database = Database(tmp_path / "d")
    with pytest.raises(ValueError, match="stop"), database.transaction():
        database.execute("INSERT INTO volumes VALUES ('v', '{}')")
        raise ValueError("stop")
    assert database.query("SELECT * FROM volumes") == []
    database.close()
    assert Database(tmp_path / "d").one("SELECT count(*) AS n FROM images")["n"] == 0
