"""Supervisor, logger and stager as real processes, each killed at the worst moment."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pannier.base.errors import Conflict, Unavailable
from pannier.base.instance import Instance
from pannier.kernel import cgroup, process
from pannier.runtime import logger as logger_module
from pannier.runtime import orphans, processes
from pannier.runtime.async_channel import AsyncChannel
from pannier.runtime.logfile import follow

RUNTIME = Path(logger_module.__file__).parent
ID = "c0ffee"


def _commands(instance: Instance) -> dict[str, list[str]]:
    return {
        name: [sys.executable, "-I", "-S", str(RUNTIME / f"{name}.py"), str(instance.run)]
        for name in ("logger", "stager")
    }


class Small:
    """What the tests need of one supervisor and its children."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.logger = processes.Logger(instance)
        self.stager = processes.Stager(instance)
        self.eofs: asyncio.Queue[str] = asyncio.Queue()
        self.logger.on_eof = self.eofs.put_nowait
        self.directory = instance.container_run(ID)
        self.log = instance.data / "log"

    async def status(self) -> dict:
        return await self.supervisor("status")

    async def supervisor(self, op: str, **arguments) -> dict:
        while True:
            try:
                channel = await AsyncChannel.connect(self.instance.supervisor_socket)
            except Unavailable:
                await asyncio.sleep(0.01)
                continue
            try:
                return await channel.request(op, **arguments)
            finally:
                channel.close()

    async def kill(self, name: str) -> None:
        """Kill a child and wait until another one runs."""
        old = (await self.status())["children"][name]["pid"]
        os.kill(old, signal.SIGKILL)
        await self.until(lambda s: s["children"][name]["pid"] not in (0, old))

    async def until(self, condition) -> None:
        async with asyncio.timeout(10):
            while not condition(await self.status()):
                await asyncio.sleep(0.01)

    def make_pipes(self) -> None:
        self.directory.mkdir()
        for name in ("stdout", "stderr"):
            os.mkfifo(self.directory / name)

    def writer(self, script: str, *, stdin: bool = False) -> subprocess.Popen:
        """A process that holds its pipes as a container does: open for reading too."""
        fds = [os.open(self.directory / name, os.O_RDWR) for name in ("stdout", "stderr")]
        try:
            return subprocess.Popen(
                [sys.executable, "-c", script],
                stdin=subprocess.PIPE if stdin else None,
                stdout=fds[0],
                stderr=fds[1],
            )
        finally:
            for fd in fds:
                os.close(fd)

    async def add(self, **options) -> None:
        await self.logger.add(ID, str(self.log), 0, 3, **options)

    async def logged(self, **options) -> bytes:
        return b"".join([r.data async for r in follow(self.log, **options)])


@pytest.fixture
async def small(instance: Instance) -> AsyncIterator[Small]:
    await processes.ensure_supervisor(instance, _commands(instance), {})
    made = Small(instance)
    await made.logger.connect()
    await made.stager.connect()
    yield made
    made.logger.close()
    made.stager.close()
    await processes.shut_down(instance)


async def test_started_once(small: Small) -> None:
    first = await small.status()
    await processes.ensure_supervisor(small.instance, _commands(small.instance), {})
    second = await small.status()
    assert first["pid"] == second["pid"]
    assert first["children"] == second["children"]


async def test_output_of_both_streams_and_its_end(small: Small) -> None:
    small.make_pipes()
    child = small.writer("import sys; print('out'); print('err', file=sys.stderr)")
    await small.add()
    assert await asyncio.wait_for(small.eofs.get(), 10) == ID
    child.wait()
    assert await small.logged(streams=["stdout"]) == b"out\n"
    assert await small.logged(streams=["stderr"]) == b"err\n"
    assert not await small.logger.has(ID)


async def test_no_byte_lost_or_doubled_when_killed(small: Small) -> None:
    """The logger is killed again and again while a container writes as fast as it can."""
    small.make_pipes()
    script = (
        "import sys\n"
        "for n in range(60000):\n"
        "    sys.stdout.write(f'{n} ' + 'x' * (n % 50) + '\\n')\n"
    )
    child = small.writer(script)
    await small.add()
    for _ in range(6):
        await asyncio.sleep(0.05)
        await small.kill("logger")
    while await small.logger.has(ID):
        await asyncio.sleep(0.02)
    child.wait()
    expected = b"".join(b"%d %s\n" % (n, b"x" * (n % 50)) for n in range(60000))
    assert await small.logged() == expected


