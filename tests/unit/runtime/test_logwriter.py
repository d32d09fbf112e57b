"""The form of records, rotation, and what happens when the writer dies at any step."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pannier.runtime import logwriter
from pannier.runtime.logwriter import LogWriter, format_records

TIME = 1_714_564_800_123_456_789
STAMP = b"2024-05-01T12:00:00.123456789Z"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"one\n", STAMP + b" stdout F one\n"),
        (b"one\ntwo\n", STAMP + b" stdout F one\n" + STAMP + b" stdout F two\n"),
        (b"begin", STAMP + b" stdout P begin\n"),
        (b"end\nbegin", STAMP + b" stdout F end\n" + STAMP + b" stdout P begin\n"),
        (b"\n", STAMP + b" stdout F \n"),
        (b"\xff\x00\r\n", STAMP + b" stdout F \xff\x00\r\n"),
    ],
)
def test_records(data: bytes, expected: bytes) -> None:
    assert format_records(data, TIME, 0) == expected


@pytest.fixture
def pipe():
    ends = os.pipe2(os.O_NONBLOCK)
    yield ends
    for end in ends:
        os.close(end)


def _writer(tmp_path: Path, max_size: int = 0, max_files: int = 3) -> LogWriter:
    return LogWriter(str(tmp_path / "log"), max_size, max_files, str(tmp_path / "stage"))


def _payload(path: Path) -> bytes:
    return b"".join(line.split(b" ", 3)[3] + b"\n" for line in path.read_bytes().splitlines())


def test_moves_from_a_pipe(tmp_path: Path, pipe: tuple[int, int]) -> None:
    writer = _writer(tmp_path)
    os.write(pipe[1], b"hello\nworld\n")
    assert writer.move(pipe[0], 1) == 12
    with pytest.raises(BlockingIOError):
        writer.move(pipe[0], 1)
    lines = (tmp_path / "log").read_bytes().splitlines()
    assert [line.split(b" ", 1)[1] for line in lines] == [b"stderr F hello", b"stderr F world"]
    writer.close()


def test_end_of_file(tmp_path: Path) -> None:
    read_end, write_end = os.pipe2(os.O_NONBLOCK)
    os.close(write_end)
    writer = _writer(tmp_path)
    assert writer.move(read_end, 0) == 0
    writer.close()
    os.close(read_end)


def test_rotation_keeps_the_newest(tmp_path: Path, pipe: tuple[int, int]) -> None:
    writer = _writer(tmp_path, max_size=150, max_files=2)
    for number in range(10):
        os.write(pipe[1], b"%d" % number * 60 + b"\n")
        writer.move(pipe[0], 0)
    writer.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1", "stage"]
    assert _payload(tmp_path / "log.1") + _payload(tmp_path / "log") == b"".join(
        b"%d" % number * 60 + b"\n" for number in range(6, 10)
    )


def test_one_file_alone_starts_anew(tmp_path: Path, pipe: tuple[int, int]) -> None:
    writer = _writer(tmp_path, max_size=10, max_files=1)
    for text in (b"old\n", b"new\n"):
        os.write(pipe[1], text)
        writer.move(pipe[0], 0)
    writer.close()
    assert _payload(tmp_path / "log") == b"new\n"


@pytest.mark.parametrize("step", ["before write", "half written", "before truncate"])
def test_killed_while_writing(
    tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whatever the last step was, the next writer's log holds every byte once."""
    writer = _writer(tmp_path)
    os.write(pipe[1], b"first\n")
    writer.move(pipe[0], 0)
    os.write(pipe[1], b"second\nthird\n")

    class Killed(BaseException):
        pass

    def die(*_: object) -> int:
        raise Killed

    real = os.pwrite

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        if fd != writer._log:
            return real(fd, data, offset)
        if step == "half written":
            real(fd, bytes(data)[:7], offset)
        return die()

    if step == "before truncate":
        monkeypatch.setattr(logwriter.os, "ftruncate", die)
    else:
        monkeypatch.setattr(logwriter.os, "pwrite", pwrite)
    with pytest.raises(Killed):
        writer.move(pipe[0], 0)
    monkeypatch.undo()
    writer.close()

    writer = _writer(tmp_path)
    os.write(pipe[1], b"fourth\n")
    writer.move(pipe[0], 0)
    writer.close()
    assert _payload(tmp_path / "log") == b"first\nsecond\nthird\nfourth\n"


def test_full_disk_loses_nothing(
    tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = _writer(tmp_path)
    os.write(pipe[1], b"kept\n")

    def full(fd: int, data: bytes, offset: int) -> int:
        if fd == writer._log:
            raise OSError(28, "No space left on device")
        return real(fd, data, offset)

    real = os.pwrite
    monkeypatch.setattr(logwriter.os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        writer.move(pipe[0], 0)
    monkeypatch.undo()
    writer.recover()
    writer.close()
    assert _payload(tmp_path / "log") == b"kept\n"
