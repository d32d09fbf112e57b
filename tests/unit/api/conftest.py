"""A served application over a small backend that lives in memory."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import web

from pannier.api.app import make_app, make_runner
from pannier.base.errors import Conflict, InvalidArgument, NotFound, NotModified
from pannier.base.ids import new_id
from pannier.wire import containers as c
from pannier.wire import images as i
from pannier.wire import networks as n
from pannier.wire import stacks as s
from pannier.wire import states as st
from pannier.wire import system as sy
from pannier.wire import volumes as v


class Process:
    """What a container runs: one of a few programs, over queues in memory."""

    def __init__(self, argv: list[str], *, tty: bool) -> None:
        self.argv = argv
        self.tty = tty
        self.stdin: asyncio.Queue[bytes | None] = asyncio.Queue(4)
        self.written: list[tuple[int, bytes]] = []
        self.changed = asyncio.Condition()
        self.exit_code: int | None = None

    async def write(self, stream: int, data: bytes) -> None:
        async with self.changed:
            self.written.append((stream, data))
            self.changed.notify_all()

    async def run(self) -> int:
        program, *arguments = self.argv
        match program:
            case "echo":
                await self.write(1, " ".join(arguments).encode() + b"\n")
            case "both":
                await self.write(1, b"out\n")
                await self.write(2, b"err\n")
            case "cat":
                while (data := await self.stdin.get()) is not None:
                    await self.write(1, data)
            case "flood":
                for _ in range(int(arguments[0])):
                    await self.write(1, b"x" * 65536)
            case "wait":
                await asyncio.Event().wait()
        code = int(arguments[0]) if program == "exit" else 0
        async with self.changed:
            self.exit_code = code
            self.changed.notify_all()
        return code


class Attachment:
    def __init__(self, process: Process, streams: set[int]) -> None:
        self.process = process
        self.streams = streams
        self.closed = False
        self.stdin_closed = False

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        position = 0
        while True:
            async with self.process.changed:
                while position == len(self.process.written):
                    if self.process.exit_code is not None:
                        return
                    await self.process.changed.wait()
                items = self.process.written[position:]
                position += len(items)
            for stream, data in items:
                if stream in self.streams:
                    yield stream, data

    async def write_stdin(self, data: bytes) -> None:
        await self.process.stdin.put(data)

    async def close_stdin(self) -> None:
        self.stdin_closed = True
        await self.process.stdin.put(None)

    async def close(self) -> None:
        self.closed = True


@dataclass
class Container:
    id: str
    name: str
    body: c.CreateBody
    process: Process
    attachments: list[Attachment] = field(default_factory=list)
    task: asyncio.Task[int] | None = None
    removed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def config(self) -> c.ContainerConfig:
        return self.body

    @property
    def host_config(self) -> c.HostConfig:
        return self.body.host_config

    @property
    def warnings(self) -> list[str]:
        return []


class Containers:
    def __init__(self) -> None:
        self.all: dict[str, Container] = {}
        self.calls: list[tuple[object, ...]] = []
        self.hold = asyncio.Event()  # set: stop may finish
        self.hold.set()

    def get(self, ref: str) -> Container:
        for container in self.all.values():
            if ref == container.name or container.id.startswith(ref):
                return container
        raise NotFound(f"No such container: {ref}")

    async def create(self, name: str | None, body: c.CreateBody) -> Container:
        if body.image == "missing":
            raise NotFound("No such image: missing:latest")
        if any(name == other.name for other in self.all.values()):
            raise Conflict(f'Conflict. The container name "/{name}" is already in use')
        process = Process([*(body.entrypoint or []), *(body.cmd or [])], tty=body.tty)
        container = Container(new_id(), name or "quiet_basket", body, process)
        self.all[container.id] = container
        return container

    async def start(self, ref: str) -> None:
        container = self.get(ref)
        if container.task:
            raise NotModified("already started")
        if container.process.argv[0] == "nosuch":
            raise InvalidArgument('exec: "nosuch": executable file not found', exit_code=127)
        container.task = asyncio.ensure_future(self._live(container))

    async def _live(self, container: Container) -> int:
        code = await container.process.run()
        if container.host_config.auto_remove:
            del self.all[container.id]
            container.removed.set()
        return code

    async def stop(self, ref: str, timeout: float | None, signal: int | None) -> None:
        self.calls.append(("stop", self.get(ref).name, timeout, signal))
        await self.hold.wait()
        self.calls.append(("stopped", self.get(ref).name))

    async def kill(self, ref: str, signal: int) -> None:
        self.calls.append(("kill", self.get(ref).name, signal))

    async def wait(self, ref: str, condition: str) -> int:
        container = self.get(ref)
        async with container.process.changed:
            await container.process.changed.wait_for(
                lambda: container.process.exit_code is not None
            )
        if condition == "removed":
            await container.removed.wait()
        assert container.process.exit_code is not None
        return container.process.exit_code

    async def attach(
        self, ref: str, *, stdin: bool, stdout: bool, stderr: bool, logs: bool, stream: bool
    ) -> Attachment:
        container = self.get(ref)
        self.calls.append(("attach", stdin, stdout, stderr, logs, stream))
        wanted = {number for number, on in ((1, stdout), (2, stderr)) if on}
        container.attachments.append(Attachment(container.process, wanted))
        return container.attachments[-1]

    async def remove(self, ref: str, *, force: bool, volumes: bool) -> None:
        container = self.all.pop(self.get(ref).id)
        if container.task:
            container.task.cancel()
        container.removed.set()

    async def summaries(self, *, all_: bool, filters: object, limit: int, size: bool) -> list:
        self.calls.append(("list", all_, filters, limit, size))
        return [
            st.ContainerSummary(
                item.id,
                [f"/{item.name}"],
                image=item.body.image,
                state="running",
                status="Up 1 second",
                command="x",
            )
            for item in self.all.values()
        ]

    async def inspect(self, ref: str, *, size: bool) -> dict:
        container = self.get(ref)
        return {
            "Id": container.id,
            "Name": f"/{container.name}",
            "State": {"Running": True, "Status": "running"},
            "Config": {"Tty": container.config.tty, "OpenStdin": container.config.open_stdin},
            "HostConfig": {},
        }

    async def logs(self, ref: str, options: object) -> AsyncIterator[SimpleNamespace]:
        self.calls.append(("logs", options))
        for stream, data, partial in (
            ("stdout", b"one\n", False),
            ("stderr", b"tw", True),
            ("stderr", b"o\n", False),
        ):
            yield SimpleNamespace(time_ns=1_000_000_001, stream=stream, data=data, partial=partial)

    async def stats(self, ref: str) -> dict:
        return {"read": "2026-01-01T00:00:00Z", "cpu_stats": {"cpu_usage": {"total_usage": 5}}}

    async def archive_stat(self, ref: str, path: str) -> st.PathStat:
        return st.PathStat("f", 3, 0o644, "2026-01-01T00:00:00Z")

    async def archive_get(self, ref: str, path: str) -> tuple[st.PathStat, AsyncIterator[bytes]]:
        return await self.archive_stat(ref, path), pieces(b"tar", b"data")

    async def archive_put(
        self, ref: str, path: str, tar: AsyncIterator[bytes], *, keep_kind: bool, copy_ids: bool
    ) -> None:
        data = b"".join([piece async for piece in tar])
        self.calls.append(("put", path, data, keep_kind, copy_ids))

    async def resize(self, ref: str, rows: int, columns: int) -> None:
        self.calls.append(("resize", rows, columns))


async def pieces(*items: bytes) -> AsyncIterator[bytes]:
    for item in items:
        yield item


class Execs:
    def __init__(self, containers: Containers) -> None:
        self._containers = containers
        self.all: dict[str, tuple[c.ExecConfig, Process]] = {}
        self.attachments: list[Attachment] = []

    async def create(self, ref: str, config: c.ExecConfig) -> str:
        self._containers.get(ref)
        exec_id = new_id()
        self.all[exec_id] = config, Process(config.cmd, tty=config.tty)
        return exec_id

    def startable(self, exec_id: str) -> c.ExecConfig:
        if exec_id not in self.all:
            raise NotFound(f"No such exec instance: {exec_id}")
        return self.all[exec_id][0]

    async def start(self, exec_id: str, *, detach: bool, size: object) -> Attachment | None:
        process = self.all[exec_id][1]
        if process.argv == ["nosuch"]:
            process.exit_code = 127
            raise InvalidArgument('exec: "nosuch": executable file not found', exit_code=127)
        self.task = asyncio.ensure_future(process.run())
        if detach:
            return None
        self.attachments.append(Attachment(process, {1, 2}))
        return self.attachments[-1]

    async def inspect(self, exec_id: str) -> dict:
        process = self.all[exec_id][1]
        return {"ID": exec_id, "ExitCode": process.exit_code, "Running": process.exit_code is None}


class Images:
    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    async def summaries(self, *, all_: bool, filters: object) -> list[i.ImageSummary]:
        return [i.ImageSummary("sha256:" + "a" * 64, repo_tags=["debian:12"], size=1)]

    async def inspect(self, ref: str) -> i.ImageInspect:
        if ref == "missing":
            raise NotFound("No such image: missing")
        return i.ImageInspect("sha256:" + "a" * 64, repo_tags=[ref])

    async def tag(self, ref: str, name: str) -> None:
        self.calls.append(("tag", ref, name))

    async def remove(self, ref: str, *, force: bool, noprune: bool) -> list[i.ImageDelete]:
        return [i.ImageDelete(untagged=ref)]

    async def pull(self, ref: str, *, auth: object, platform: str, report) -> None:
        self.calls.append(("pull", ref, auth))
        if ref.startswith("missing"):
            raise NotFound(f"pull access denied for {ref}")
        report(sy.Progress(status="Pulling", id="12"))
        await asyncio.sleep(0)
        if ref.startswith("broken"):
            raise NotFound("layer is gone", hint="pull again")
        report(sy.Progress(status="Done"))

    async def load(self, tar: AsyncIterator[bytes], report) -> None:
        data = b"".join([piece async for piece in tar])
        report(sy.Progress(stream=f"Loaded image: {len(data)}\n"))


class Builder:
    def __init__(self) -> None:
        self.options: i.BuildOptions | None = None
        self.context = b""

    async def build(self, context: AsyncIterator[bytes], options: i.BuildOptions, report) -> str:
        self.options = options
        self.context = b"".join([piece async for piece in context])
        if options.target == "bad":
            raise InvalidArgument("dockerfile parse error line 1: unknown instruction: FOO")
        if not options.quiet:
            report(sy.Progress(stream="Step 1/1 : FROM x\n"))
        return "sha256:" + "b" * 64


class Networks:
    async def create(self, body: n.NetworkCreate) -> str:
        return "f" * 64

    async def summaries(self, filters: object) -> list[n.Network]:
        return [n.Network("bridge", "e" * 64)]


class Volumes:
    def __init__(self) -> None:
        self.filters: object = None

    async def create(self, body: v.VolumeCreate) -> v.Volume:
        return v.Volume(body.name or "random", labels=body.labels)

    async def prune(self, filters: object) -> tuple[list[str], int]:
        self.filters = filters
        return ["v"], 7


@dataclass
class Event:
    type: str
    action: str
    actor: str
    attributes: dict[str, str]
    time_ns: int = 1_500_000_000


class Events:
    async def subscribe(
        self, since_ns: int | None = None, until_ns: int | None = None
    ) -> AsyncIterator[Event]:
        yield Event("container", "start", "abc", {"name": "web", "image": "nginx:1", "tier": "a"})
        yield Event("network", "create", "net", {"name": "n"})
        if until_ns is None:
            await asyncio.Event().wait()


class System:
    def version(self) -> sy.Version:
        return sy.Version("0.1", arch="amd64")

    async def info(self) -> dict:
        return {"Name": "host"}

    async def shutdown(self, *, force: bool) -> None:
        if not force:
            raise Conflict("containers are running: web")


class Stacks:
    async def up(self, name: str, body: s.StackUp) -> AsyncIterator[s.StackEvent]:
        if not body.project:
            raise InvalidArgument("the project has no services")
        yield s.StackEvent("container", "x-web-1", "started")
        raise Conflict("port 80 is in use")


class Backend:
    def __init__(self) -> None:
        self.containers = Containers()
        self.execs = Execs(self.containers)
        self.images = Images()
        self.builder = Builder()
        self.networks = Networks()
        self.volumes = Volumes()
        self.events = Events()
        self.system = System()
        self.stacks = Stacks()


class Peer:
    """A raw connection, as a client that hijacks has it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}

    async def send(
        self, method: str, path: str, body: object = None, *, upgrade: bool = True
    ) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: docker\r\nContent-Length: {len(data)}\r\n"
        if upgrade:
            head += "Connection: Upgrade\r\nUpgrade: tcp\r\n"
        self.writer.write(head.encode() + b"\r\n" + data)
        await self.writer.drain()

    async def head(self) -> int:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        return self.status

    async def frames(self) -> list[tuple[int, bytes]]:
        found = []
        while head := await self.reader.read(1):
            head += await self.reader.readexactly(7)
            found.append((head[0], await self.reader.readexactly(int.from_bytes(head[4:], "big"))))
        return found

    def close(self) -> None:
        self.writer.close()


