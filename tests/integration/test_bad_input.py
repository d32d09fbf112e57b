"""Wrong input and refusals: each says what is wrong and what to do, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from engine_under_test import Done, EngineUnderTest
from waiting import until

IMAGE = "debian:12"
SLEEP = ("sleep", "infinity")
CLI = "import sys; from pannier.cli.main import main; sys.argv[0] = 'pannier'; main()"


@pytest.fixture(autouse=True)
def nothing_is_left(daemon: EngineUnderTest):
    """Refused containers do not stay in the list either; mounts and the like the fixture checks."""
    images = daemon.cli("images", "-aq", "--no-trunc").split()
    volumes = daemon.cli("volume", "ls", "-q").split()
    yield
    assert daemon.cli("images", "-aq", "--no-trunc").split() == images
    assert daemon.cli("volume", "ls", "-q").split() == volumes


def refused(daemon: EngineUnderTest, code: int, *words: str, cwd: Path | None = None) -> str:
    done = daemon.cli_try(*words, cwd=cwd)
    assert done.code == code, done
    assert done.err
    assert "Traceback" not in done.err
    return done.err


def containers(daemon: EngineUnderTest) -> list[str]:
    return daemon.cli("ps", "-a", "--format", "{{.Names}}").split()


def test_unknown_image(daemon: EngineUnderTest) -> None:
    message = refused(daemon, 125, "run", "--pull", "never", "nosuch:1", "true")
    assert "No such image: nosuch:1" in message
    assert containers(daemon) == []
    assert "No such image: nosuch:1" in refused(daemon, 1, "rmi", "nosuch:1")


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("nosuch", 127, 'exec: "nosuch": executable file not found in $PATH'),
        ("/no/such", 127, "no such file or directory"),
        ("/etc/passwd", 126, "permission denied"),
        ("/etc", 126, "is a directory"),
    ],
)
def test_commands_that_cannot_be_run(
    daemon: EngineUnderTest, command: str, code: int, message: str
) -> None:
    for options in ([], ["-d"], ["-t"], ["--rm"]):
        error = refused(daemon, code, "run", "--name", "refused", *options, IMAGE, command)
        assert message in error, (options, error)
        if "--rm" not in options:
            assert daemon.inspect("refused")["State"]["ExitCode"] == code
            daemon.cli("rm", "refused")
    assert containers(daemon) == []
    daemon.cli("run", "-d", "--name", "up", IMAGE, *SLEEP)
    for options in ([], ["-t"]):
        done = daemon.cli_try("exec", *options, "up", command)
        assert (done.code, message in done.out + done.err) == (code, True), done


def test_a_script_without_interpreter(daemon: EngineUnderTest, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    message = refused(daemon, 127, "run", "--rm", "-v", f"{script}:/script", IMAGE, "/script")
    assert "/script" in message
    script.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(57))
    message = refused(daemon, 126, "run", "--rm", "-v", f"{script}:/script", IMAGE, "/script")
    assert "exec format error" in message.lower()
    assert "architecture" in message


def test_working_directory_and_user(daemon: EngineUnderTest) -> None:
    message = refused(daemon, 125, "run", "--rm", "-u", "nosuch", IMAGE, "true")
    assert "unable to find user nosuch: no matching entries in passwd file" in message
    message = refused(daemon, 126, "run", "--rm", "-w", "/etc/passwd", IMAGE, "true")
    assert "/etc/passwd" in message
    assert containers(daemon) == []


def foreign_archive(path: Path, system: str, architecture: str) -> Path:
    """An image of another platform, as `docker save` writes it."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("empty"))
    import hashlib

    config = json.dumps(
        {
            "architecture": architecture,
            "os": system,
            "config": {"Cmd": ["/empty"]},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"],
            },
            "history": [{"created_by": "test"}],
        }
    ).encode()
    manifest = [{"Config": "config.json", "RepoTags": ["foreign:1"], "Layers": ["layer.tar"]}]
    files = {
        "config.json": config,
        "layer.tar": layer.getvalue(),
        "manifest.json": json.dumps(manifest).encode(),
    }
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(("system", "machine"), [("linux", "s390x"), ("windows", "amd64")])
def test_an_image_of_another_platform(
    daemon: EngineUnderTest, tmp_path: Path, system: str, machine: str
) -> None:
    """Refused when it is loaded, or when it is to run; either way it is said why."""
    archive = foreign_archive(tmp_path / "foreign.tar", system, machine)
    done = daemon.cli_try("load", "-i", str(archive))
    if done.code == 0:
        done = daemon.cli_try("run", "--rm", "--pull", "never", "foreign:1", "/empty")
        daemon.cli("rmi", "foreign:1")
        assert done.code == 125
    assert done.code != 0
    assert f"{system}/{machine}" in done.err
    assert "shares this host's kernel" in done.err
    here = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    assert f"linux/{here}" in done.err


