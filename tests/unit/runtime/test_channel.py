"""Messages between processes, both ends of them, and the loop that serves them."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pannier.base.errors import (
    Internal,
    InvalidArgument,
    KernelError,
    NotFound,
    PannierError,
    Unavailable,
)
from pannier.runtime import channel
from pannier.runtime.async_channel import AsyncChannel
from pannier.runtime.loop import LATER, Loop, Request, Server


class Echo:
    """A server in a thread of its own, as a process would be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loop = Loop()
        self.later: list[Request] = []
        handlers = {
            "echo": lambda request: {"text": request["text"]},
            "fds": self._fds,
            "missing": self._missing,
            "kernel": self._kernel,
            "defect": self._defect,
            "later": self._later,
            "release": self._release,
            "shout": self._shout,
            "stop": lambda _: self.loop.stop(),
        }
        self.server = Server(self.loop, path, handlers)
        self.thread = threading.Thread(target=self.loop.run)
        self.thread.start()

    def _fds(self, request: Request) -> None:
        request.close_fds = request.take_fds()

    def _missing(self, _: Request) -> None:
        raise NotFound("No such thing", hint="look elsewhere", name="x")

    def _kernel(self, _: Request) -> None:
        raise KernelError(errno.EBUSY, "mount", "/x")

    def _defect(self, _: Request) -> None:
        raise RuntimeError("oh")

    def _later(self, request: Request) -> dict:
        self.later.append(request)
        return LATER

    def _release(self, _: Request) -> None:
        for request in self.later:
            self.server.reply(request, {"late": True})

    def _shout(self, request: Request) -> None:
        for number in range(request["times"]):
            self.server.broadcast(channel.event("shout", number=number, pad="x" * request["pad"]))


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[Echo]:
    made = Echo(tmp_path / "echo.sock")
    yield made
    with channel.connect(made.path) as connection:
        connection.request("stop")
    made.thread.join()


def test_blocking_request(echo: Echo) -> None:
    with channel.connect(echo.path) as connection:
        assert connection.request("echo", text="ä" * 100_000) == ({"text": "ä" * 100_000}, [])
        with pytest.raises(InvalidArgument, match="'text' is missing"):
            connection.request("echo")
        with pytest.raises(InvalidArgument, match="unknown request"):
            connection.request("nothing")


def test_errors_keep_their_facts(echo: Echo, capfd: pytest.CaptureFixture[str]) -> None:
    with channel.connect(echo.path) as connection:
        with pytest.raises(NotFound, match="No such thing") as missing:
            connection.request("missing")
        with pytest.raises(KernelError) as kernel:
            connection.request("kernel")
        with pytest.raises(Internal, match="RuntimeError: oh"):
            connection.request("defect")
    assert (missing.value.hint, missing.value.fields) == ("look elsewhere", {"name": "x"})
    error = kernel.value
    assert (error.errno, error.what, error.path) == (errno.EBUSY, "mount", "/x")
    assert "Traceback" in capfd.readouterr().err


def test_too_large(echo: Echo) -> None:
    with channel.connect(echo.path) as connection, pytest.raises(InvalidArgument, match="bytes"):
        connection.request("echo", text="x" * channel.MAX_MESSAGE)


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        channel.connect(tmp_path / "none.sock")


async def test_requests_are_answered_by_number(echo: Echo) -> None:
    connection = await AsyncChannel.connect(echo.path)
    late = asyncio.create_task(connection.request("later"))
    assert (await connection.request("echo", text="first"))["text"] == "first"
    assert not late.done()
    await connection.request("release")
    assert await late == {"late": True}
    connection.close()


async def test_file_descriptors_cross(echo: Echo) -> None:
    connection = await AsyncChannel.connect(echo.path)
    read_end, write_end = os.pipe()
    _, (copy,) = await connection.request_fds("fds", fds=[write_end])
    os.close(write_end)
    os.write(copy, b"through")
    os.close(copy)
    assert os.read(read_end, 100) == b"through"
    assert os.read(read_end, 100) == b""  # the server has kept no copy
    os.close(read_end)
    connection.close()


async def test_events_wait_for_a_slow_reader(echo: Echo) -> None:
    seen: list[int] = []
    connection = await AsyncChannel.connect(echo.path, lambda event: seen.append(event["number"]))
    await connection.request("shout", times=30, pad=50_000)
    async with asyncio.timeout(10):
        while len(seen) < 30:
            await asyncio.sleep(0.01)
    assert seen == list(range(30))
    connection.close()


async def test_a_reader_that_is_too_slow_is_dropped(echo: Echo) -> None:
    deaf = channel.connect(echo.path)
    connection = await AsyncChannel.connect(echo.path)
    for _ in range(10):  # in pieces that this connection keeps up with, the deaf one never reads
        await connection.request("shout", times=10, pad=100_000)
    assert (await connection.request("echo", text="alive"))["text"] == "alive"
    count = 0
    while deaf.receive() is not None:
        count += 1
    assert count < 100
    deaf.close()
    connection.close()


async def test_the_other_side_ends(tmp_path: Path) -> None:
    made = Echo(tmp_path / "end.sock")
    connection = await AsyncChannel.connect(made.path)
    waiting = asyncio.create_task(connection.request("later"))
    await connection.request("echo", text="x")
    for peer in made.server.peers:
        os.close(os.dup(peer.fileno()))
    with channel.connect(made.path) as other:
        other.request("stop")
    made.thread.join()
    for peer in made.server.peers:
        peer.close()
    with pytest.raises(Unavailable):
        await waiting
    assert connection.closed
    with pytest.raises(Unavailable):
        await connection.request("echo", text="x")


def test_wire_errors_of_any_kind() -> None:
    error = channel.error_from_wire({"kind": "Strange", "message": "m"})
    assert type(error) is Internal
    assert isinstance(channel.error_from_wire({"kind": "KernelError", "errno": 2}), PannierError)
    wire = channel.error_to_wire(FileNotFoundError(2, "no", "/f"))
    assert (wire["kind"], wire["path"]) == ("KernelError", "/f")


def test_timers_run_in_order() -> None:
    loop, ran = Loop(), []
    loop.call_later(0.02, lambda: (ran.append(2), loop.stop()))
    loop.call_later(0.0, lambda: ran.append(1))
    loop.run()
    assert ran == [1, 2]
