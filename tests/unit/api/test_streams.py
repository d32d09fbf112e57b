"""Hijacked connections: attach, exec, run; and wait, which belongs to them."""

from __future__ import annotations

import asyncio
import json

import pytest

ATTACH = "attach?stream=1&stdin=1&stdout=1&stderr=1"
FRAMES = "application/vnd.docker.multiplexed-stream"
RAW = "application/vnd.docker.raw-stream"


async def attached(served, container, *, version="/v1.50", query=ATTACH, **options):
    peer = await served.peer()
    await peer.send("POST", f"{version}/containers/{container}/{query}", **options)
    return peer


async def test_run_as_dockers_cli_does_it(served):
    container = await served.create("both")
    peer = await attached(served, container)
    assert await peer.head() == 101
    assert peer.headers == {"Content-Type": FRAMES, "Connection": "Upgrade", "Upgrade": "tcp"}
    waiter = await served.peer()
    await waiter.send("POST", f"/containers/{container}/wait?condition=next-exit", upgrade=False)
    assert await waiter.head() == 200  # the headers come before the exit
    assert (await served.call("POST", f"/containers/{container}/start"))[0] == 204
    assert await peer.frames() == [(1, b"out\n"), (2, b"err\n")]
    assert b'"StatusCode":0' in await waiter.reader.readuntil(b"}")


async def test_half_close_is_end_of_file(served):
    container = await served.create("cat", OpenStdin=True)
    peer = await attached(served, container)
    await peer.head()
    await served.call("POST", f"/containers/{container}/start")
    peer.writer.write(b"hello\n")
    peer.writer.write_eof()
    assert await peer.frames() == [(1, b"hello\n")]
    assert served.backend.containers.get("c1").attachments[0].closed


async def test_stdin_is_ignored_when_not_open(served):
    container = await served.create("echo", "hi")
    peer = await attached(served, container)
    await peer.head()
    peer.writer.write_eof()
    await served.call("POST", f"/containers/{container}/start")
    assert await peer.frames() == [(1, b"hi\n")]


@pytest.mark.parametrize(
    ("version", "tty", "expected"),
    [("/v1.50", False, FRAMES), ("", False, FRAMES), ("/v1.41", False, RAW), ("/v1.50", True, RAW)],
)
async def test_content_type(served, version, tty, expected):
    container = await served.create("echo", "x", Tty=tty)
    peer = await attached(served, container, version=version)
    await peer.head()
    assert peer.headers["Content-Type"] == expected


async def test_without_upgrade_the_answer_is_200(served):
    container = await served.create("echo", "hi")
    peer = await attached(served, container, upgrade=False)
    assert await peer.head() == 200
    assert peer.headers == {"Content-Type": RAW}
    await served.call("POST", f"/containers/{container}/start")
    assert await peer.frames() == [(1, b"hi\n")]


async def test_tty_is_raw_and_half_close_detaches(served):
    container = await served.create("cat", Tty=True, OpenStdin=True)
    peer = await attached(served, container)
    await peer.head()
    await served.call("POST", f"/containers/{container}/start")
    peer.writer.write(b"typed")
    assert await peer.reader.readexactly(5) == b"typed"
    peer.writer.write_eof()
    assert await peer.reader.read() == b""
    found = served.backend.containers.get("c1")
    assert not found.attachments[0].stdin_closed
    assert found.process.exit_code is None


async def test_detach_keys(served):
    container = await served.create("cat", Tty=True, OpenStdin=True)
    peer = await attached(served, container, query=ATTACH + "&detachKeys=ctrl-a,x")
    await peer.head()
    await served.call("POST", f"/containers/{container}/start")
    peer.writer.write(b"ab\x01c\x01")
    assert await peer.reader.readexactly(4) == b"ab\x01c"
    peer.writer.write(b"x")
    assert await peer.reader.read() == b""
    assert served.backend.containers.get("c1").process.exit_code is None


async def test_attach_to_nothing_is_a_plain_error(served):
    peer = await attached(served, "nosuch")
    assert await peer.head() == 404
    assert peer.headers["Content-Type"].startswith("application/json")


async def test_a_caller_that_vanishes_leaves_the_container(served):
    container = await served.create("wait", OpenStdin=True)
    peer = await attached(served, container)
    await peer.head()
    await served.call("POST", f"/containers/{container}/start")
    peer.writer.transport.abort()
    found = served.backend.containers.get("c1")
    async with asyncio.timeout(5):
        while not found.attachments[0].closed:
            await asyncio.sleep(0.001)
    assert found.process.exit_code is None


async def test_a_wait_whose_caller_vanishes_ends(served):
    container = await served.create("wait")
    peer = await served.peer()
    await peer.send("POST", f"/containers/{container}/wait?condition=next-exit", upgrade=False)
    await peer.head()
    before = len(asyncio.all_tasks())
    peer.writer.transport.abort()
    async with asyncio.timeout(5):
        while len(asyncio.all_tasks()) >= before:
            await asyncio.sleep(0.001)


async def test_slow_reader_gets_every_byte(served):
    container = await served.create("flood", "64")
    peer = await attached(served, container)
    await peer.head()
    await served.call("POST", f"/containers/{container}/start")
    await asyncio.sleep(0.05)
    assert sum(len(data) for _, data in await peer.frames()) == 64 * 65536


