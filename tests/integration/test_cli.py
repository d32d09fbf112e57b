"""The command line against a real engine: streams, exit codes, terminals, files, builds, stacks."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from engine_under_test import EngineUnderTest

from pannier.base.instance import Instance

_CLI = "import sys; from pannier.cli.main import main; sys.argv[0] = 'pannier'; main()"


def _talk(
    engine: EngineUnderTest, words: tuple[str, ...], script: list[tuple[bytes, bytes]]
) -> tuple[int, str]:
    """Run a command on a terminal: wait for a text, type another. Returns status and output."""
    pid, terminal = pty.fork()
    if pid == 0:
        command = [sys.executable, "-c", _CLI, *words]
        os.execve(command[0], command, engine.environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 40, 100, 0, 0))
    out = b""
    seen = 0
    deadline = time.monotonic() + 30
    try:
        while time.monotonic() < deadline:
            if script and script[0][0] in out[seen:]:
                seen = len(out)
                os.write(terminal, script.pop(0)[1])
            if not select.select([terminal], [], [], 0.1)[0]:
                continue
            try:
                data = os.read(terminal, 4096)
            except OSError:  # EIO: the other side is closed
                break
            out += data
    finally:
        os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), out.decode(errors="replace")


def test_streams_and_status(daemon: EngineUnderTest) -> None:
    script = "echo out; echo err >&2; exit 3"
    done = daemon.cli_try("run", "--rm", "debian:12", "sh", "-c", script)
    assert (done.code, done.out, done.err) == (3, "out\n", "err\n")
    assert daemon.cli("ps", "-aq") == ""


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("debian:12", "nosuch"), 127, "executable file not found"),
        (("debian:12", "/etc/passwd"), 126, "permission denied"),
        (("nosuch.invalid/image:1", "true"), 125, "No such image"),
        (("--name", "bad name", "debian:12", "true"), 125, "Invalid container name"),
        (("--network", "nosuch", "debian:12", "true"), 125, "network nosuch not found"),
        (("debian:12", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"), 137, ""),
    ],
)
def test_failures(daemon: EngineUnderTest, words: tuple[str, ...], code: int, message: str) -> None:
    done = daemon.cli_try("run", "--rm", *words)
    assert done.code == code
    assert message in done.err


def test_much_through_stdin_and_stdout(daemon: EngineUnderTest) -> None:
    data = os.urandom(5 << 20)
    done = subprocess.run(
        [sys.executable, "-c", _CLI, "run", "--rm", "-i", "debian:12", "cat"],
        env=daemon.environment,
        input=data,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_signals_are_passed_on(daemon: EngineUnderTest) -> None:
    script = "trap 'echo got it; exit 6' TERM; echo ready; while :; do sleep 0.05; done"
    process = subprocess.Popen(
        [sys.executable, "-c", _CLI, "run", "--rm", "debian:12", "sh", "-c", script],
        env=daemon.environment,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[0] == b"got it\n"
    assert process.returncode == 6


def test_terminal(daemon: EngineUnderTest) -> None:
    words = ("run", "--rm", "-it", "debian:12", "bash", "--norc")
    code, out = _talk(daemon, words, [(b"#", b"test -t 0 && echo ter''minal; exit 4\n")])
    assert code == 4
    assert "terminal" in out


def test_detach_and_attach_again(daemon: EngineUnderTest) -> None:
    words = ("run", "-it", "--name", "box", "debian:12", "bash", "--norc")
    code, _ = _talk(daemon, words, [(b"#", b"X=va''lue\n"), (b"#", b"\x10\x11")])
    assert code == 0
    assert daemon.inspect("box")["State"]["Running"]
    code, out = _talk(daemon, ("attach", "box"), [(b"#", b"echo $X; exit 5\n")])
    assert code == 5
    assert "value" in out


def test_exec(daemon: EngineUnderTest) -> None:
    daemon.cli("run", "-d", "--name", "box", "debian:12", "sleep", "1000")
    assert daemon.cli("exec", "-i", "box", "cat", stdin=b"through") == "through"
    done = daemon.cli_try("exec", "-e", "A=b", "-w", "/tmp", "box", "sh", "-c", "pwd; exit $((3))")
    assert (done.code, done.out) == (3, "/tmp\n")
    assert daemon.cli_try("exec", "box", "nosuch").code == 127
    code, out = _talk(daemon, ("shell", "box"), [(b"#", b"pwd; exit 7\n")])
    assert code == 7
    assert "/root" in out


def test_tables_and_formats(daemon: EngineUnderTest) -> None:
    daemon.cli("run", "-d", "--name", "box", "-m", "64m", "debian:12", "sleep", "1000")
    assert daemon.cli("ps", "--format", "{{.Names}} {{.Image}} {{.Kind}}") == "box debian:12 app"
    assert daemon.cli("inspect", "-f", "{{.HostConfig.Memory}}", "box") == str(64 << 20)
    assert "box" in daemon.cli("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}")
    assert "sleep 1000" in daemon.cli("top", "box")
    assert "debian" in daemon.cli("images", "--format", "{{.Repository}}:{{.Tag}}")
    events = daemon.cli("events", "--since", "1m", "--until", "0s", "--format", "{{.Action}}")
    assert "start" in events.splitlines()


def test_files_in_and_out(daemon: EngineUnderTest, tmp_path: Path) -> None:
    source = tmp_path / "in"
    (source / "sub").mkdir(parents=True)
    (source / "sub/file").write_text("content")
    (source / "link").symlink_to("sub/file")
    daemon.cli("create", "--name", "box", "debian:12")
    daemon.cli("cp", str(source), "box:/new")
    daemon.cli("cp", f"{source}/.", "box:/srv")
    daemon.cli("cp", "box:/new", str(tmp_path / "out"))
    assert (tmp_path / "out/sub/file").read_text() == "content"
    assert os.readlink(tmp_path / "out/link") == "sub/file"
    daemon.cli("cp", "box:/srv/sub/file", str(tmp_path))
    assert (tmp_path / "file").read_text() == "content"
    assert "A /new/sub/file" in daemon.cli("diff", "box").splitlines()
    done = daemon.cli_try("cp", "box:/nowhere", str(tmp_path))
    assert (done.code, "Could not find the file /nowhere" in done.err) == (1, True)


def test_build(daemon: EngineUnderTest, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian:12\nCOPY a /a\nRUN cat /a\nRUN exit 9\n")
    (tmp_path / "a").write_text("from the context\n")
    (tmp_path / "secret").write_text("x" * 100_000)
    (tmp_path / ".dockerignore").write_text("secret\n")
    done = daemon.cli_try("build", "-t", "built", str(tmp_path))
    assert done.code == 9
    assert "from the context" in done.out
    assert "returned a non-zero code: 9" in done.err
    (tmp_path / "Dockerfile").write_text('FROM debian:12\nCOPY . /c\nCMD ["ls", "/c"]\n')
    daemon.cli("build", "-q", "-t", "built", str(tmp_path))
    assert daemon.cli("run", "--rm", "built").split() == ["Dockerfile", "a"]
    daemon.cli("rmi", "built")


_COMPOSE = """
services:
  app:
    build: .
    command: sh -c 'echo hello; exec sleep 1000'
    stop_grace_period: 1s
    init: true
    deploy: {replicas: 2}
