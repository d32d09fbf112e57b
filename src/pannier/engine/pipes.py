"""Between the event loop's byte streams and blocking code that reads or writes a file object."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from typing import IO

from pannier.engine.streams import ready

_CHUNK = 1 << 18
# Threads of their own: each waits for its client, maybe for long, and nobody else may wait behind.
_THREADS = concurrent.futures.ThreadPoolExecutor(64, thread_name_prefix="stream")


async def read_through(write: Callable[[IO[bytes]], None]) -> AsyncGenerator[bytes, None]:
    """Run *write* in a thread and yield what it writes.

    If the reader goes away, the writer gets EPIPE and ends. An error of *write* is raised here,
    after the bytes before it.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reader, False)

    def run() -> None:
        with os.fdopen(writer, "wb", _CHUNK) as out:
            write(out)

    work = asyncio.get_running_loop().run_in_executor(_THREADS, run)
    try:
        try:
            while chunk := await _read(reader):
                yield chunk
        finally:
            os.close(reader)
        await asyncio.shield(work)
    finally:
        with suppress(BrokenPipeError):
            await asyncio.shield(work)


async def feed_from(source: AsyncIterator[bytes], read: Callable[[IO[bytes]], None]) -> None:
    """Run *read* in a thread over a pipe that is fed from *source*.

    Raises:
        whatever *read* raises; a reader that stops early is no error.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(writer, False)

    def run() -> None:
        with os.fdopen(reader, "rb", _CHUNK) as file:
            read(file)

    work = asyncio.get_running_loop().run_in_executor(_THREADS, run)
    try:
        try:
            with suppress(BrokenPipeError):
                async for chunk in source:
                    await _write(writer, chunk)
        finally:
            os.close(writer)
    finally:
        await asyncio.shield(work)


async def _read(fd: int) -> bytes:
    while True:
        try:
            return os.read(fd, _CHUNK)
        except BlockingIOError:
            await ready(fd, write=False)


async def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            await ready(fd, write=True)
