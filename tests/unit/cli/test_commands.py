"""Commands as a person types them, against a server that answers as an engine would."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from answering import Server, frame, reply

from pannier.cli import commands
from pannier.cli.main import run


@pytest.fixture
def pannier(server: Server):
    def call(*words: str) -> int:
        return run(["-H", f"unix://{server.path}", *words])

    return call


def _run_answer(*frames: bytes) -> bytes:
    head = b"HTTP/1.1 101 UPGRADED\r\nPannier-Container: 0123456789abcdef\r\n\r\n"
    return head + b"".join(frames)


def _container(**changes) -> dict:
    return {
        "Id": "0123456789abcdef" * 4,
        "Names": ["/web"],
        "Image": "debian:12",
        "ImageID": "sha256:ab",
        "Command": "sleep 1000000000000000000000",
        "Created": 0,
        "Ports": [],
        "Labels": {},
        "State": "running",
        "Status": "Up 3 minutes",
        "HostConfig": {"Runtime": "os"},
    } | changes


@pytest.mark.parametrize("path", commands.paths())
def test_every_command_explains_itself(path: str, capsys) -> None:
    assert run([*path.split(), "--help"]) == 0
    page = capsys.readouterr().out
    assert page.startswith(f"Usage:  pannier {path}")
    command = commands.load(path)
    assert command.summary[0].isupper()
    assert not command.summary.endswith(".")
    for name in command.see:
        assert name in commands.paths(), name


@pytest.mark.parametrize("group", commands.GROUPS)
def test_every_group_explains_itself(group: str, capsys) -> None:
    assert run([group]) == 0
    assert f"Usage:  pannier {group} COMMAND" in capsys.readouterr().out


def test_options_are_well_formed() -> None:
    for path in commands.paths():
        shorts = [option[1] for option in commands.load(path).options if option[1]]
        names = [option[0] for option in commands.load(path).options]
        assert len(set(shorts)) == len(shorts), path
        assert len(set(names)) == len(names), path


def test_front_page(capsys) -> None:
    assert run([]) == 0
    assert "Start here:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["blah"], 1, "unknown command: pannier blah"),
        (["stpo"], 1, "did you mean 'stop'?"),
        (["run", "--foo"], 125, "unknown flag: --foo"),
        (["run"], 1, "'pannier run' requires at least 1 argument"),
        (["ps", "x"], 1, "'pannier ps' accepts no arguments"),
        (["rename", "x"], 1, "'pannier rename' requires exactly 2 arguments"),
        (["-H", "tcp://1.2.3.4:5", "ps"], 1, "unix socket only"),
        (["-H", "/nowhere", "ps"], 1, "no pannier engine listens on /nowhere"),
        (["-H", "/nowhere", "run", "x"], 125, "no pannier engine listens on /nowhere"),
    ],
)
def test_mistakes(words: list[str], code: int, message: str, capsys) -> None:
    assert run(words) == code
    assert message in capsys.readouterr().err


def test_run(pannier, server: Server, capfd) -> None:
    frames = (frame(1, b"out\n"), frame(2, b"err\n"), frame(4, b'{"StatusCode":3}'))
    server.on("POST /pannier/run", _run_answer(*frames))
    assert pannier("run", "--rm", "--sig-proxy=false", "--name", "n", "debian:12", "true") == 3
    assert capfd.readouterr() == ("out\n", "err\n")
    sent = json.loads(server.requests[0].body)
    assert sent["Name"] == "n"
    assert sent["Body"]["Cmd"] == ["true"]
    assert sent["Body"]["HostConfig"] == {"AutoRemove": True}
    assert sent["Attach"] == {"stdin": False, "stdout": True, "stderr": True}


def test_run_command_not_found(pannier, server: Server, capfd) -> None:
    error = {"message": 'exec: "x": executable file not found in $PATH', "exitCode": 127}
    server.on("POST /pannier/run", reply(400, json.dumps(error).encode()))
    assert pannier("run", "--rm", "debian:12", "x") == 127
    assert capfd.readouterr().err == f"pannier: {error['message']}\n"


def test_run_error_frame(pannier, server: Server, capfd) -> None:
    error = b'{"message":"no","hint":"do it","exitCode":126}'
    server.on("POST /pannier/run", _run_answer(frame(3, error)))
    assert pannier("run", "--sig-proxy=false", "debian:12") in {125, 126}


def test_run_detached(pannier, server: Server, capfd) -> None:
    server.on("POST /pannier/run", reply(201, b'{"Id":"abc"}'))
    assert pannier("run", "-d", "debian:12") == 0
    assert capfd.readouterr().out == "abc\n"


def test_run_pulls_what_is_missing(pannier, server: Server, capfd) -> None:
    answers = [
        reply(404, b'{"message":"No such image: 127.0.0.1:5000/x:2"}'),
        _run_answer(frame(4, b'{"StatusCode":0}')),
    ]
    server.on("POST /pannier/run", lambda _, c: c.sendall(answers.pop(0)))
    server.on("POST /images/create", reply(200, b'{"status":"Pulling","id":"x"}\n'))
    assert pannier("run", "--rm", "--sig-proxy=false", "127.0.0.1:5000/x:2") == 0
    out, err = capfd.readouterr()
    assert (out, "Unable to find image" in err) == ("", True)
    assert "fromImage=127.0.0.1%3A5000%2Fx&tag=2" in server.requests[1].target


def test_run_pull_never(pannier, server: Server, capfd) -> None:
    server.on("POST /pannier/run", reply(404, b'{"message":"No such image: x"}'))
    assert pannier("run", "--pull", "never", "x") == 125
    assert len(server.requests) == 1


def test_cidfile(pannier, server: Server, tmp_path: Path, capfd) -> None:
    server.on("POST /pannier/run", reply(201, b'{"Id":"abc"}'))
    path = tmp_path / "cid"
    assert pannier("run", "-d", "--cidfile", str(path), "x") == 0
    assert path.read_text() == "abc"
    assert pannier("run", "-d", "--cidfile", str(path), "x") == 125
    assert "container ID file found" in capfd.readouterr().err


def test_tty_needs_a_terminal(pannier, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    monkeypatch.setattr("posix.isatty", lambda _: False)
    assert pannier("run", "-it", "x") == 1
    assert "the input device is not a TTY" in capfd.readouterr().err


def test_ps(pannier, server: Server, capfd) -> None:
    ports = [
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"IP": "0.0.0.0", "PrivatePort": 81, "PublicPort": 8081, "Type": "tcp"},
        {"PrivatePort": 53, "Type": "udp"},
    ]
    body = json.dumps([_container(Ports=ports)]).encode()
    server.on("GET /containers/json", reply(200, body))
    assert pannier("ps", "-a", "-f", "status=running") == 0
    head, line = capfd.readouterr().out.splitlines()
    assert head.split() == [
        "CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES",
    ]  # fmt: skip
    assert line.startswith('0123456789ab   debian:12   "sleep 1000000000000…"')
    assert "0.0.0.0:8080-8081->80-81/tcp, 53/udp" in line
    assert pannier("ps", "-q", "--no-trunc") == 0
    assert capfd.readouterr().out == "0123456789abcdef" * 4 + "\n"
    assert pannier("ps", "--format", "{{.Names}} {{.Kind}}") == 0
    assert capfd.readouterr().out == "web os\n"


def test_several_objects_go_on_after_a_failure(pannier, server: Server, capfd) -> None:
    server.on("DELETE /containers/a", reply(404, b'{"message":"No such container: a"}'))
    server.on("DELETE /containers/b", reply(204))
    assert pannier("rm", "a", "b") == 1
    assert capfd.readouterr() == ("b\n", "pannier: No such container: a\n")
    assert pannier("rm", "-f", "a") == 0


def test_stop_of_a_stopped_container_is_no_error(pannier, server: Server, capfd) -> None:
    server.on("POST /containers/a/stop", b"HTTP/1.1 304 Not Modified\r\n\r\n")
    assert pannier("stop", "-t", "3", "a") == 0
    assert server.requests[0].target.endswith("/stop?t=3")


def test_logs(pannier, server: Server, capfd) -> None:
    head = "Content-Type: application/vnd.docker.multiplexed-stream\r\n"
    body = frame(1, b"out\n") + frame(2, b"err\n")
    server.on("GET /containers/a/logs", reply(200, body, head))
    assert pannier("logs", "--tail", "2", "a") == 0
    assert capfd.readouterr() == ("out\n", "err\n")
    assert "tail=2" in server.requests[0].target
    assert pannier("logs", "--tail", "x", "a") == 1


def test_logs_of_a_terminal_are_raw(pannier, server: Server, capfd) -> None:
    head = "Content-Type: application/vnd.docker.raw-stream\r\n"
    server.on("GET /containers/a/logs", reply(200, b"raw\r\n", head))
    assert pannier("logs", "a") == 0
    assert capfd.readouterr().out == "raw\r\n"


def test_inspect(pannier, server: Server, capfd) -> None:
    server.on("GET /images/x/json", reply(200, b'{"Id":"sha256:1","Size":5}'))
    assert pannier("inspect", "-f", "{{.Size}}", "x") == 0
    assert capfd.readouterr().out == "5\n"
    assert pannier("inspect", "x", "y") == 1
    out, err = capfd.readouterr()
    assert json.loads(out) == [{"Id": "sha256:1", "Size": 5}]
    assert err == "pannier: No such object: y\n"
    assert pannier("container", "inspect", "x") == 1
    assert pannier("inspect", "--type", "nonsense", "x") == 1


def test_images(pannier, server: Server, capfd) -> None:
    images = [
        {"Id": "sha256:" + "1" * 64, "RepoTags": ["a:1", "b.io:5000/c:2"], "Created": 0, "Size": 5},
        {"Id": "sha256:" + "2" * 64, "RepoTags": [], "RepoDigests": [], "Created": 0, "Size": 5},
    ]
    server.on("GET /images/json", reply(200, json.dumps(images).encode()))
    assert pannier("images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}") == 0
    assert capfd.readouterr().out.splitlines() == [
        "a:1 111111111111", "b.io:5000/c:2 111111111111", "<none>:<none> 222222222222",
    ]  # fmt: skip
    assert pannier("images", "-q") == 0
    assert capfd.readouterr().out == "1" * 12 + "\n" + "2" * 12 + "\n"


def test_build(pannier, server: Server, tmp_path: Path, capfd) -> None:
    (tmp_path / "Dockerfile").write_text("FROM x\n")
    lines = b'{"stream":"Step 1/1 : FROM x\\n"}\r\n{"aux":{"ID":"sha256:abc"}}\r\n'
    server.on("POST /build", reply(200, lines))
    iid = tmp_path / "iid"
    words = ("-t", "a:1", "-t", "b", "--build-arg", "X=1", "--host-ca", "--iidfile", str(iid))
    assert pannier("build", *words, str(tmp_path)) == 0
    assert iid.read_text() == "sha256:abc"
    assert "Step 1/1 : FROM x" in capfd.readouterr().out
    target = server.requests[0].target
    assert "t=a%3A1&t=b" in target
    assert "hostca=1" in target
    assert "dockerfile=Dockerfile" in target
    assert pannier("build", "-q", str(tmp_path)) == 0
    assert capfd.readouterr().out == "sha256:abc\n"


def test_failing_build_step_ends_with_its_status(
    pannier, server: Server, tmp_path: Path, capfd
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM x\nRUN exit 9\n")
    server.on("POST /build", reply(200, b'{"error":"code: 9","errorDetail":{"code":9}}\n'))
    assert pannier("build", str(tmp_path)) == 9


def test_update_needs_a_flag(pannier, capfd) -> None:
    assert pannier("update", "x") == 1
    assert "must provide one or more flags" in capfd.readouterr().err


def test_prune_asks(pannier, server: Server, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert pannier("container", "prune") == 0
    assert server.requests == []
    answer = b'{"ContainersDeleted":["abc"],"SpaceReclaimed":1500}'
    server.on("POST /containers/prune", reply(200, answer))
    assert pannier("container", "prune", "-f") == 0
    assert "Total reclaimed space: 1.5kB" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["im"], ["image", "images", "import"]),
        (["network", "cr"], ["create"]),
        (["run", "--net"], ["--net", "--net-alias", "--network", "--network-alias"]),
        (["stop", "w"], ["web"]),
        (["run", "--network", "b"], ["bridge"]),
        (["build", "-f", ""], [":file"]),
        (["exec", "web", ""], [":file"]),
        (["compose", "-f", "x", "dow"], ["down"]),
    ],
)
def test_completion(words: list[str], found: list[str], pannier, server: Server, capfd) -> None:
    server.on("GET /containers/json", reply(200, json.dumps([_container()]).encode()))
    server.on("GET /networks", reply(200, b'[{"Name":"bridge"}]'))
    assert pannier("__complete", "--", *words) == 0
    assert capfd.readouterr().out.splitlines() == found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, capfd) -> None:
    assert run(["completion", shell]) == 0
    assert "pannier __complete" in capfd.readouterr().out
