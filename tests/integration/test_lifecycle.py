"""What a container goes through between create and rm, and every way to look at it meanwhile."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from engine_under_test import EngineUnderTest
from waiting import until

IMAGE = "debian:12"
SLEEP = ("sleep", "infinity")
CLI = "import sys; from pannier.cli.main import main; sys.argv[0] = 'pannier'; main()"
# Ends with 7 when it is asked to, within the grace period.
POLITE = ("sh", "-c", "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.02; done")
# Says that it heard, and stays.
RUDE = ("sh", "-c", "trap 'echo heard' TERM; echo ready; while :; do sleep 0.02; done")


def state(daemon: EngineUnderTest, name: str) -> dict:
    return daemon.inspect(name)["State"]


def status(daemon: EngineUnderTest, name: str) -> str:
    return state(daemon, name)["Status"]


def run_until_ready(daemon: EngineUnderTest, name: str, *words: str) -> None:
    """Run it in the background and wait for its first line of output."""
    daemon.cli("run", "-d", "--name", name, *words)
    until(lambda: "ready" in daemon.cli("logs", name), f"{name} is ready")


def start(daemon: EngineUnderTest, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", CLI, *words],
        env=daemon.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def ended(client: subprocess.Popen[bytes]) -> tuple[int, str]:
    out, _ = client.communicate(timeout=20)
    return client.returncode, out.decode()


def test_from_create_to_rm(daemon: EngineUnderTest) -> None:
    container = daemon.cli("create", "--name", "life", "--stop-signal", "KILL", IMAGE, *SLEEP)
    assert len(container) == 64
    assert status(daemon, "life") == "created"
    assert daemon.cli("start", "life") == "life"
    first = state(daemon, "life")
    assert (first["Status"], first["Running"]) == ("running", True)
    assert os.path.exists(f"/proc/{first['Pid']}")
    daemon.cli("restart", "life")
    second = state(daemon, "life")
    assert second["Pid"] != first["Pid"]
    assert second["StartedAt"] > first["StartedAt"]
    daemon.cli("stop", container[:12])
    assert status(daemon, "life") == "exited"
    daemon.cli("start", "life")
    daemon.cli("rename", "life", "new-life")
    assert daemon.inspect("new-life")["Id"] == container
    daemon.cli("rm", "-f", "new-life")
    assert daemon.cli("ps", "-aq") == ""


def test_stop_asks_then_kills(daemon: EngineUnderTest) -> None:
    run_until_ready(daemon, "polite", IMAGE, *POLITE)
    daemon.cli("stop", "polite")
    assert state(daemon, "polite")["ExitCode"] == 7
    assert daemon.cli("logs", "polite") == "ready\nbye"
    run_until_ready(daemon, "rude", IMAGE, *RUDE)
    began = time.monotonic()
    daemon.cli("stop", "-t", "1", "rude")
    assert 0.9 < time.monotonic() - began < 5
    assert state(daemon, "rude")["ExitCode"] == 137
    assert daemon.cli("logs", "rude") == "ready\nheard"


def test_stop_signal_and_timeout_of_its_own(daemon: EngineUnderTest) -> None:
    script = "trap 'exit 3' USR1; echo ready; while :; do sleep 0.02; done"
    run_until_ready(daemon, "usr1", "--stop-signal", "USR1", IMAGE, "sh", "-c", script)
    daemon.cli("stop", "usr1")
    assert state(daemon, "usr1")["ExitCode"] == 3
    run_until_ready(daemon, "short", "--stop-timeout", "0", IMAGE, *RUDE)
    began = time.monotonic()
    daemon.cli("stop", "short")
    assert time.monotonic() - began < 3
    assert state(daemon, "short")["ExitCode"] == 137


def test_signals_and_exit_codes(daemon: EngineUnderTest) -> None:
    for code in (0, 1, 42, 255):
        words = ("run", "--rm", IMAGE, "sh", "-c", f"exit {code}")
        assert daemon.cli_try(*words).code == code
    run_until_ready(daemon, "sig", IMAGE, *POLITE)
    daemon.cli("kill", "--signal", "TERM", "sig")
    assert daemon.cli("wait", "sig") == "7"
    # PID 1 of a namespace has no default actions: --init stands in for it.
    daemon.cli("run", "-d", "--name", "init", "--init", IMAGE, *SLEEP)
    daemon.cli("kill", "-s", "15", "init")
    assert daemon.cli("wait", "init") == "143"


def test_pause_freezes_and_unpause_goes_on(daemon: EngineUnderTest) -> None:
    script = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.01; done"
    daemon.cli("run", "-d", "--name", "count", IMAGE, "sh", "-c", script)
    until(lambda: daemon.cli("logs", "count"), "it counts")
    daemon.cli("pause", "count")
    assert status(daemon, "count") == "paused"
    assert "Paused" in daemon.cli("ps", "--format", "{{.Status}}")
    frozen = daemon.cli("logs", "count")
    cpu = state(daemon, "count")["Pid"]
    with open(f"/proc/{cpu}/stat") as file:
        before = file.read().split()[13:15]
    assert daemon.cli("logs", "count") == frozen
    with open(f"/proc/{cpu}/stat") as file:
        assert file.read().split()[13:15] == before
    daemon.cli("unpause", "count")
    until(lambda: daemon.cli("logs", "count") != frozen, "it goes on")
    daemon.cli("pause", "count")
    daemon.cli("stop", "-t", "0", "count")
    assert state(daemon, "count")["ExitCode"] == 137


def test_wait(daemon: EngineUnderTest) -> None:
    run_until_ready(daemon, "one", IMAGE, *POLITE)
    waiting = start(daemon, "wait", "one")
    assert waiting.poll() is None
    daemon.cli("stop", "one")
    assert ended(waiting) == (0, "7\n")
    assert daemon.cli("wait", "one") == "7"


def test_rm(daemon: EngineUnderTest) -> None:
    daemon.cli("run", "-d", "--name", "up", IMAGE, *SLEEP)
    assert daemon.cli_try("rm", "up").code == 1
    daemon.cli("rm", "-f", "up")
    assert daemon.cli("run", "--rm", "--name", "up", IMAGE, "echo", "x") == "x"
    assert daemon.cli("ps", "-aq") == ""
    daemon.cli("run", "-d", "--rm", "--name", "up", "--stop-signal", "KILL", IMAGE, *SLEEP)
    daemon.cli("stop", "up")
    until(lambda: daemon.cli("ps", "-aq") == "", "--rm has removed it")


def test_logs(daemon: EngineUnderTest) -> None:
    script = "echo one; echo two >&2; sleep 0.05; printf three; sleep 0.02; echo four"
    daemon.cli("run", "--name", "writer", IMAGE, "sh", "-c", script)
    done = daemon.cli_try("logs", "writer")
    assert (done.out, done.err) == ("one\nthreefour\n", "two\n")
    script = "echo one; printf three; sleep 0.02; echo four"
    daemon.cli("run", "--name", "plain", IMAGE, "sh", "-c", script)
    assert daemon.cli("logs", "--tail", "1", "plain") == "threefour"
    assert daemon.cli("logs", "--tail", "0", "plain") == ""
    stamp = daemon.cli("logs", "-t", "writer").splitlines()[-1].split()[0]
    assert stamp.startswith("20")
    assert daemon.cli("logs", "--since", stamp, "writer").endswith("four")
    assert "one" not in daemon.cli("logs", "--since", stamp, "writer")
    assert daemon.cli("logs", "--since", "1h", "--until", "30m", "writer") == ""


def test_logs_follow_to_the_end(daemon: EngineUnderTest) -> None:
    script = "echo begin; read line; echo got $line; exit 3"
    daemon.cli("run", "-di", "--name", "f", IMAGE, "sh", "-c", script)
    follower = start(daemon, "logs", "-f", "f")
    late = start(daemon, "logs", "-f", "--tail", "0", "f")
    assert follower.stdout is not None
    assert follower.stdout.readline() == b"begin\n"
    writer = start(daemon, "attach", "f")
    assert writer.stdin is not None
    writer.stdin.write(b"it\n")
    writer.stdin.flush()
    assert ended(writer)[0] == 3
    assert ended(follower) == (0, "got it\n")
    assert ended(late)[0] == 0


def test_all_of_much_output_arrives(daemon: EngineUnderTest) -> None:
    """Across rotations too, attached and afterwards; nothing twice."""
    words = (IMAGE, "seq", "1", "200000")
    expected = "".join(f"{n}\n" for n in range(1, 200001))
    assert daemon.cli_try("run", "--name", "big", *words).out == expected
    assert daemon.cli_try("logs", "big").out == expected
    options = ("--log-opt", "max-size=200k", "--log-opt", "max-file=2")
    assert daemon.cli_try("run", "--rm", *options, *words).out == expected
    assert daemon.cli_try("run", "--name", "rotated", *options, *words).out == expected
    kept = daemon.cli_try("logs", "rotated").out
    assert 0 < len(kept) < 500_000
    assert expected.endswith(kept)
    directory = Path(daemon.inspect("rotated")["LogPath"]).parent
    files = sorted(path.name for path in directory.glob("container.log*"))
    assert files == ["container.log", "container.log.1"]


def test_attach_carries_input_and_exit_code(daemon: EngineUnderTest) -> None:
    done = daemon.cli_try("run", "-i", "--rm", IMAGE, "sh", "-c", "cat; exit 5", stdin=b"a\0b\n")
    assert (done.code, done.out) == (5, "a\0b\n")
    big = os.urandom(3 << 20)
    done_bytes = subprocess.run(
        [sys.executable, "-c", CLI, "run", "-i", "--rm", IMAGE, "cat"],
        env=daemon.environment,
        input=big,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done_bytes.stdout == big
    daemon.cli("create", "-i", "--name", "later", IMAGE, "cat")
    assert daemon.cli("start", "-ai", "later", stdin=b"hello") == "hello"


class Terminal:
    """A command of ours at a pty, as a person has it."""

    def __init__(self, daemon: EngineUnderTest, *words: str) -> None:
        self._master, slave = pty.openpty()
        os.set_blocking(self._master, False)
        self._client = subprocess.Popen(
            [sys.executable, "-c", CLI, *words],
            env=daemon.environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.shown = ""

    def expect(self, text: str) -> None:
        until(lambda: self.has(text), f"{text!r} in {self.shown!r}")

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self) -> int:
        code = self._client.wait(15)
        self.has("")
        os.close(self._master)
        return code

    def has(self, text: str) -> bool:
        try:
            while data := os.read(self._master, 65536):
                self.shown += data.decode(errors="replace")
        except (BlockingIOError, OSError):
            pass
        return text in self.shown


def test_a_terminal(daemon: EngineUnderTest) -> None:
    shell = Terminal(daemon, "run", "-it", "--name", "term", IMAGE, "bash", "--norc")
    shell.type("tty; stty -echo; echo size $(stty size)\n")
    shell.expect("/dev/pts/0")
    shell.expect("size ")
    shell.type("exit 9\n")
    assert shell.end() == 9
    assert "size" in daemon.cli("logs", "term")


def test_detach_and_attach_again(daemon: EngineUnderTest) -> None:
    shell = Terminal(daemon, "run", "-it", "--name", "term", IMAGE, "bash", "--norc")
    shell.expect("# ")  # the client's own terminal is raw by now, and ^Q goes through it
    shell.type("X=kept\n")
    shell.type("\x10\x11")
    assert shell.end() == 0
    assert status(daemon, "term") == "running"
    again = Terminal(daemon, "attach", "term")

    def prompted() -> bool:
        again.type("\n")  # what comes before the client's terminal is raw is thrown away
        return again.has("# ")

    until(prompted, "a prompt")
    again.type("echo it is $X\n")
    again.expect("it is kept")
    again.type("exit 4\n")
    assert again.end() == 4


def test_exec(daemon: EngineUnderTest) -> None:
    daemon.cli("run", "-d", "--name", "host", "-e", "A=1", "-w", "/srv", IMAGE, *SLEEP)
    for code in (0, 3, 200):
        for _ in range(5):
            assert daemon.cli_try("exec", "host", "sh", "-c", f"exit {code}").code == code
    script = "echo $A-$B; pwd; echo err >&2"
    done = daemon.cli_try("exec", "-e", "B=2", "host", "sh", "-c", script)
    assert (done.out, done.err) == ("1-2\n/srv\n", "err\n")
    assert daemon.cli("exec", "-i", "host", "cat", stdin=b"in") == "in"
    assert daemon.cli("exec", "-w", "/etc", "-u", "daemon", "host", "sh", "-c", "pwd; id -un") == (
        "/etc\ndaemon"
    )
    daemon.cli("exec", "-d", "host", "touch", "/made")
    until(lambda: daemon.cli_try("exec", "host", "test", "-e", "/made").code == 0, "it ran")
    shell = Terminal(daemon, "exec", "-it", "host", "bash", "--norc")
    shell.type("tty; exit 6\n")
    shell.expect("/dev/pts/")
    assert shell.end() == 6


def test_exec_ends_with_its_container(daemon: EngineUnderTest) -> None:
    daemon.cli("run", "-d", "--name", "host", IMAGE, *SLEEP)
    client = start(daemon, "exec", "host", "sh", "-c", "echo on; sleep 100")
    assert client.stdout is not None
    assert client.stdout.readline() == b"on\n"
    daemon.cli("kill", "host")
    assert ended(client)[0] == 137


def test_top_port_and_inspect(daemon: EngineUnderTest) -> None:
    words = ("-p", "127.0.0.1::80", "-l", "a=b", "--hostname", "seen", IMAGE, *SLEEP)
    container = daemon.cli("run", "-d", "--name", "seen", *words)
    assert "sleep infinity" in daemon.cli("top", "seen")
    assert daemon.cli("port", "seen").startswith("80/tcp -> 127.0.0.1:")
    seen = daemon.inspect("seen")
    assert seen["Id"] == container
    assert (seen["Path"], seen["Args"]) == ("sleep", ["infinity"])
    assert seen["Config"]["Labels"]["a"] == "b"
    assert seen["Config"]["Hostname"] == "seen"
    assert daemon.cli("inspect", "-f", "{{.State.Status}}", "seen") == "running"
    assert daemon.cli("ps", "-q", "--no-trunc", "-f", "label=a=b") == container
    assert daemon.cli("ps", "-q", "-f", "label=a=c") == ""


def test_diff_commit_and_history(daemon: EngineUnderTest) -> None:
    script = "echo x > /new; rm /etc/debian_version; echo y >> /etc/issue; chmod 700 /srv"
    daemon.cli("run", "--name", "changed", IMAGE, "sh", "-c", script)
    changes = set(daemon.cli("diff", "changed").splitlines())
    assert {"A /new", "D /etc/debian_version", "C /etc/issue", "C /etc", "C /srv"} <= changes
    assert not [line for line in changes if "/dev" in line or "/proc" in line]
    daemon.cli("commit", "-c", 'CMD ["cat", "/new"]', "-m", "why", "changed", "committed:1")
    try:
        assert daemon.cli("run", "--rm", "committed:1") == "x"
        assert daemon.cli("run", "--rm", "committed:1", "stat", "-c", "%a", "/srv") == "700"
        gone = daemon.cli_try("run", "--rm", "committed:1", "cat", "/etc/debian_version")
        assert gone.code == 1
        assert "why" in daemon.cli("history", "committed:1")
    finally:
        daemon.cli("rmi", "-f", "committed:1")


def test_export_save_and_load(daemon: EngineUnderTest, tmp_path: Path) -> None:
    daemon.cli("run", "--name", "changed", IMAGE, "sh", "-c", "echo x > /new")
    daemon.cli("export", "-o", str(tmp_path / "root.tar"), "changed")
    with tarfile.open(tmp_path / "root.tar") as tar:
        member = tar.extractfile("new")
        assert member is not None
        assert member.read() == b"x\n"
        assert tar.getmember("etc/passwd").uid == 0
    daemon.cli("commit", "changed", "saved:1")
    daemon.cli("save", "-o", str(tmp_path / "image.tar"), "saved:1")
    image = json.loads(daemon.cli("image", "inspect", "saved:1"))[0]["Id"]
    daemon.cli("rm", "changed")
    daemon.cli("rmi", "saved:1")
    assert "saved:1" in daemon.cli("load", "-i", str(tmp_path / "image.tar"))
    assert json.loads(daemon.cli("image", "inspect", "saved:1"))[0]["Id"] == image
    assert daemon.cli("run", "--rm", "saved:1", "cat", "/new") == "x"
    daemon.cli("rmi", "saved:1")


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_cp_both_ways(daemon: EngineUnderTest, tmp_path: Path, running: bool) -> None:
    if running:
        daemon.cli("run", "-d", "--name", "box", "-v", "/vol", IMAGE, *SLEEP)
    else:
        daemon.cli("run", "--name", "box", "-v", "/vol", IMAGE, "true")
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/file").write_text("content")
    (tree / "link").symlink_to("sub/file")
    daemon.cli("cp", str(tree), "box:/srv")
    daemon.cli("cp", f"{tree}/.", "box:/vol")
    for place in ("/srv/tree", "/vol"):
        out = tmp_path / place.replace("/", "_")
        daemon.cli("cp", f"box:{place}", str(out))
        assert (out / "sub/file").read_text() == "content"
        assert os.readlink(out / "link") == "sub/file"
    daemon.cli("cp", str(tree / "sub/file"), "box:/srv/renamed")
    data = subprocess.run(
        [sys.executable, "-c", CLI, "cp", "box:/srv/renamed", "-"],
        env=daemon.environment,
        capture_output=True,
        check=True,
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == ["renamed"]
    if running:
        assert daemon.cli("exec", "box", "stat", "-c", "%u", "/srv/renamed") == "0"
    for words in (("box:/no/such", "."), (str(tmp_path / "nosuch"), "box:/")):
        done = daemon.cli_try("cp", *words, cwd=tmp_path)
        assert done.code == 1
        assert "nosuch" in done.err or "/no/such" in done.err


def test_cp_stays_inside(daemon: EngineUnderTest, tmp_path: Path) -> None:
    """CVE-2018-15664, CVE-2019-14271: links in the container lead nowhere else."""
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    up = "/.." * 12
    script = f"""
        ln -s {tmp_path} /srv/absolute; ln -s {up}{tmp_path} /srv/upwards
        ln -s /proc/1/root/{tmp_path} /srv/proc; ln -s {secret} /srv/file; sleep infinity
    """
    daemon.cli("run", "-d", "--name", "evil", IMAGE, "sh", "-c", script)
    until(lambda: daemon.cli_try("exec", "evil", "test", "-h", "/srv/file").code == 0, "the links")
    for place in ("/srv/absolute/secret", "/srv/upwards/secret", "/srv/proc/secret"):
        assert daemon.cli_try("cp", f"evil:{place}", str(tmp_path / "out")).code == 1
    daemon.cli_try("cp", "-L", "evil:/srv/file", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    (tmp_path / "mine").write_text("new")
    for place in ("/srv/absolute/planted", "/srv/upwards/planted", "/srv/absolute/"):
        daemon.cli_try("cp", str(tmp_path / "mine"), f"evil:{place}")
    daemon.cli_try("cp", str(tmp_path / "mine"), "evil:/srv/file")
    assert secret.read_text() == "of the host"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "secret"]


def test_a_hostile_archive_stays_inside(daemon: EngineUnderTest, tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        tar.addfile(link)
        for name in ("out/planted", f"../../../../../../..{tmp_path}/planted", "/planted"):
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
    daemon.cli("run", "-d", "--name", "box", IMAGE, *SLEEP)
    daemon.cli_try("cp", "-", "box:/srv", stdin=out.getvalue())
    assert list(tmp_path.iterdir()) == []
    assert not Path("/planted").exists()


def test_events(daemon: EngineUnderTest) -> None:
    began = f"{time.time():.6f}"
    live = start(daemon, "events", "--filter", "type=container", "--format", "{{.Action}}")
    daemon.cli("run", "--name", "told", IMAGE, "true")
    daemon.cli("rm", "told")
    assert live.stdout is not None
    expected = ["create", "attach", "start", "die", "destroy"]
    listed = daemon.cli(
        "events",
        "--since",
        began,
        "--until",
        "0s",
        "-f",
        "container=told",
        "--format",
        "{{.Action}}",
    ).splitlines()
    assert [action for action in listed if action != "attach"] == [
        action for action in expected if action != "attach"
    ]
    seen: list[str] = []
    while "destroy" not in seen:
        seen.append(live.stdout.readline().decode().strip())
    live.kill()
    live.communicate()


def test_df_and_prune(daemon: EngineUnderTest) -> None:
    daemon.cli("run", "--name", "fat", IMAGE, "sh", "-c", "head -c 3M /dev/zero > /fat")
    daemon.cli("run", "-d", "--name", "stays", IMAGE, *SLEEP)
    kinds = daemon.cli("system", "df").splitlines()
    assert [line.split()[0] for line in kinds[1:]] == ["Images", "Containers", "Local", "Build"]
    assert "3.1" in kinds[2]
    assert daemon.cli("ps", "-s", "-a", "-f", "name=fat", "--format", "{{.Size}}").startswith("3.1")
    out = daemon.cli("container", "prune", "-f")
    assert "Total reclaimed space: 3.1" in out
    assert daemon.cli("ps", "-a", "--format", "{{.Names}}") == "stays"


def test_restart_policies(daemon: EngineUnderTest) -> None:
    words = (IMAGE, "sh", "-c", "exit 3")
    daemon.cli("run", "-d", "--name", "twice", "--restart", "on-failure:2", *words)
    until(lambda: daemon.inspect("twice")["RestartCount"] == 2, "two restarts")
    until(lambda: status(daemon, "twice") == "exited", "and no third")
    assert state(daemon, "twice")["ExitCode"] == 3
    daemon.cli("run", "-d", "--name", "well", "--restart", "on-failure", IMAGE, "true")
    daemon.cli("wait", "well")
    assert (status(daemon, "well"), daemon.inspect("well")["RestartCount"]) == ("exited", 0)
    for policy in ("always", "unless-stopped"):
        daemon.cli("run", "-d", "--name", policy, "--restart", policy, IMAGE, *SLEEP)
        first = state(daemon, policy)["Pid"]
        os.kill(first, 9)
        until(lambda: state(daemon, policy)["Pid"] not in (0, first), f"{policy} is up again")  # noqa: B023
        assert daemon.inspect(policy)["RestartCount"] == 1
        daemon.cli("stop", "-t", "0", policy)
        assert status(daemon, policy) == "exited"


def test_a_restart_can_be_ended(daemon: EngineUnderTest) -> None:
    daemon.cli("run", "-d", "--name", "loop", "--restart", "always", IMAGE, "false")
    until(lambda: daemon.inspect("loop")["RestartCount"] > 2, "it loops")
    daemon.cli("stop", "-t", "0", "loop")
    count = daemon.inspect("loop")["RestartCount"]
    assert status(daemon, "loop") == "exited"
    daemon.cli("update", "--restart", "no", "loop")
    assert daemon.inspect("loop")["RestartCount"] == count
    daemon.cli("run", "-d", "--name", "loop2", "--restart", "always", IMAGE, "false")
    until(lambda: daemon.inspect("loop2")["RestartCount"] > 2, "it loops")
    daemon.cli("rm", "-f", "loop2")


def test_health(daemon: EngineUnderTest) -> None:
    options = ("--health-interval", "50ms", "--health-retries", "2", "--health-timeout", "1s")
    check = ("--health-cmd", "echo checked; test -e /tmp/well")
    daemon.cli("run", "-d", "--name", "ill", *check, *options, IMAGE, *SLEEP)
    assert state(daemon, "ill")["Health"]["Status"] in {"starting", "unhealthy"}
    until(lambda: state(daemon, "ill")["Health"]["Status"] == "unhealthy", "unhealthy")
    assert "(unhealthy)" in daemon.cli("ps", "--format", "{{.Status}}")
    daemon.cli("exec", "ill", "touch", "/tmp/well")
    until(lambda: state(daemon, "ill")["Health"]["Status"] == "healthy", "healthy")
    last = state(daemon, "ill")["Health"]["Log"][-1]
    assert (last["ExitCode"], last["Output"]) == (0, "checked\n")
    hang = ("--health-cmd", "sleep 100", "--health-timeout", "50ms")
    daemon.cli("run", "-d", "--name", "hang", *options, *hang, IMAGE, *SLEEP)
    until(lambda: state(daemon, "hang")["Health"]["Status"] == "unhealthy", "a check that hangs")


def test_update_to_another_image_rollback_and_undo(daemon: EngineUnderTest) -> None:
    for number in (1, 2):
        daemon.cli("run", "--name", "maker", IMAGE, "sh", "-c", f"echo {number} > /version")
        daemon.cli("commit", "-c", 'CMD ["sleep", "infinity"]', "maker", f"app:{number}")
        daemon.cli("rm", "maker")
    options = ("-p", "127.0.0.1::80", "-v", "/data", "--stop-signal", "KILL")
    container = daemon.cli("run", "-d", "--name", "app", *options, "app:1")
    daemon.cli("exec", "app", "sh", "-c", "echo kept > /data/f; echo lost > /own")
    address = daemon.inspect("app")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]

    def facts() -> tuple[str, str]:
        seen = daemon.inspect("app")
        assert seen["Id"] == container
        assert seen["State"]["Running"] is True
        assert seen["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] == address
        assert daemon.cli("exec", "app", "cat", "/data/f") == "kept"
        own = daemon.cli_try("exec", "app", "cat", "/own").out.strip()
        return daemon.cli("exec", "app", "cat", "/version"), own

    try:
        assert facts() == ("1", "lost")
        daemon.cli("update", "--image", "app:2", "app")
        assert facts() == ("2", "")
        daemon.cli("rollback", "app")
        assert facts()[0] == "1"
        daemon.cli("rollback", "--undo", "app")
        assert facts()[0] == "2"
    finally:
        daemon.cli("rm", "-f", "-v", "app")
        daemon.cli("rmi", "-f", "app:1", "app:2")


def test_rollback_with_nothing_to_go_back_to(daemon: EngineUnderTest) -> None:
    daemon.cli("create", "--name", "only", IMAGE)
    done = daemon.cli_try("rollback", "only")
    assert done.code == 1
    assert "previous" in done.err
    assert daemon.cli_try("rollback", "--undo", "only").code == 1


def test_many_at_once(daemon: EngineUnderTest) -> None:
    clients = [start(daemon, "run", "--rm", IMAGE, "echo", str(n)) for n in range(12)]
    assert sorted(int(ended(client)[1]) for client in clients) == list(range(12))
    until(lambda: daemon.cli("ps", "-aq") == "", "all are gone")