def test_a_name_in_use(daemon: EngineUnderTest) -> None:
    container = daemon.cli("create", "--name", "taken", IMAGE)
    message = refused(daemon, 125, "run", "--name", "taken", IMAGE, "true")
    assert 'The container name "/taken" is already in use by container' in message
    assert container in message
    assert "rename" in message or "remove" in message
    daemon.cli("create", "--name", "other", IMAGE)
    assert "already in use" in refused(daemon, 1, "rename", "other", "taken")
    assert sorted(containers(daemon)) == ["other", "taken"]
    assert "name" in refused(daemon, 1, "create", "--name", "-bad-", IMAGE)


def test_a_port_in_use_by_another_container(daemon: EngineUnderTest) -> None:
    daemon.cli("run", "-d", "--name", "first", "-p", "127.0.0.1::80", IMAGE, *SLEEP)
    port = daemon.cli("port", "first", "80").rpartition(":")[2]
    option = ("-p", f"127.0.0.1:{port}:80")
    message = refused(daemon, 125, "run", "--name", "second", *option, IMAGE, "true")
    assert port in message
    assert "another container uses it" in message
    assert daemon.inspect("second")["State"]["Status"] == "created"
    daemon.cli("rm", "-f", "first")
    daemon.cli("start", "second")


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_port_in_use_by_a_program_of_the_host(daemon: EngineUnderTest, address: str) -> None:
    with socket.socket() as foreign:
        foreign.bind((address, 0))
        foreign.listen()
        port = foreign.getsockname()[1]
        message = refused(daemon, 125, "run", "--rm", "-p", f"{port}:80", IMAGE, "true")
    assert str(port) in message
    assert "a program on this host uses it" in message
    assert containers(daemon) == []


def test_a_missing_bind_source(daemon: EngineUnderTest, tmp_path: Path) -> None:
    spec = f"type=bind,source={tmp_path}/nosuch,target=/in"
    message = refused(daemon, 125, "run", "--mount", spec, IMAGE, "true")
    assert f"bind source path does not exist: {tmp_path}/nosuch" in message
    assert containers(daemon) == []
    (tmp_path / "there").mkdir()
    daemon.cli("create", "--name", "later", "-v", f"{tmp_path}/there:/in", IMAGE, "true")
    (tmp_path / "there").rmdir()
    message = refused(daemon, 1, "start", "later")
    assert f"{tmp_path}/there" in message


def test_a_bind_of_what_cannot_be_mapped(daemon: EngineUnderTest) -> None:
    """proc refuses an idmap: read-only as it is; for writing it is an error that says so."""
    words = ("-v", "/proc/sys/kernel:/in:ro", IMAGE, "cat", "/in/ostype")
    assert daemon.cli("run", "--rm", *words) == "Linux"
    message = refused(daemon, 125, "run", "--rm", "-v", "/proc/sys/kernel:/in", IMAGE, "true")
    assert "proc" in message
    assert "ro" in message


def test_options_that_make_no_sense(daemon: EngineUnderTest) -> None:
    for options, part in [
        (["--runtime", "nosuch"], "nosuch"),
        (["--restart", "sometimes"], "sometimes"),
        (["--rm", "--restart", "always"], "restart"),
        (["--network", "nosuch"], "nosuch"),
        (["--network", "container:nosuch"], "nosuch"),
        (["--device", "/dev/nosuch"], "/dev/nosuch"),
        (["-v", "relative/path:/in"], "relative/path"),
        (["-v", "/tmp:in"], "in"),
        (["--cap-add", "NOSUCH"], "NOSUCH"),
        (["--stop-signal", "NOSUCH"], "NOSUCH"),
        (["-w", "relative"], "relative"),
        (["--security-opt", "seccomp=/no/such"], "/no/such"),
        (["--log-opt", "max-file=none"], "none"),
        (["-p", "99999:80"], "99999"),
        (["--nosuch"], "--nosuch"),
    ]:
        message = refused(daemon, 125, "run", *options, IMAGE, "true")
        assert part in message, (options, message)
        left = containers(daemon)
        assert left == [] or options[0] == "--network", options
        if left:
            daemon.cli("rm", *left)