async def test_slow_process_gets_every_byte(served):
    container = await served.create("cat", OpenStdin=True)
    peer = await attached(served, container)
    await peer.head()
    data = b"y" * 3_000_000
    peer.writer.write(data)
    peer.writer.write_eof()
    await asyncio.sleep(0.05)
    await served.call("POST", f"/containers/{container}/start")
    assert b"".join(piece for _, piece in await peer.frames()) == data


async def test_unread_input_does_not_reset_the_connection(served):
    container = await served.create("exit", "0", OpenStdin=True)
    peer = await attached(served, container)
    await peer.head()
    peer.writer.write(b"z" * 2_000_000)
    await served.call("POST", f"/containers/{container}/start")
    assert await peer.frames() == []


async def test_exec(served):
    await served.create("wait")
    config = {"Cmd": ["both"], "AttachStdout": True, "AttachStderr": True}
    status, _, body = await served.call("POST", "/v1.50/containers/c1/exec", config)
    assert status == 201
    exec_id = json.loads(body)["Id"]
    peer = await served.peer()
    await peer.send("POST", f"/v1.50/exec/{exec_id}/start", {"Detach": False, "Tty": False})
    assert await peer.head() == 101
    peer.writer.write_eof()  # no stdin: the CLI closes its side at once
    assert await peer.frames() == [(1, b"out\n"), (2, b"err\n")]
    _, _, body = await served.call("GET", f"/exec/{exec_id}/json")
    assert json.loads(body)["ExitCode"] == 0


async def test_exec_tty_without_stdin_outlives_half_close(served):
    await served.create("wait")
    config = {"Cmd": ["echo", "x"], "Tty": True, "AttachStdout": True}
    _, _, body = await served.call("POST", "/v1.50/containers/c1/exec", config)
    peer = await served.peer()
    await peer.send("POST", f"/v1.50/exec/{json.loads(body)['Id']}/start", {"Tty": True})
    assert await peer.head() == 101
    peer.writer.write_eof()
    assert await peer.reader.read() == b"x\n"


async def test_exec_detached(served):
    await served.create("wait")
    _, _, body = await served.call("POST", "/containers/c1/exec", {"Cmd": ["echo"]})
    exec_id = json.loads(body)["Id"]
    status, _, body = await served.call("POST", f"/exec/{exec_id}/start", {"Detach": True})
    assert (status, body) == (200, b"")


async def test_exec_of_nothing_ends_like_a_failed_command(served):
    await served.create("wait")
    _, _, body = await served.call("POST", "/containers/c1/exec", {"Cmd": ["nosuch"]})
    exec_id = json.loads(body)["Id"]
    peer = await served.peer()
    await peer.send("POST", f"/exec/{exec_id}/start", {})
    assert await peer.head() == 101
    [(stream, text)] = await peer.frames()
    assert stream == 2
    assert b"executable file not found" in text
    _, _, body = await served.call("GET", f"/exec/{exec_id}/json")
    assert json.loads(body)["ExitCode"] == 127
    assert (await served.call("POST", f"/exec/{exec_id}/start", {"Detach": True}))[0] == 400


async def test_exec_needs_a_command(served):
    await served.create("wait")
    assert (await served.call("POST", "/containers/c1/exec", {"Cmd": []}))[0] == 400


async def run(served, argv, *, attach=None, **options):
    request = {"Name": "r1", "Body": {"Image": "x", "Cmd": argv, **options}}
    if attach is not None:
        request["Attach"] = attach
    peer = await served.peer()
    await peer.send("POST", "/pannier/run", request)
    return peer


async def test_pannier_run(served):
    peer = await run(served, ["both"], HostConfig={"AutoRemove": True})
    assert await peer.head() == 101
    assert len(peer.headers["Pannier-Container"]) == 64
    frames = await peer.frames()
    assert frames == [(1, b"out\n"), (2, b"err\n"), (4, b'{"StatusCode":0}')]


async def test_pannier_run_exit_code_and_stdin(served):
    peer = await run(served, ["exit", "7"])
    await peer.head()
    assert await peer.frames() == [(4, b'{"StatusCode":7}')]
    stdin = {"stdin": True, "stdout": True, "stderr": True}
    await served.call("DELETE", "/containers/r1")
    peer = await run(served, ["cat"], attach=stdin, OpenStdin=True)
    await peer.head()
    peer.writer.write(b"in")
    peer.writer.write_eof()
    assert await peer.frames() == [(1, b"in"), (4, b'{"StatusCode":0}')]


async def test_pannier_run_errors(served):
    peer = await served.peer()
    await peer.send("POST", "/pannier/run", {"Body": {"Image": "missing"}})
    assert await peer.head() == 404
    peer = await run(served, ["nosuch"])
    assert await peer.head() == 400
    body = json.loads(await peer.reader.readexactly(int(peer.headers["Content-Length"])))
    assert body["exitCode"] == 127
    assert served.backend.containers.get("r1").attachments[0].closed


async def test_pannier_run_detached(served):
    nothing = {"stdin": False, "stdout": False, "stderr": False}
    peer = await run(served, ["wait"], attach=nothing)
    assert await peer.head() == 201
    assert served.backend.containers.get("r1").task is not None


async def test_pannier_run_detach_keys(served):
    stdin = {"stdin": True, "stdout": True, "stderr": True}
    peer = await run(served, ["cat"], attach=stdin, OpenStdin=True, Tty=True)
    await peer.head()
    peer.writer.write(b"\x10\x11")
    assert await peer.frames() == [(4, b'{"StatusCode":0,"Detached":true}')]