@dataclass
class Served:
    """The application at a socket, its backend, and ways to call it."""

    backend: Backend
    socket: Path
    peers: list[Peer] = field(default_factory=list)

    async def peer(self) -> Peer:
        self.peers.append(Peer(*await asyncio.open_unix_connection(str(self.socket))))
        return self.peers[-1]

    async def call(
        self, method: str, path: str, body: object = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One plain request; status, headers, body."""
        peer = await self.peer()
        await peer.send(method, path, body, upgrade=False)
        status = await peer.head()
        data = b""
        if "Content-Length" in peer.headers and method != "HEAD":
            data = await peer.reader.readexactly(int(peer.headers["Content-Length"]))
        elif peer.headers.get("Transfer-Encoding") == "chunked":
            while size := int(await peer.reader.readuntil(b"\r\n"), 16):
                data += await peer.reader.readexactly(size)
                await peer.reader.readexactly(2)
        peer.close()
        return status, peer.headers, data

    async def create(self, *argv: str, name: str = "c1", **options: object) -> str:
        body = {"Image": "x", "Cmd": list(argv), **options}
        status, _, data = await self.call("POST", f"/v1.50/containers/create?name={name}", body)
        assert status == 201, data
        return str(json.loads(data)["Id"])


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    with tempfile.TemporaryDirectory() as directory:
        backend = Backend()
        runner = make_runner(make_app(backend))  # type: ignore[arg-type]
        await runner.setup()
        socket = Path(directory) / "api.sock"
        await web.UnixSite(runner, str(socket)).start()
        found = Served(backend, socket)
        yield found
        for peer in found.peers:
            peer.close()
        for container in backend.containers.all.values():
            if container.task:
                container.task.cancel()
        await runner.cleanup()