"""


def test_stack(daemon: EngineUnderTest, tmp_path: Path) -> None:
    project = tmp_path / "shop"
    project.mkdir()
    (project / "compose.yaml").write_text(_COMPOSE)
    (project / "Dockerfile").write_text("FROM debian:12\nRUN echo 1 > /version\n")
    version = ("compose", "exec", "-T", "app", "cat", "/version")
    daemon.cli("compose", "up", "-d", cwd=project)
    try:
        names = daemon.cli("compose", "ps", "--format", "{{.Name}}", cwd=project).split()
        assert names == ["shop-app-1", "shop-app-2"]
        assert "shop-app-1 | hello" in daemon.cli("compose", "logs", cwd=project)
        daemon.cli("compose", "scale", "app=3", cwd=project)
        assert len(daemon.cli("compose", "ps", "-q", cwd=project).split()) == 3
        (project / "Dockerfile").write_text("FROM debian:12\nRUN echo 2 > /version\n")
        daemon.cli("compose", "up", "-d", "--build", cwd=project)
        assert daemon.cli(*version, cwd=project) == "2"
        daemon.cli("rollback", "app")
        assert daemon.cli(*version, cwd=project) == "1"
        assert "shop" in daemon.cli("compose", "ls", "-q").split()
    finally:
        daemon.cli("compose", "down", "-v", cwd=project)
    daemon.cli("image", "prune", "-f")
    daemon.cli("rmi", "-f", "shop-app")


def test_the_daemon_is_started_when_none_runs(instance: Instance) -> None:
    engine = EngineUnderTest(instance)
    environment = {k: v for k, v in engine.environment.items() if not k.endswith("_HOST")}
    command = [sys.executable, "-c", _CLI, "info", "--format", "{{.ID}}"]
    try:
        # Two at once: one starts it, the other finds it.
        started = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(2)
        ]
        for process in started:
            assert process.communicate(timeout=60)[0].decode().strip() == instance.name
    finally:
        _end_daemon(engine.socket)
        engine.take_down()


def _end_daemon(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid = struct.unpack("3i", peer)[0]
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGTERM)
    assert select.select([pidfd], [], [], 20)[0], "the daemon does not end"
    os.close(pidfd)
