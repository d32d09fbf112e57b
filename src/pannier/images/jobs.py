"""The daemon's side of worker processes: start one, feed it, read its answer.

A job is heavy (hash, unpack, compress, delete) and would hold up the event loop or its GIL. What
the jobs do is in ``worker``. A worker answers with one JSON document; its errors come back as the
same classes of the error tree.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pannier.base import errors

Result = dict[str, Any]
OnLine = Callable[[str], None]

_CHUNK = 256 * 1024
_MODULE = "pannier.images.worker"
_SOURCE_ROOT = str(Path(__file__).resolve().parents[2])


async def run(
    job: str,
    arguments: dict[str, Any],
    *,
    data: AsyncIterator[bytes] | None = None,
    on_line: OnLine | None = None,
    module: str = _MODULE,
    source: int | None = None,
) -> Result:
    """Run *job* to its end.

    Args:
        job: a name that ``worker`` knows.
        arguments: what it needs, as JSON.
        data: bytes for its standard input.
        on_line: called with each line that it writes to standard error.
        module: whose jobs; other packages have workers of their own.
        source: an open file as its standard input, in place of *data*.

    Returns:
        its answer.

    Raises:
        PannierError: what the job raised; ``Internal`` if it died without an answer.
    """
    async with _worker(job, arguments, 1, PIPE if data is not None else source, module) as process:
        try:
            async with asyncio.TaskGroup() as group:
                feeding = group.create_task(_feed(process, data))
                answer = group.create_task(_read_all(process.stdout))
                noise = group.create_task(_lines(process.stderr, on_line))
        except ExceptionGroup as failed:  # from *data*: its maker's error is the one to tell
            raise failed.exceptions[0] from None
        await process.wait()
        if feeding.result() is not None and process.returncode == 0:
            raise errors.Internal(f"the worker {job} closed its input early")
        return _parse(job, process, answer.result(), noise.result())


async def stream(job: str, arguments: dict[str, Any]) -> AsyncIterator[bytes]:
    """Run *job* and hand out what it writes to standard output, in pieces of up to 256 KiB.

    Raises:
        PannierError: as ``run``; after the last piece that could be made.
    """
    async with _worker(job, arguments, 2, None) as process:
        assert process.stdout is not None
        while chunk := await process.stdout.read(_CHUNK):
            yield chunk
        noise = await _read_all(process.stderr)
        await process.wait()
        text = noise.rstrip()
        _parse(job, process, text.rpartition(b"\n")[2], text)


@asynccontextmanager
async def _worker(
    job: str, arguments: dict[str, Any], answer_fd: int, source: int | None, module: str = _MODULE
) -> AsyncIterator[Process]:
    command = (sys.executable, "-sP", "-m", module, job, str(answer_fd))
    process = await asyncio.create_subprocess_exec(
        *command,
        json.dumps(arguments),
        stdin=DEVNULL if source is None else source,
        stdout=PIPE,
        stderr=PIPE,
        limit=1 << 20,
        cwd="/",
        env={**_environment(), "PYTHONPATH": _SOURCE_ROOT},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await asyncio.shield(process.wait())


def _environment() -> dict[str, str]:
    """Proxies and locations for programs that a job starts; no Python settings."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


async def _feed(process: Process, data: AsyncIterator[bytes] | None) -> OSError | None:
    """Write all of *data*; a worker that stopped reading has an error to tell, so go on."""
    if data is None:
        return None
    assert process.stdin is not None
    try:
        async for chunk in data:
            process.stdin.write(chunk)
            await process.stdin.drain()
        process.stdin.close()
        await process.stdin.wait_closed()
    except (BrokenPipeError, ConnectionResetError) as error:
        return error
    return None


async def _read_all(stream_: asyncio.StreamReader | None) -> bytes:
    assert stream_ is not None
    return await stream_.read()


async def _lines(stream_: asyncio.StreamReader | None, on_line: OnLine | None) -> bytes:
    """Hand out lines as they come; returns the last few for an error message."""
    assert stream_ is not None
    tail: list[bytes] = []
    async for line in stream_:
        tail = [*tail[-20:], line]
        if on_line:
            on_line(line.decode(errors="replace").rstrip())
    return b"".join(tail)


def _parse(job: str, process: Process, answer: bytes, noise: bytes) -> Result:
    try:
        document = json.loads(answer)
    except ValueError:
        last = noise.decode(errors="replace").strip()[-2000:]
        raise errors.Internal(
            f"the worker {job} ended with status {process.returncode}", output=last
        ) from None
    if "error" in document:
        raise _rebuild(document["error"])
    assert isinstance(document, dict)
    return document


def _rebuild(error: dict[str, Any]) -> errors.PannierError:
    if "errno" in error:
        return errors.KernelError(error["errno"], error["what"], error["path"], error.get("hint"))
    kind = getattr(errors, error["kind"], errors.Internal)
    rebuilt = kind(error["message"], hint=error.get("hint"), **error.get("fields", {}))
    assert isinstance(rebuilt, errors.PannierError)
    return rebuilt
