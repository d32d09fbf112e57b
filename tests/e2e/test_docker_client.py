"""Unmodified Docker clients against a live engine: the `docker` command and docker-py.

Every container runs from a tiny image that is imported from a few of the host's own programs, so
that nothing is fetched.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import tarfile
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from registrylab import running_registry

docker_py = pytest.importorskip("docker")

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("docker") is None, reason="no docker client"),
]

PROGRAMS = ["sh", "cat", "echo", "sleep", "ls", "id", "hostname", "true", "touch", "stty", "tty"]
IMAGE = "tiny:1"


@dataclass
class Result:
    code: int
    out: str
    err: str


class Docker:
    """The `docker` command, talking to one socket."""

    def __init__(self, socket: str, config: Path) -> None:
        self.url = f"unix://{socket}"
        self.environment = {
            "PATH": os.environ["PATH"],
            "DOCKER_HOST": self.url,
            "DOCKER_CONFIG": str(config),
            "DOCKER_BUILDKIT": "0",
            "HOME": str(config),
        }

    def try_(self, *arguments: str, stdin: bytes = b"", timeout: float = 60) -> Result:
        done = subprocess.run(
            ["docker", *arguments],
            input=stdin,
            capture_output=True,
            env=self.environment,
            timeout=timeout,
            check=False,
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def __call__(self, *arguments: str, stdin: bytes = b"") -> str:
        result = self.try_(*arguments, stdin=stdin)
        assert result.code == 0, (arguments, result)
        return result.out.strip()


def libraries(path: str) -> set[str]:
    """The shared objects a program needs, as ldd lists them."""
    listed = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
    words = {word for line in listed.splitlines() for word in line.split() if word[0] == "/"}
    return {word for word in words if Path(word).exists()}


def root_filesystem() -> bytes:
    """A tar with a few programs and what they need."""
    programs = {f"/bin/{name}": shutil.which(name) for name in PROGRAMS}
    files = {place: os.path.realpath(path) for place, path in programs.items() if path}
    for path in list(files.values()):
        files |= {library: os.path.realpath(library) for library in libraries(path)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("tmp", "etc", "proc", "sys", "dev"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for place, source in sorted(files.items()):
            tar.add(source, place.lstrip("/"))
    return buffer.getvalue()


@pytest.fixture
def docker(daemon, tmp_path: Path) -> Iterator[Docker]:
    command = Docker(str(daemon.socket), tmp_path)
    if IMAGE not in command("images", "--format", "{{.Repository}}:{{.Tag}}"):
        command("import", "-", IMAGE, stdin=root_filesystem())
    yield command
    if left := command("ps", "-aq").split():
        command("rm", "-f", "-v", *left)


@pytest.fixture
def client(docker: Docker) -> Iterator[docker_py.DockerClient]:
    found = docker_py.DockerClient(base_url=docker.url, version="auto", timeout=60)
    yield found
    found.close()


def test_version_and_info(docker):
    assert docker("version", "--format", "{{.Server.APIVersion}}") == "1.50"
    assert docker("info", "--format", "{{.Swarm.LocalNodeState}}") == "inactive"


def test_run_output_and_exit_code(docker):
    result = docker.try_("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert result == Result(3, "out\n", "err\n")
    assert docker("ps", "-aq") == ""


def test_run_stdin(docker):
    assert docker("run", "--rm", "-i", IMAGE, "cat", stdin=b"hello\n") == "hello"


def test_run_much_output(docker):
    script = "i=0; while [ $i -lt 20000 ]; do echo line-$i; i=$((i+1)); done"
    lines = docker("run", "--rm", IMAGE, "sh", "-c", script).split("\n")
    assert len(lines) == 20000
    assert lines[-1] == "line-19999"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nosuchimage:1", "true"], 125, "nosuchimage"),
        ([IMAGE, "nosuchcommand"], 127, "nosuchcommand"),
        ([IMAGE, "/etc"], 126, "/etc"),
    ],
)
def test_run_failures(docker, arguments, code, message):
    result = docker.try_("run", "--rm", *arguments)
    assert result.code == code, result
    assert message in result.err


def test_run_on_a_terminal(docker):
    main, other = pty.openpty()
    command = ["docker", "run", "--rm", "-it", IMAGE, "sh", "-c", "tty && echo $((6 * 7))"]
    with subprocess.Popen(
        command, stdin=other, stdout=other, stderr=other, env=docker.environment
    ) as process:
        os.close(other)
        shown = b""
        while b"42" not in shown:
            shown += os.read(main, 4096)
        assert process.wait(30) == 0
    os.close(main)
    assert b"/dev/pts/" in shown or b"/dev/console" in shown


def test_life_of_a_container(docker):
    container = docker("run", "-d", "--name", "life", "-l", "a=b", IMAGE, "sh", "-c",
                       "echo started; echo oops >&2; sleep 100")  # fmt: skip
    assert docker("ps", "--format", "{{.Names}} {{.Image}}") == f"life {IMAGE}"
    assert docker("ps", "-q", "--no-trunc", "--filter", "label=a=b") == container
    logs = wait_for(lambda: docker.try_("logs", "life"), lambda result: result.err)
    assert (logs.out, logs.err) == ("started\n", "oops\n")
    assert docker("logs", "-t", "--tail", "1", "life").count("Z ") <= 1
    assert docker("inspect", "-f", "{{.State.Status}}", "life") == "running"
    assert "sleep" in docker("top", "life")
    docker("pause", "life")
    assert "(Paused)" in docker("ps", "--format", "{{.Status}}")
    docker("unpause", "life")
    docker("rename", "life", "other")
    docker("restart", "-t", "0", "other")
    docker("stop", "-t", "0", "other")
    assert docker("inspect", "-f", "{{.State.ExitCode}}", "other") in {"137", "143"}
    docker("start", "other")
    assert docker.try_("rm", "other").code == 1
    docker("rm", "-f", "other")
    assert "No such container" in docker.try_("inspect", "--type=container", "other").err


def wait_for(get, good, seconds: float = 10):
    """Ask until the answer is good."""
    end = time.monotonic() + seconds
    while True:
        value = get()
        if good(value) or time.monotonic() > end:
            return value
        time.sleep(0.05)


def test_exec(docker):
    docker("run", "-d", "--name", "c", IMAGE, "sleep", "100")
    result = docker.try_("exec", "c", "sh", "-c", "echo out; echo err >&2; exit 4")
    assert result == Result(4, "out\n", "err\n")
    assert docker("exec", "-i", "c", "cat", stdin=b"in\n") == "in"
    assert docker("exec", "-e", "X=y", "-w", "/tmp", "c", "sh", "-c", "echo $X $PWD") == "y /tmp"
    docker("exec", "-d", "c", "touch", "/tmp/made")
    assert wait_for(lambda: docker("exec", "c", "ls", "/tmp"), bool) == "made"
    assert docker.try_("exec", "c", "nosuchcommand").code in {126, 127}


def test_logs_follow_until_the_end(docker):
    docker(
        "run", "-d", "--name", "f", IMAGE, "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done"
    )
    assert docker("logs", "-f", "f") == "1\n2\n3"


def test_attach_and_wait(docker):
    docker("run", "-d", "--name", "w", IMAGE, "sh", "-c", "sleep 1; exit 9")
    assert docker("wait", "w") == "9"
    docker("create", "--name", "a", "-i", IMAGE, "cat")
    assert docker("start", "-ai", "a", stdin=b"typed\n") == "typed"


def test_copy(docker, tmp_path):
    docker("run", "-d", "--name", "c", IMAGE, "sleep", "100")
    (tmp_path / "f").write_text("content\n")
    docker("cp", str(tmp_path / "f"), "c:/tmp/f")
    assert docker("exec", "c", "cat", "/tmp/f") == "content"
    docker("cp", "c:/tmp/f", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "content\n"
    assert "A /tmp/f" in docker("diff", "c")


def test_build(docker, tmp_path):
    context = tmp_path / "context"
    context.mkdir()
    (context / "file").write_text("from the context\n")
    (context / "Dockerfile").write_text(
        f"FROM {IMAGE}\nARG WHO=nobody\nCOPY file /file\nRUN echo hello $WHO > /who\n"
        'CMD ["cat", "/file", "/who"]\n'
    )
    built = docker("build", "-t", "built:1", "--build-arg", "WHO=world", str(context))
    assert "Successfully tagged built:1" in built
    assert docker("run", "--rm", "built:1") == "from the context\nhello world"
    assert "Using cache" in docker(
        "build", "-t", "built:1", "--build-arg", "WHO=world", str(context)
    )
    (context / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo seen; exit 5\n")
    failed = docker.try_("build", str(context))
    assert failed.code != 0
    assert "seen" in failed.out
    assert "5" in failed.err
    docker("rmi", "built:1")


def test_images(docker, tmp_path):
    docker("tag", IMAGE, "other:2")
    assert "other" in docker("images", "--format", "{{.Repository}}")
    assert docker("image", "inspect", "-f", "{{.Os}}", "other:2") == "linux"
    docker("history", "other:2")
    docker("save", "-o", str(tmp_path / "saved.tar"), "other:2")
    docker("rmi", "other:2")
    assert "other:2" in docker("load", "-i", str(tmp_path / "saved.tar"))
    docker("rmi", "other:2")
    assert "No such image" in docker.try_("image", "inspect", "other:2").err


def test_networks(docker):
    docker("network", "create", "--label", "a=b", "net1")
    assert "net1" in docker("network", "ls", "--format", "{{.Name}}")
    docker("run", "-d", "--name", "n", "--network", "net1", IMAGE, "sleep", "100")
    address = docker("inspect", "-f", '{{(index .NetworkSettings.Networks "net1").IPAddress}}', "n")
    assert address in docker("network", "inspect", "net1")
    docker("network", "disconnect", "net1", "n")
    docker("network", "connect", "net1", "n")
    assert docker.try_("network", "rm", "net1").code == 1
    docker("rm", "-f", "n")
    docker("network", "rm", "net1")


def test_volumes(docker):
    docker("volume", "create", "--label", "a=b", "vol1")
    docker("run", "--rm", "-v", "vol1:/data", IMAGE, "sh", "-c", "echo kept > /data/f")
    assert docker("run", "--rm", "-v", "vol1:/data:ro", IMAGE, "cat", "/data/f") == "kept"
    assert "vol1" in docker("volume", "ls", "-q")
    assert docker("volume", "inspect", "-f", "{{.Driver}}", "vol1") == "local"
    docker("volume", "rm", "vol1")
    assert docker.try_("volume", "inspect", "vol1").code == 1


def test_housekeeping(docker):
    docker("run", "--name", "done", IMAGE, "true")
    assert "Containers" in docker("system", "df")
    assert "Deleted Containers" in docker("container", "prune", "-f")
    assert docker("ps", "-aq") == ""


def test_stats_and_update(docker):
    docker("run", "-d", "--name", "s", "-m", "64m", IMAGE, "sleep", "100")
    assert "64MiB" in docker("stats", "--no-stream", "--format", "{{.MemUsage}}", "s")
    docker("update", "--memory", "96m", "--memory-swap", "96m", "s")
    assert "96MiB" in docker("stats", "--no-stream", "--format", "{{.MemUsage}}", "s")


def test_events(docker):
    start = f"{time.time():.6f}"
    docker("run", "--rm", "--name", "e", IMAGE, "true")

    def seen() -> list[str]:
        now = f"{time.time():.6f}"
        shown = docker("events", "--since", start, "--until", now, "--filter", "container=e",
                       "--format", "{{.Action}}")  # fmt: skip
        return [word for word in shown.split() if word in {"create", "start", "die", "destroy"}]

    # the end of `docker run --rm` does not wait for the last one
    assert wait_for(seen, lambda words: "destroy" in words) == ["create", "start", "die", "destroy"]


def test_py_run(client):
    assert client.ping()
    assert client.containers.run(IMAGE, ["echo", "hi"], remove=True) == b"hi\n"
    with pytest.raises(docker_py.errors.ContainerError) as caught:
        client.containers.run(IMAGE, ["sh", "-c", "exit 7"], remove=True)
    assert caught.value.exit_status == 7
    with pytest.raises(docker_py.errors.NotFound):
        client.containers.get("nosuch")
    with pytest.raises(docker_py.errors.ImageNotFound):
        client.images.get("nosuch:1")


def test_py_container(client):
    container = client.containers.run(IMAGE, ["sh", "-c", "echo up; sleep 100"], detach=True)
    assert container.status in {"created", "running"}
    wait_for(container.logs, bool)
    assert container.logs() == b"up\n"
    code, output = container.exec_run(["sh", "-c", "echo in; exit 2"])
    assert (code, output) == (2, b"in\n")
    code, (out, err) = container.exec_run(["sh", "-c", "echo o; echo e >&2"], demux=True)
    assert (code, out, err) == (0, b"o\n", b"e\n")
    assert container.stats(stream=False)["memory_stats"]["usage"] > 0
    assert container.put_archive("/tmp", tar_of("f", b"data"))
    pieces, stat = container.get_archive("/tmp/f")
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
        member = tar.extractfile("f")
        assert member is not None
        assert member.read() == b"data"
    assert stat["size"] == 4
    container.kill()
    assert container.wait()["StatusCode"] == 137
    container.remove()


def tar_of(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def test_py_attach(client):
    container = client.containers.create(IMAGE, ["cat"], stdin_open=True)
    stream = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    stream._sock.sendall(b"typed\n")
    assert stream._sock.recv(64) == b"\x01\0\0\0\0\0\0\x06typed\n"
    stream.close()
    container.remove(force=True)


def test_py_objects(client):
    network = client.networks.create("pynet")
    volume = client.volumes.create("pyvol", labels={"a": "b"})
    container = client.containers.run(
        IMAGE,
        ["sleep", "100"],
        name="py",
        detach=True,
        network="pynet",
        volumes={"pyvol": {"bind": "/data", "mode": "rw"}},
        mem_limit="64m",
    )
    container.reload()
    assert "pynet" in container.attrs["NetworkSettings"]["Networks"]
    assert container.attrs["HostConfig"]["Memory"] == 64 * 1024 * 1024
    assert [item.name for item in client.containers.list(filters={"name": "py"})] == ["py"]
    assert any(IMAGE in image.tags for image in client.images.list())
    container.remove(force=True)
    network.remove()
    volume.remove()


class Terminal:
    """A `docker` command on a terminal."""

    def __init__(self, docker: Docker, *words: str) -> None:
        self._main, other = pty.openpty()
        self.process = subprocess.Popen(
            ["docker", *words], stdin=other, stdout=other, stderr=other, env=docker.environment
        )
        os.close(other)
        self._shown = b""

    def until(self, text: bytes, seconds: float = 20) -> bytes:
        end = time.monotonic() + seconds
        while text not in self._shown:
            readable, _, _ = select.select([self._main], [], [], max(0, end - time.monotonic()))
            assert readable, f"no {text!r} in {self._shown!r}"
            self._shown += os.read(self._main, 4096)
        before, _, self._shown = self._shown.partition(text)
        return before

    def type(self, data: bytes) -> None:
        os.write(self._main, data)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._main, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def end(self) -> int:
        code = self.process.wait(20)
        os.close(self._main)
        return code


def test_leave_a_terminal_and_come_back(docker):
    first = Terminal(docker, "run", "-it", "--name", "tty", IMAGE, "sh")
    first.until(b"# ")
    first.resize(33, 77)
    wait_for(
        lambda: (first.type(b"stty size\r"), first.until(b"# ", 5))[1], lambda s: b"33 77" in s
    )
    first.type(b"\x10\x11")
    assert first.end() == 0
    assert docker("inspect", "-f", "{{.State.Running}}", "tty") == "true"
    second = Terminal(docker, "attach", "tty")
    second.type(b"\r")
    second.until(b"# ")
    second.type(b"exit 6\r")
    assert second.end() == 6


def test_exec_on_a_terminal(docker):
    docker("run", "-d", "--name", "x", IMAGE, "sleep", "100")
    shell = Terminal(docker, "exec", "-it", "x", "sh")
    shell.until(b"# ")
    shell.type(b"tty\r")
    shell.until(b"/dev/pts/")
    shell.type(b"exit 4\r")
    assert shell.end() == 4


def test_signals_are_passed_on(docker):
    script = "trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(
        ["docker", "run", "--rm", IMAGE, "sh", "-c", script],
        stdout=subprocess.PIPE,
        env=docker.environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        assert process.stdout.read() == b"got\n"
        assert process.wait(20) == 5


def test_commit(docker):
    docker("run", "--name", "made", IMAGE, "sh", "-c", "echo new > /file")
    docker("commit", "-m", "a file", "-c", 'CMD ["cat", "/file"]', "made", "committed:1")
    assert docker("run", "--rm", "committed:1") == "new"
    assert "a file" in docker("history", "committed:1")
    docker("rmi", "committed:1")


def test_copy_trees_and_export(docker, tmp_path):
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/f").write_text("1\n")
    docker("create", "--name", "c", IMAGE, "ls", "-ln", "/tmp/tree/sub")
    docker("cp", str(tmp_path / "tree"), "c:/tmp")
    assert docker("start", "-a", "c").split()[-1] == "f"
    docker("cp", "c:/tmp/tree", str(tmp_path / "back"))
    assert (tmp_path / "back/sub/f").read_text() == "1\n"
    docker("export", "-o", str(tmp_path / "all.tar"), "c")
    with tarfile.open(tmp_path / "all.tar") as tar:
        assert "tmp/tree/sub/f" in tar.getnames()
    assert docker.try_("cp", "c:/nosuch", str(tmp_path)).code == 1


def test_health_and_ports(docker):
    docker("run", "-d", "--name", "h", "--health-cmd", "true", "--health-interval", "100ms",
           "-p", "127.0.0.1::80", IMAGE, "sleep", "100")  # fmt: skip
    ask = ("inspect", "-f", "{{.State.Health.Status}}", "h")
    assert wait_for(lambda: docker(*ask), lambda status: status == "healthy") == "healthy"
    assert docker("port", "h", "80").startswith("127.0.0.1:")
    assert "(healthy)" in docker("ps", "--format", "{{.Status}}")


def test_another_network_is_joined_with_its_names(docker):
    docker("network", "create", "joined")
    docker("run", "-d", "--name", "peer", "--network", "joined", IMAGE, "sleep", "100")
    files = "hostname; cat /etc/resolv.conf /etc/hosts"
    seen = docker("run", "--rm", "--network", "container:peer", IMAGE, "sh", "-c", files)
    assert seen == docker("exec", "peer", "sh", "-c", files)
    assert "nameserver 127.0.0.11" in seen


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--gpus=all", "could not select device driver"),
        ("--storage-opt=size=1g", "StorageOpt is not supported"),
        ("--cgroup-parent=/x", "CgroupParent is not supported"),
        ("--log-driver=syslog", "no log driver named 'syslog'"),
        ("--volume-driver=nfs", "error looking up volume plugin nfs"),
        ("--runtime=runc", "unknown or invalid runtime name: runc"),
        ("--memory=1m", "Minimum memory limit allowed is 6MB"),
    ],
)
def test_what_is_not_there_is_refused(docker, option, message):
    result = docker.try_("create", option, "-v", "/data", IMAGE, "true")
    assert result.code == 1, result
    assert message in result.err
    assert docker("ps", "-aq") == ""


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    with running_registry(tmp_path) as address:
        yield address


def test_push_and_pull(docker, registry):
    name = f"{registry}/team/tiny:1"
    docker("tag", IMAGE, name)
    assert "digest: sha256:" in docker("push", name)
    docker("rmi", name)
    assert "Pull complete" in docker("pull", name) or docker("image", "inspect", name)
    docker("rmi", name)
    assert docker("run", "--rm", name, "echo", "pulled") == "pulled"
    docker("rmi", name)
    assert docker.try_("pull", f"{registry}/nosuch:1").code == 1


def test_py_images(client, tmp_path):
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nLABEL a=b\nRUN echo hello > /f\n")
    image, log = client.images.build(path=str(tmp_path), tag="pybuilt:1")
    assert any("hello" in line.get("stream", "") for line in log)
    assert image.labels == {"a": "b"}
    saved = b"".join(image.save(named=True))
    client.images.remove("pybuilt:1")
    (loaded,) = client.images.load(saved)
    assert loaded.tags == ["pybuilt:1"]
    assert client.containers.run("pybuilt:1", ["cat", "/f"], remove=True) == b"hello\n"
    assert loaded.history()[0]["Size"] > 0
    client.images.remove("pybuilt:1")
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN exit 3\n")
    with pytest.raises(docker_py.errors.BuildError, match="non-zero code: 3"):
        client.images.build(path=str(tmp_path))


def test_py_streams(client):
    events = client.events(decode=True, filters={"container": "s"})
    script = "for i in 1 2 3; do echo $i; sleep 0.1; done; sleep 100"
    container = client.containers.run(IMAGE, ["sh", "-c", script], name="s", detach=True)
    lines = container.logs(stream=True, follow=True)
    assert [next(lines) for _ in range(3)] == [b"1\n", b"2\n", b"3\n"]
    assert [next(events)["Action"] for _ in range(2)] == ["create", "start"]
    events.close()
    assert container.attrs["HostConfig"]["LogConfig"]["Type"] == "json-file"
    assert next(container.stats(decode=True))["pids_stats"]["current"] >= 1
    assert any("sleep 100" in row[-1] for row in wait_for(
        lambda: container.top()["Processes"], lambda rows: "100" in rows[-1][-1]))  # fmt: skip
    container.exec_run(["touch", "/made"])
    assert {"Path": "/made", "Kind": 1} in container.diff()
    container.pause()
    container.unpause()
    container.rename("t")
    container.update(mem_limit="128m", memswap_limit="128m")
    container.reload()
    assert (container.name, container.attrs["HostConfig"]["Memory"]) == ("t", 128 << 20)
    container.restart(timeout=0)
    container.stop(timeout=0)
    container.remove()


def test_py_house(client):
    assert client.info()["DefaultRuntime"] == "app"
    assert client.version()["ApiVersion"] == "1.50"
    assert {"Images", "Containers", "Volumes"} <= set(client.df())
    client.containers.run(IMAGE, ["true"], detach=True).wait()
    assert len(client.containers.prune()["ContainersDeleted"]) == 1
    client.networks.create("unused")
    assert client.networks.prune()["NetworksDeleted"] == ["unused"]
    volume = client.volumes.create()
    assert client.volumes.prune()["VolumesDeleted"] == [volume.name]
