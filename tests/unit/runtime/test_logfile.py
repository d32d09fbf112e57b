"""Reading logs: whole, the tail, one stream, and following over rotations."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from pannier.runtime.logfile import LogRecord, follow, parse_record
from pannier.runtime.logwriter import LogWriter, format_records

TIME = 1_714_564_800_000_000_000


def _write(path: Path, *records: tuple[bytes, int]) -> None:
    with path.open("ab") as file:
        for number, (data, stream) in enumerate(records):
            file.write(format_records(data, TIME + number, stream))


async def _all(path: Path, **options) -> list[LogRecord]:
    return [record async for record in follow(path, **options)]


async def _data(path: Path, **options) -> bytes:
    return b"".join(record.data for record in await _all(path, **options))


def test_a_record_is_read_back() -> None:
    line = format_records(b"a b\n", TIME + 7, 1).rstrip(b"\n")
    assert parse_record(line) == LogRecord(TIME + 7, "stderr", partial=False, data=b"a b\n")
    assert parse_record(b"rubbish") is None


async def test_whole_log_over_all_files(tmp_path: Path) -> None:
    log = tmp_path / "log"
    _write(tmp_path / "log.2", (b"1\n", 0))
    _write(tmp_path / "log.1", (b"2\n", 0))
    _write(log, (b"3\n", 0), (b"4", 0))
    assert await _data(log) == b"1\n2\n3\n4"


async def test_no_log_yet(tmp_path: Path) -> None:
    assert await _all(tmp_path / "log") == []


@pytest.mark.parametrize(
    ("tail", "expected"),
    [(0, b""), (1, b"d\n"), (2, b"cc2\nd\n"), (3, b"b\ncc2\nd\n"), (9, b"a\nb\ncc2\nd\n")],
)
async def test_tail_counts_lines_not_records(tmp_path: Path, tail: int, expected: bytes) -> None:
    log = tmp_path / "log"
    _write(tmp_path / "log.1", (b"a\n", 0), (b"b\n", 0))
    _write(log, (b"cc", 0), (b"2\n", 0), (b"d\n", 0))
    assert await _data(log, tail=tail) == expected


async def test_tail_of_long_logs(tmp_path: Path) -> None:
    log = tmp_path / "log"
    lines = [b"%07d %s\n" % (number, b"x" * (number % 300)) for number in range(5000)]
    _write(log, (b"".join(lines), 0))
    for tail in (1, 10, 777, 4999, 5000, 6000):
        assert await _data(log, tail=tail) == b"".join(lines[-tail:])


async def test_streams_and_times(tmp_path: Path) -> None:
    log = tmp_path / "log"
    _write(log, (b"o1\n", 0), (b"e1\n", 1), (b"o2\n", 0), (b"e2\n", 1))
    assert await _data(log, streams=["stderr"]) == b"e1\ne2\n"
    assert await _data(log, streams=["stderr"], tail=1) == b"e2\n"
    assert await _data(log, since_ns=TIME + 2) == b"o2\ne2\n"
    assert await _data(log, until_ns=TIME + 1) == b"o1\ne1\n"


async def test_follows_over_rotations(tmp_path: Path) -> None:
    """A reader that is slower than the writer still sees every line once."""
    read_end, write_end = os.pipe2(os.O_NONBLOCK)
    writer = LogWriter(str(tmp_path / "log"), 500, 50, str(tmp_path / "stage"))
    stop = asyncio.Event()
    reading = asyncio.create_task(_data(tmp_path / "log", follow=True, stop=stop))
    expected = b""
    for number in range(200):
        line = b"line %d\n" % number
        expected += line
        os.write(write_end, line)
        writer.move(read_end, 0)
        if number % 7 == 0:
            await asyncio.sleep(0)
    stop.set()
    assert await asyncio.wait_for(reading, 5) == expected
    writer.close()
    os.close(read_end)
    os.close(write_end)


async def test_follow_waits_for_the_file(tmp_path: Path) -> None:
    stop = asyncio.Event()
    records = follow(tmp_path / "log", follow=True, stop=stop)
    first = asyncio.ensure_future(anext(records))
    await asyncio.sleep(0)
    _write(tmp_path / "log", (b"there\n", 0))
    assert (await asyncio.wait_for(first, 5)).data == b"there\n"
    await records.aclose()