async def test_exit_while_the_logger_is_down(small: Small) -> None:
    """The pipe's content outlives its last writer: the supervisor holds the other end."""
    small.make_pipes()
    child = small.writer("import sys; sys.stdin.readline(); print('last words')", stdin=True)
    await small.add()
    pid = (await small.status())["children"]["logger"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    child.communicate(b"\n")
    os.kill(pid, signal.SIGKILL)
    while await small.logger.has(ID):
        await asyncio.sleep(0.02)
    assert await small.logged() == b"last words\n"


async def test_terminal(small: Small) -> None:
    small.directory.mkdir()
    pid, master = pty.fork()
    if pid == 0:
        os.read(0, 1)
        os.write(1, b"one\n")
        os._exit(0)
    await small.add(tty_fd=master)
    os.write(master, b"\n")
    os.waitpid(pid, 0)
    await small.kill("logger")
    assert await small.logger.has(ID)
    (small.directory / "exit.new").write_text("{}")
    (small.directory / "exit.new").rename(small.directory / "exit.json")
    while await small.logger.has(ID):
        await asyncio.sleep(0.02)
    assert await small.logged() == b"\r\none\r\n"
    os.close(master)


async def test_remove_writes_what_is_there(small: Small) -> None:
    small.make_pipes()
    fd = os.open(small.directory / "stdout", os.O_RDWR)
    await small.add()
    os.write(fd, b"unfinished")
    await small.logger.remove(ID)
    assert await small.logged() == b"unfinished"
    os.close(fd)
    assert sorted(os.listdir(small.directory)) == ["stderr", "stdout"]
    assert (await small.status())["stored"] == {}


async def test_full_disk_blocks_the_writer_and_loses_nothing(small: Small) -> None:
    disk = small.instance.data / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], check=True)
    try:
        small.log = disk / "log"
        small.make_pipes()
        child = small.writer("for n in range(20000): print(n)")
        await small.add()
        async with asyncio.timeout(10):
            while not (await small.logger.list())[0]["stuck"]:
                await asyncio.sleep(0.02)
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        assert await asyncio.wait_for(small.eofs.get(), 10) == ID
        child.wait()
        assert await small.logged() == b"".join(b"%d\n" % n for n in range(20000))
        await small.logger.remove(ID)
    finally:
        subprocess.run(["umount", disk], check=True)


async def test_supervisor_killed(small: Small) -> None:
    """The others go on; the next supervisor adopts them and gets the file descriptors again."""
    small.make_pipes()
    fd = os.open(small.directory / "stdout", os.O_RDWR)
    await small.add()
    before = await small.status()
    os.kill(before["pid"], signal.SIGKILL)
    async with asyncio.timeout(10):
        while orphans.start_time(before["pid"]):
            await asyncio.sleep(0.01)
    await processes.ensure_supervisor(small.instance, _commands(small.instance), {})
    after = await small.status()
    assert after["pid"] != before["pid"]
    for name in ("logger", "stager"):
        assert after["children"][name]["pid"] == before["children"][name]["pid"]
    await small.until(lambda status: status["stored"] == {f"log:{ID}": 2})
    os.write(fd, b"still here\n")
    await small.kill("logger")
    await small.logger.remove(ID)
    assert await small.logged() == b"still here\n"
    os.close(fd)