def test_what_is_not_there(daemon: EngineUnderTest) -> None:
    for verb in (
        "start",
        "stop",
        "kill",
        "rm",
        "inspect",
        "logs",
        "top",
        "wait",
        "pause",
        "attach",
    ):
        assert "nosuch" in refused(daemon, 1, verb, "nosuch"), verb
    assert "No such container: nosuch" in refused(daemon, 1, "exec", "nosuch", "true")
    assert "nosuch" in refused(daemon, 1, "network", "rm", "nosuch")
    assert "nosuch" in refused(daemon, 1, "volume", "rm", "nosuch")


def test_states_that_do_not_fit(daemon: EngineUnderTest) -> None:
    daemon.cli("run", "-d", "--name", "up", IMAGE, *SLEEP)
    daemon.cli("create", "--name", "down", IMAGE)
    assert "remove" in refused(daemon, 1, "rm", "up")
    assert "is not running" in refused(daemon, 1, "exec", "down", "true")
    assert "is not running" in refused(daemon, 1, "kill", "down")
    assert "is not running" in refused(daemon, 1, "pause", "down")
    assert "is not paused" in refused(daemon, 1, "unpause", "up")
    daemon.cli("pause", "up")
    assert "paused" in refused(daemon, 1, "exec", "up", "true")
    assert "already paused" in refused(daemon, 1, "pause", "up")


