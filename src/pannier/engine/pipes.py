"""Between the event loop's byte streams and blocking code that reads or writes a file object."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import IO

_CHUNK = 1 << 18


async def read_through(write: Callable[[IO[bytes]], None]) -> AsyncIterator[bytes]:
    """Run *write* in a thread and yield what it writes.

    If the reader goes away, the writer gets EPIPE and ends. An error of *write* is raised here,
    after the bytes before it.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)

    def run() -> None:
        with os.fdopen(writer, "wb", _CHUNK) as out:
            write(out)

    task = asyncio.create_task(asyncio.to_thread(run))
    try:
        with os.fdopen(reader, "rb", 0) as source:
            while chunk := await asyncio.to_thread(source.read, _CHUNK):
                yield chunk
        await task
    finally:
        with suppress(BrokenPipeError):
            await task


async def feed_from(source: AsyncIterator[bytes], read: Callable[[IO[bytes]], None]) -> None:
    """Run *read* in a thread over a pipe that is fed from *source*.

    Raises:
        whatever *read* raises; a reader that stops early is no error.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)

    def run() -> None:
        with os.fdopen(reader, "rb", _CHUNK) as file:
            read(file)

    task = asyncio.create_task(asyncio.to_thread(run))
    try:
        with suppress(BrokenPipeError), os.fdopen(writer, "wb", 0) as out:
            async for chunk in source:
                await asyncio.to_thread(_write_all, out, chunk)
    finally:
        await task


def _write_all(out: IO[bytes], chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[out.write(view) :]
