"""``pannier build`` through the whole engine: real containers for RUN, images that run."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from engine_under_test import EngineUnderTest

CLI = "import sys; from pannier.cli.main import main; sys.argv[0] = 'pannier'; main()"


def write(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def image(daemon: EngineUnderTest, name: str) -> dict:
    return json.loads(daemon.cli("image", "inspect", name))[0]


def run(daemon: EngineUnderTest, *words: str) -> str:
    return daemon.cli("run", "--rm", *words)


APP = {
    "Dockerfile": """\
FROM debian:12 AS tools
RUN mkdir /opt/tools && printf '#!/bin/sh\\necho tool "$@"\\n' > /opt/tools/tool \\
    && chmod 755 /opt/tools/tool
FROM debian:12
ARG WHO=nobody
ENV GREETING="hello $WHO"
RUN useradd --uid 1234 app && echo "made for $WHO" > /made
WORKDIR /srv/app
COPY --chown=app:app . ./
COPY --from=tools /opt/tools/ /usr/local/bin/
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN false | true || echo pipefail > /shell
USER app
RUN id -un > /tmp/who && pwd > /tmp/where
EXPOSE 8000
HEALTHCHECK --interval=5s CMD true
STOPSIGNAL SIGINT
ENTRYPOINT ["/usr/local/bin/tool"]
CMD ["a", "b"]
""",
    ".dockerignore": "secret\nDockerfile\n",
    "secret": "no",
    "site/index.html": "page",
}


def test_image_that_is_built_runs(daemon: EngineUnderTest, tmp_path: Path) -> None:
    write(tmp_path, APP)
    out = daemon.cli("build", "-t", "app:1", "--build-arg", "WHO=me", str(tmp_path))
    assert "Successfully tagged app:1" in out
    assert run(daemon, "app:1") == "tool a b"
    shell = ("--entrypoint", "/bin/sh", "app:1", "-c")
    assert run(daemon, *shell, "cat /made /shell /tmp/who /tmp/where").split("\n") == [
        "made for me",
        "pipefail",
        "app",
        "/srv/app",
    ]
    listing = run(daemon, *shell, 'echo "$GREETING"; ls; stat -c %U site/index.html')
    assert listing.split() == ["hello", "me", "site", "app"]
    config = image(daemon, "app:1")["Config"]
    assert config["StopSignal"] == "SIGINT"
    assert list(config["ExposedPorts"]) == ["8000/tcp"]
    assert "HOSTNAME" not in " ".join(config["Env"])


def test_traces_of_building_are_not_in_the_image(daemon: EngineUnderTest, tmp_path: Path) -> None:
    write(
        tmp_path, {"Dockerfile": "FROM debian:12\nRUN cat /etc/hosts /etc/resolv.conf\nRUN true\n"}
    )
    daemon.cli("build", "-t", "clean", "--host-ca", str(tmp_path))
    built = image(daemon, "clean")
    assert built["RootFS"]["Layers"] == image(daemon, "debian:12")["RootFS"]["Layers"]
    assert not [entry for entry in built["Config"]["Env"] if "CERT" in entry or "CA" in entry]


def test_host_ca_is_there_while_a_step_runs(daemon: EngineUnderTest, tmp_path: Path) -> None:
    check = 'RUN test -s "$SSL_CERT_FILE" && test "$PIP_CERT" = /run/pannier/ca.crt\n'
    write(tmp_path, {"Dockerfile": "FROM debian:12\n" + check})
    daemon.cli("build", "--host-ca", str(tmp_path))
    write(tmp_path, {"Dockerfile": 'FROM debian:12\nRUN test -z "$SSL_CERT_FILE"\n'})
    daemon.cli("build", str(tmp_path))


def test_second_build_uses_the_cache(daemon: EngineUnderTest, tmp_path: Path) -> None:
    steps = "".join(f"RUN echo {number} > /file{number}\n" for number in range(8))
    write(tmp_path, {"Dockerfile": f"FROM debian:12\n{steps}CMD true\n"})
    daemon.cli("build", "-t", "ten", str(tmp_path))
    first = image(daemon, "ten")["Id"]
    out = daemon.cli("build", "-t", "ten", str(tmp_path))
    assert out.count("Using cache") == 9
    assert image(daemon, "ten")["Id"] == first


def test_failing_run_shows_output_and_code(daemon: EngineUnderTest, tmp_path: Path) -> None:
    text = (
        "FROM debian:12\nRUN echo kept > /kept\nRUN echo to stdout; echo to stderr >&2; exit 42\n"
    )
    write(tmp_path, {"Dockerfile": text})
    done = daemon.cli_try("build", str(tmp_path))
    assert done.code != 0
    assert "to stdout" in done.out
    assert "to stderr" in done.out
    assert "returned a non-zero code: 42" in done.err
    assert daemon.cli_try("build", str(tmp_path)).out.count("Using cache") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM debian:12\nRUNN x\n", "Dockerfile:2: unknown instruction: RUNN"),
        ("FROM debian:12\nCOPY nothing /\n", "nothing: file not found in build context"),
        ("FROM debian:12\nRUN --mount=type=cache,target=/x y\n", "RUN --mount is not supported"),
        ('FROM debian:12\nRUN ["/no/such/program"]\n', "returned a non-zero code: 127"),
    ],
)
def test_mistakes_are_told(
    daemon: EngineUnderTest, tmp_path: Path, text: str, message: str
) -> None:
    write(tmp_path, {"Dockerfile": text})
    done = daemon.cli_try("build", str(tmp_path))
    assert done.code != 0
    assert message in done.err + done.out


def test_network_none(daemon: EngineUnderTest, tmp_path: Path) -> None:
    step = 'RUN test "$(ls /sys/class/net)" = lo\n'
    write(tmp_path, {"Dockerfile": f"FROM debian:12\n{step}"})
    daemon.cli("build", "--network", "none", str(tmp_path))
    write(tmp_path, {"Dockerfile": f"FROM debian:12\n{step.replace('RUN', 'RUN --network=none')}"})
    daemon.cli("build", str(tmp_path))


@pytest.mark.skipif(shutil.which("docker") is None, reason="no docker client")
def test_stock_client_builds(daemon: EngineUnderTest, tmp_path: Path) -> None:
    text = "FROM debian:12\nARG A\nCOPY . /ctx/\nRUN echo running $A\nCMD cat /ctx/file\n"
    write(tmp_path, {"Dockerfile": text, "file": "from docker", ".dockerignore": "drop\n"})
    write(tmp_path, {"drop": "x"})
    (tmp_path / "link").symlink_to("file")
    done = subprocess.run(
        ["docker", "build", "-t", "stock:1", "--build-arg", "A=args", str(tmp_path)],
        env={**daemon.environment, "DOCKER_BUILDKIT": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "running args\n" in done.stdout
    assert "Successfully tagged stock:1" in done.stdout
    assert run(daemon, "stock:1") == "from docker"
    assert run(daemon, "stock:1", "ls", "-A", "/ctx").split() == [
        ".dockerignore",
        "Dockerfile",
        "file",
        "link",
    ]


def _build_in_background(daemon: EngineUnderTest, directory: Path) -> subprocess.Popen[bytes]:
    """A build whose step has begun to run."""
    client = subprocess.Popen(
        [sys.executable, "-u", "-c", CLI, "build", str(directory)],
        env=daemon.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert client.stdout is not None
    for line in client.stdout:
        if b"begun" in line and b"Step" not in line:
            assert daemon.cli("ps", "-q"), "the step's container is not to be seen"
            return client
    raise AssertionError("the build ended early")


def _wait_for_no_containers(daemon: EngineUnderTest) -> None:
    deadline = time.monotonic() + 15
    while daemon.cli("ps", "-aq"):
        assert time.monotonic() < deadline, "the step's container is still there"
        time.sleep(0.1)


def test_client_that_goes_away_ends_the_build(daemon: EngineUnderTest, tmp_path: Path) -> None:
    write(tmp_path, {"Dockerfile": "FROM debian:12\nRUN echo begun; sleep 300\n"})
    client = _build_in_background(daemon, tmp_path)
    client.send_signal(signal.SIGKILL)
    client.wait()
    _wait_for_no_containers(daemon)


def test_daemon_killed_during_a_build_leaves_nothing(
    daemon: EngineUnderTest, tmp_path: Path
) -> None:
    write(tmp_path, {"Dockerfile": "FROM debian:12\nRUN echo begun; sleep 300\n"})
    client = _build_in_background(daemon, tmp_path)
    daemon.kill9()
    assert client.wait(30) != 0
    daemon.start()
    _wait_for_no_containers(daemon)
    scratch = daemon.instance.tmp
    left = [p for p in scratch.rglob("*") if p.name != "images" and "trash-" not in str(p)]
    assert left == []