def test_a_missing_dockerfile(daemon: EngineUnderTest, tmp_path: Path) -> None:
    message = refused(daemon, 1, "build", str(tmp_path))
    assert "Dockerfile" in message
    assert str(tmp_path) in message
    assert "nosuch" in refused(daemon, 1, "build", str(tmp_path / "nosuch"))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("RUNN true", ["unknown instruction", "RUNN", "RUN"]),
        ("COPY one", ["COPY", "at least two"]),
        ("ENV", ["ENV", "at least one"]),
        ("EXPOSE http", ["http"]),
        ("HEALTHCHECK --interval=soon CMD true", ["soon"]),
    ],
)
def test_a_syntax_error_in_a_dockerfile(
    daemon: EngineUnderTest, tmp_path: Path, line: str, words: list[str]
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\n\n# comment\n{line}\n")
    message = refused(daemon, 1, "build", str(tmp_path))
    assert "Dockerfile:4" in message or ("Dockerfile" in message and "line 4" in message), message
    assert [word for word in words if word.lower() not in message.lower()] == [], message


def test_a_failing_run_keeps_what_came_before(daemon: EngineUnderTest, tmp_path: Path) -> None:
    text = f"FROM {IMAGE}\nRUN echo first-step > /one\nRUN echo before-it; echo bad >&2; exit 42\n"
    (tmp_path / "Dockerfile").write_text(text)
    done = daemon.cli_try("build", "-t", "fails:1", str(tmp_path))
    assert done.code != 0
    shown = done.out + done.err
    assert "before-it" in shown
    assert "bad" in shown
    assert "42" in shown
    assert "fails" not in daemon.cli("images", "--format", "{{.Repository}}")
    (tmp_path / "Dockerfile").write_text(text.replace("exit 42", "true"))
    done = daemon.cli_try("build", "-t", "works:1", str(tmp_path))
    assert done.code == 0, done
    assert "cache" in (done.out + done.err).lower()
    daemon.cli("rmi", "works:1")
    daemon.cli("builder", "prune", "--force", "--all")


COMPOSE_FAULTS = {
    "cycle": (
        "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [a]}\n",
        ["cycl", "a", "b"],
    ),
    "variable": ("services:\n  a: {image: '${NOSUCH:?it is needed}'}\n", ["NOSUCH", "needed"]),
    "syntax": ("services:\n  a:\n    image: 'x\n", ["compose.yaml:4", "not valid YAML"]),
    "key": ("services:\n  a:\n    image: x\n    portz: [1]\n", ["compose.yaml", "4", "portz"]),
    "type": ("services:\n  a:\n    image: x\n    ports: 80\n", ["compose.yaml", "4", "ports"]),
    "unknown": ("services:\n  a: {image: x, depends_on: [nosuch]}\n", ["nosuch"]),
    "network": ("services:\n  a: {image: x, networks: [nosuch]}\n", ["nosuch"]),
}


@pytest.mark.parametrize("fault", COMPOSE_FAULTS)
def test_faults_of_a_compose_file(daemon: EngineUnderTest, tmp_path: Path, fault: str) -> None:
    text, words = COMPOSE_FAULTS[fault]
    (tmp_path / "compose.yaml").write_text(text)
    done = daemon.cli_try("compose", "up", "-d", cwd=tmp_path)
    assert done.code not in {0, 125}
    assert [word for word in words if word not in done.err] == [], done.err
    assert containers(daemon) == []


def test_no_compose_file(daemon: EngineUnderTest, tmp_path: Path) -> None:
    assert "compose.yaml" in refused(daemon, 1, "compose", "up", cwd=tmp_path)


def as_nobody(daemon: EngineUnderTest, *words: str) -> Done:
    """Run Python as a user without rights. The project's own directory may be root's alone."""
    drop = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    readable = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    done = subprocess.run(
        [*drop, *readable, sys.executable, *words],
        env=daemon.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_the_command_without_root(daemon: EngineUnderTest) -> None:
    done = as_nobody(daemon, "-c", CLI, "ps")
    assert done.code == 1
    assert "permission denied" in done.err.lower()
    assert daemon.socket in done.err
    assert "group" in done.err or "sudo" in done.err, "what to do"
    assert "Traceback" not in done.err


def test_the_daemon_without_root(daemon: EngineUnderTest) -> None:
    done = as_nobody(daemon, "-m", "pannier.daemon")
    assert done.code == 1
    assert "root" in done.err
    assert "Traceback" not in done.err


def test_a_second_daemon_is_refused(daemon: EngineUnderTest) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pannier.daemon"],
        env=daemon.environment,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    assert f"another pannierd uses {daemon.instance.data}" in done.stderr
    assert daemon.cli("run", "--rm", IMAGE, "echo", "still here") == "still here"


def start(daemon: EngineUnderTest, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", CLI, *words],
        env=daemon.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def test_a_client_that_vanishes_during_attach(daemon: EngineUnderTest) -> None:
    """The container goes on, its output is complete, and others can attach."""
    script = "while read line; do echo got $line; done"
    daemon.cli("run", "-di", "--name", "talk", IMAGE, "sh", "-c", script)
    for word in ("one", "two"):
        client = start(daemon, "attach", "talk")
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(f"{word}\n".encode())
        client.stdin.flush()
        assert client.stdout.readline() == f"got {word}\n".encode()
        client.kill()
        client.communicate()
        assert daemon.inspect("talk")["State"]["Running"] is True
    until(lambda: daemon.cli("logs", "talk").split("\n") == ["got one", "got two"], "both lines")


def test_a_client_that_vanishes_during_logs_exec_and_wait(daemon: EngineUnderTest) -> None:
    daemon.cli(
        "run", "-d", "--name", "busy", IMAGE, "sh", "-c", "while echo x; do sleep 0.01; done"
    )
    for words in (
        ("logs", "-f", "busy"),
        ("exec", "busy", "sh", "-c", "while echo x; do sleep 0.01; done"),
        ("exec", "-t", "busy", "sh", "-c", "while echo x; do sleep 0.01; done"),
        ("attach", "--no-stdin", "busy"),
    ):
        client = start(daemon, *words)
        assert client.stdout is not None
        assert client.stdout.readline().strip() == b"x"
        client.kill()
        client.communicate()
    assert daemon.inspect("busy")["State"]["Running"] is True


def test_garbage_on_the_socket(daemon: EngineUnderTest) -> None:
    for data in (
        b"\0\xff\n\n",
        b"GET",
        b"POST /containers/create HTTP/1.1\r\nHost: t\r\n\r\n",
        b"",
    ):
        with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
            client.settimeout(5)
            client.connect(daemon.socket)
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
    assert daemon.cli("run", "--rm", IMAGE, "echo", "fine") == "fine"


def test_a_data_directory_that_cannot_be_used(daemon: EngineUnderTest, tmp_path: Path) -> None:
    """An engine that cannot store anything says so at its start."""
    file = tmp_path / "file"
    file.write_text("")
    run = daemon.instance.data.parent / "other"
    environment = {**daemon.environment, "PANNIER_DATA": f"{file}/data", "PANNIER_RUN": str(run)}
    environment["PANNIER_NAME"] = "pntnone"
    done = subprocess.run(
        [sys.executable, "-m", "pannier.daemon"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    assert str(file) in done.stderr
    assert "Traceback" not in done.stderr
    assert not os.path.exists(run / "pannier.sock")
