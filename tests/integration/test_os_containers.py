"""OS containers: Debian with systemd as a light virtual machine, as its user meets it."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from engine_under_test import EngineUnderTest

from pannier.kernel import process

IMAGE = "debian:12-os"

T = TypeVar("T")


@pytest.fixture
def machine(os_image: None, daemon: EngineUnderTest) -> EngineUnderTest:
    """An engine in which ``web1`` has booted."""
    daemon.cli("boot", IMAGE, "web1")
    return daemon


@pytest.fixture(scope="module")
def os_image(module_daemon: EngineUnderTest, base_archive: Path) -> None:
    """``debian:12-os``, bootstrapped once for this machine and then loaded."""
    archive = base_archive.with_name("debian-12-os.tar")
    if archive.exists():
        module_daemon.cli("load", "--input", str(archive))
        return
    module_daemon.cli("image", "bootstrap", "debian:12", "--init", "systemd", timeout=600)
    fresh = archive.with_suffix(".new")
    module_daemon.cli("save", "--output", str(fresh), IMAGE)
    fresh.rename(archive)


def wait_for(get: Callable[[], T], good: Callable[[T], object], seconds: float = 30) -> T:
    """Ask until the answer is good."""
    end = time.monotonic() + seconds
    while not good(value := get()):
        assert time.monotonic() < end, value
        time.sleep(0.05)
    return value


def system_state(daemon: EngineUnderTest, name: str = "web1") -> str:
    """What systemd says once it has come up; at first there is nobody to ask."""

    def ask() -> str:
        done = daemon.cli_try("exec", name, "systemctl", "is-system-running", "--wait")
        return done.out.strip()

    return wait_for(ask, lambda answer: answer not in {"", "offline"})


def failed_units(daemon: EngineUnderTest, name: str = "web1") -> str:
    return daemon.cli("exec", name, "systemctl", "--failed", "--plain", "--no-legend")


class Terminal:
    """A ``pannier`` command on a terminal, typed at as by a person."""

    def __init__(self, daemon: EngineUnderTest, *words: str) -> None:
        self.main, other = pty.openpty()
        cli = "import sys; from pannier.cli.main import main; sys.argv[0] = 'pannier'; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", cli, *words],
            env={**daemon.environment, "TERM": "dumb"},
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)
        self.shown = ""

    def until(self, text: str, seconds: float = 30) -> str:
        """Read until *text* is shown; returns all up to it."""
        end = time.monotonic() + seconds
        while text not in self.shown:
            readable, _, _ = select.select([self.main], [], [], max(0.0, end - time.monotonic()))
            assert readable, f"no {text!r} in {self.shown!r}"
            self.shown += os.read(self.main, 65536).decode(errors="replace")
        before, _, self.shown = self.shown.partition(text)
        return before

    def type(self, text: str) -> None:
        os.write(self.main, text.encode())

    def end(self) -> int:
        code = self.process.wait(20)
        os.close(self.main)
        return code


@pytest.fixture
def terminal(machine: EngineUnderTest) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def make(*words: str) -> Terminal:
        opened.append(Terminal(machine, *words))
        return opened[-1]

    yield make
    for each in opened:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()


def test_the_image_is_one_layer_on_its_base(machine: EngineUnderTest) -> None:
    base, image = json.loads(machine.cli("image", "inspect", "debian:12", IMAGE))
    assert image["RootFS"]["Layers"][:-1] == base["RootFS"]["Layers"]
    assert image["Config"]["Labels"]["io.pannier.kind"] == "os"
    assert image["Config"]["StopSignal"] == "SIGRTMIN+3"


def test_boots_to_running_without_privileges(machine: EngineUnderTest) -> None:
    assert system_state(machine) == "running"
    assert failed_units(machine) == ""
    assert machine.cli("exec", "web1", "cat", "/proc/1/comm") == "systemd"
    assert machine.cli("exec", "web1", "hostname") == "web1"
    facts = machine.inspect("web1")
    assert facts["HostConfig"]["Runtime"] == "os"
    first = facts["Pannier"]["FirstHostId"]
    assert machine.cli("exec", "web1", "cat", "/proc/self/uid_map").split() == [
        "0", str(first), "65536",
    ]  # fmt: skip
    assert os.stat(f"/proc/{facts['State']['Pid']}").st_uid == first
    shown = machine.cli("boot", IMAGE, "web2")
    assert shown.startswith("web2 running at 172."), shown
    assert machine.inspect("web2")["Pannier"]["FirstHostId"] != first


def test_a_service_may_be_sandboxed_by_systemd(machine: EngineUnderTest) -> None:
    """Namespaces within namespaces, users out of nothing."""
    options = ("-p", "DynamicUser=yes", "-p", "PrivateTmp=yes", "-p", "ProtectSystem=strict")
    shown = machine.cli("exec", "web1", "systemd-run", "--wait", "--pipe", *options, "id", "-u")
    assert 61184 <= int(shown) <= 65519  # systemd.exec(5), DynamicUser=


def test_console(machine: EngineUnderTest, terminal: Callable[..., Terminal]) -> None:
    machine.cli("exec", "web1", "sh", "-c", "echo root:secret | chpasswd")
    wait_for(lambda: machine.cli("logs", "--tail", "1", "web1"), lambda out: "login:" in out)
    console = terminal("console", "web1")
    console.until("web1 login: ")  # written before we came
    console.type("root\r")
    console.until("Password: ")
    console.type("secret\r")
    console.until("root@web1")
    console.type("tty; echo $((6*7))\r")
    assert "/dev/console" in console.until("42")
    console.type("logout\r")
    console.until("web1 login: ")
    console.type("\x10\x11")
    assert console.end() == 0
    assert machine.inspect("web1")["State"]["Running"]


def test_shell(machine: EngineUnderTest, terminal: Callable[..., Terminal]) -> None:
    assert machine.cli("shell", "web1", "pwd") == "/root"
    shell = terminal("shell", "web1")
    shell.until("root@web1:~#")
    shell.type("shopt login_shell; echo $HOME $USER $SHELL; tty\r")
    shown = shell.until("/dev/pts/")
    assert "login_shell    \ton" in shown
    assert "/root root /bin/bash" in shown
    shell.type("exit 3\r")
    shell.until("logout")
    assert shell.end() == 3


def test_exec_as_another_user(machine: EngineUnderTest) -> None:
    machine.cli("exec", "web1", "useradd", "-m", "alice")
    shown = machine.cli("exec", "--user", "alice", "web1", "sh", "-c", "id -un; echo $HOME")
    assert shown.split() == ["alice", "/home/alice"]
    status = machine.cli("exec", "-u", "alice", "web1", "grep", "CapEff", "/proc/self/status")
    assert int(status.split()[1], 16) == 0


def test_stop_is_orderly_and_boot_starts_it_again(machine: EngineUnderTest) -> None:
    machine.cli("exec", "web1", "sh", "-c", "echo kept > /root/file")
    ask = "cat /root/file /etc/machine-id; hostname -I"
    before = machine.cli("exec", "web1", "sh", "-c", ask)
    begun = time.monotonic()
    machine.cli("stop", "web1")
    assert time.monotonic() - begun < 30
    state = machine.inspect("web1")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 0)
    assert "Reached target" in machine.cli("logs", "web1")
    assert machine.cli("boot", "web1").startswith("web1 running at")
    assert machine.cli("exec", "web1", "sh", "-c", ask) == before
    machine.cli("restart", "web1")
    assert system_state(machine) == "running"


def test_stop_while_it_boots(os_image: None, daemon: EngineUnderTest) -> None:
    daemon.cli("boot", "--no-wait", IMAGE, "early")
    daemon.cli("stop", "early")
    assert daemon.inspect("early")["State"]["ExitCode"] in {0, 137}


def test_reboot_from_inside(machine: EngineUnderTest) -> None:
    before = machine.inspect("web1")
    machine.cli_try("exec", "web1", "systemctl", "reboot")
    wait_for(
        lambda: machine.inspect("web1")["State"],
        lambda state: state["Running"] and state["Pid"] != before["State"]["Pid"],
    )
    assert system_state(machine) == "running"
    after = machine.inspect("web1")
    assert after["NetworkSettings"]["IPAddress"] == before["NetworkSettings"]["IPAddress"]
    assert after["RestartCount"] == 0  # it wanted to, nothing failed


@pytest.mark.parametrize("policy", ["no", "unless-stopped"])
def test_poweroff_from_inside(os_image: None, daemon: EngineUnderTest, policy: str) -> None:
    daemon.cli("boot", "--restart", policy, IMAGE, "off")
    daemon.cli_try("exec", "off", "systemctl", "poweroff")
    state = wait_for(lambda: daemon.inspect("off")["State"], lambda s: not s["Running"])
    assert (state["Status"], state["ExitCode"]) == ("exited", 0)
    time.sleep(0.5)  # a restart would come after 0.1 s
    assert daemon.inspect("off")["State"]["Status"] == "exited"


def inside(pid: int, command: str) -> str:
    """Run *command* in the container of *pid* without any engine."""
    line = ["nsenter", "-t", str(pid), "-a", "-S", "0", "-G", "0", "sh", "-c", command]
    return subprocess.run(line, capture_output=True, text=True, check=False).stdout.strip()


def test_reboot_and_poweroff_while_the_daemon_is_down(machine: EngineUnderTest) -> None:
    machine.cli("network", "create", "lan")
    machine.cli("network", "connect", "lan", "web1")
    machine.cli("run", "-d", "--name", "app", "--network", "lan", "debian:12", "sleep", "1000")
    facts = machine.inspect("web1")
    pid = facts["State"]["Pid"]
    record = machine.instance.container_run(facts["Id"]) / "pid.json"
    machine.kill9()

    inside(pid, "systemctl reboot")
    new = wait_for(lambda: _pid(record), lambda found: found not in {0, pid})
    wait_for(lambda: inside(new, "systemctl is-system-running"), lambda s: s == "running")
    assert inside(new, "getent hosts app").endswith("app")
    machine.start()
    state = machine.inspect("web1")["State"]
    assert (state["Running"], state["Pid"]) == (True, new)
    assert machine.cli("exec", "app", "getent", "hosts", "web1").endswith("web1")

    machine.kill9()
    inside(new, "systemctl poweroff")
    wait_for(lambda: _lives(new), lambda lives: not lives)
    machine.start()
    state = machine.inspect("web1")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 0)


def _pid(record: Path) -> int:
    try:
        return int(json.loads(record.read_bytes())["pid"])
    except FileNotFoundError:  # between two lives
        return 0


def _lives(pid: int) -> bool:
    try:
        process.start_time(pid)
    except ProcessLookupError:
        return False
    return True


def test_names_ports_and_files(os_image: None, daemon: EngineUnderTest, tmp_path: Path) -> None:
    """What app containers have, OS containers have too: one core."""
    (tmp_path / "index.html").write_text("hello from the host\n")
    daemon.cli("network", "create", "shop")
    daemon.cli("run", "-d", "--name", "app", "--network", "shop", "debian:12", "sleep", "1000")
    daemon.cli(
        "boot", "--network", "shop", "--network-alias", "www", "-p", "80", "--memory", "300m",
        "-v", f"{tmp_path}:/srv/www", "-v", "data:/srv/data", IMAGE, "web",
    )  # fmt: skip
    assert daemon.cli("exec", "web", "cat", "/etc/resolv.conf").startswith("nameserver 127.0.0.11")
    for asker, name in (("web", "app"), ("app", "web"), ("app", "www")):
        assert daemon.cli("exec", asker, "getent", "hosts", name).endswith(name)
    daemon.cli("exec", "web", "sh", "-c", "echo back > /srv/www/file; touch /srv/data/file")
    assert (tmp_path / "file").stat().st_uid == 0
    daemon.cli("exec", "web", "systemd-run", "perl", "-e", SERVER)
    where = daemon.cli("port", "web", "80").splitlines()[0]
    url = f"http://127.0.0.1:{where.rpartition(':')[2]}/"
    assert wait_for(lambda: _fetch(url), bool) == b"hello from the host\n"
    daemon.cli("rm", "-f", "web")
    daemon.cli("volume", "rm", "data")


SERVER = """
use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalPort => 80, Listen => 5, ReuseAddr => 1) or die;
while (my $client = $server->accept) {
    <$client>;
    open my $file, "<", "/srv/www/index.html";
    print $client "HTTP/1.0 200 OK\\r\\n\\r\\n", <$file>;
    close $client;
}
"""


def _fetch(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            content: bytes = answer.read()
            return content
    except OSError:  # not listening yet
        return b""


@pytest.mark.internet
def test_packages_can_be_fetched(machine: EngineUnderTest) -> None:
    machine.cli("exec", "web1", "apt-get", "-q", "update", timeout=60)
    assert machine.cli("exec", "web1", "apt-cache", "search", "--names-only", "^nginx-light$")


def test_compose(os_image: None, daemon: EngineUnderTest, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(
        f"services:\n  box:\n    image: {IMAGE}\n    runtime: os\n    hostname: boxy\n"
    )
    daemon.cli("compose", "-p", "proj", "up", "-d", cwd=tmp_path)
    assert system_state(daemon, "proj-box-1") == "running"
    assert daemon.cli("exec", "proj-box-1", "hostname") == "boxy"
    daemon.cli("compose", "-p", "proj", "down", cwd=tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("debian:12", "x"), "holds no init to boot"),
        (("nosuchname",), "No such container: nosuchname"),
        (("app",), "app is not an OS container"),
        (("nosuchimage:1", "x"), "nosuchimage"),
    ],
)
def test_mistakes_are_told(daemon: EngineUnderTest, words: tuple[str, ...], message: str) -> None:
    daemon.cli("create", "--name", "app", "debian:12", "true")
    done = daemon.cli_try("boot", *words)
    assert done.code != 0
    assert message in done.err
    assert daemon.cli("ps", "-aq", "--filter", "name=x") == ""