async def test_orphans_get_their_exit_record(small: Small) -> None:
    """A process whose parent, once a child of the supervisor, is gone ends by a signal."""
    small.directory.mkdir()
    record = small.directory / "pid.json"
    script = (
        "import os, sys, json, time\n"
        "pid = os.fork()\n"
        "if pid == 0: time.sleep(1000)\n"
        f"text = json.dumps({{'pid': pid, 'boot_id': {process.boot_id()!r}}})\n"
        f"open({str(record)!r} + '.new', 'w').write(text)\n"
        f"os.rename({str(record)!r} + '.new', {str(record)!r})\n"
        "time.sleep(1000)\n"
    )
    await small.supervisor("configure", children={"parent": [sys.executable, "-c", script]})
    async with asyncio.timeout(10):
        while not record.exists():
            await asyncio.sleep(0.01)
    events: asyncio.Queue[dict] = asyncio.Queue()
    channel = await AsyncChannel.connect(small.instance.supervisor_socket, events.put_nowait)
    pid = json.loads(record.read_text())["pid"]
    parent = (await small.status())["children"]["parent"]["pid"]
    replacement = {"parent": [sys.executable, "-c", "import time; time.sleep(1000)"]}
    await small.supervisor("configure", children=replacement)
    os.kill(parent, signal.SIGKILL)
    await small.until(lambda s: s["children"]["parent"]["pid"] not in (0, parent))
    os.kill(pid, signal.SIGKILL)
    event = await asyncio.wait_for(events.get(), 10)
    assert (event["event"], event["id"], event["pid"], event["signal"]) == ("exit", ID, pid, 9)
    assert json.loads((small.directory / "exit.json").read_text())["signal"] == 9
    channel.close()


async def test_a_child_that_fails_is_not_started_in_a_loop(small: Small) -> None:
    await small.supervisor("configure", children={"broken": ["/bin/false"]})
    await asyncio.sleep(0.5)
    assert 1 < (await small.status())["children"]["broken"]["starts"] < 7


async def test_no_shutdown_over_running_containers(small: Small) -> None:
    small.directory.mkdir()
    me = {"pid": os.getpid(), "start_time": orphans.start_time(os.getpid())}
    me["boot_id"] = process.boot_id()
    (small.directory / "pid.json").write_text(json.dumps(me))
    with pytest.raises(Conflict):
        await processes.shut_down(small.instance)
    (small.directory / "pid.json").unlink()


async def test_teardown(small: Small) -> None:
    """Cgroups are gone when it returns, with all that lived in them; so are the directories."""
    manager = cgroup.CgroupManager(cgroup.probe(), small.instance.name)
    manager.setup()
    path = manager.path_for(ID, [{"allow": True, "access": "rwm"}])
    manager.create(path)
    v2, v1 = manager.open_entry(path)
    pid = os.fork()
    if pid == 0:
        cgroup.enter(v1)
        if v2 >= 0:
            cgroup.enter_v2(v2)
        time.sleep(1000)
    for fd in (v2, *v1):
        os.close(fd)
    async with asyncio.timeout(10):
        while not manager.populated(path):
            await asyncio.sleep(0.01)
    deep = small.instance.data / "deep"
    subprocess.run(["mkdir", "-p", str(deep) + "/d" * 600], check=True)
    (deep / "link").symlink_to("/etc")
    await small.stager.teardown(ID, [str(deep)])
    assert os.waitpid(pid, os.WNOHANG)[0] == pid
    assert not any(os.path.exists(d) for d in manager.directories(path).values())
    assert not deep.exists()
    async with asyncio.timeout(20):
        while list(small.instance.data.glob("deep*")):
            await asyncio.sleep(0.02)
    assert Path("/etc/passwd").exists()
    manager.remove(small.instance.name)


async def test_links_that_do_not_go_by_themselves(small: Small) -> None:
    """As when closed connections keep a network namespace, and with it its veth, alive."""
    link = f"{small.instance.name}l"
    subprocess.run(["ip", "link", "add", link, "type", "veth"], check=True)
    await small.stager.teardown(ID, links=[link, "gone0"])
    assert Path(f"/sys/class/net/{link}").exists()
    async with asyncio.timeout(10):
        while Path(f"/sys/class/net/{link}").exists():
            await asyncio.sleep(0.05)


async def test_processes_of_other_code_are_replaced(small: Small) -> None:
    """An upgraded daemon must not meet a logger or keeper that does not understand it."""
    before = (await small.supervisor("status"))["children"]
    commands = _commands(small.instance)
    await processes.ensure_supervisor(small.instance, commands, dict.fromkeys(commands, "newer"))
    after = (await small.supervisor("status"))["children"]
    assert all(before[name]["pid"] != after[name]["pid"] for name in commands)
    await processes.ensure_supervisor(small.instance, commands, dict.fromkeys(commands, "newer"))
    again = (await small.supervisor("status"))["children"]
    assert all(after[name]["pid"] == again[name]["pid"] for name in commands)
