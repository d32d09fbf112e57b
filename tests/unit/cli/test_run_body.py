"""From the words of run to the body of a create request."""

from __future__ import annotations

from pathlib import Path

import pytest

from pannier.base.errors import InvalidArgument, NotFound
from pannier.cli.flags import parse
from pannier.cli.run_body import create_body
from pannier.cli.run_options import RUN
from pannier.wire.codec import convert
from pannier.wire.containers import CreateBody


def _body(*words: str) -> dict:
    flags, arguments = parse(RUN, words, interspersed=False)
    body = create_body(flags, arguments[0], arguments[1:])
    convert(body, CreateBody)  # the engine understands it
    return body


def _host(*words: str) -> dict:
    return _body(*words, "image")["HostConfig"]


def test_nothing_typed_nothing_sent() -> None:
    assert _body("debian:12", "true") == {"Image": "debian:12", "Cmd": ["true"], "HostConfig": {}}


def test_every_flag_is_understood() -> None:
    """No flag falls through: what is not for the command itself lands in the body."""
    samples = {
        "add-host": "a:1.2.3.4", "blkio-weight": "100", "cpu-period": "1", "cpu-quota": "1",
        "cpu-shares": "2", "cpus": "1.5", "device": "/dev/null", "device-read-bps": "/dev/sda:1m",
        "device-read-iops": "/dev/sda:1", "device-write-bps": "/dev/sda:1m",
        "device-write-iops": "/dev/sda:1", "env-file": "/dev/null", "expose": "80",
        "health-interval": "1s", "health-retries": "2", "health-start-interval": "1s",
        "health-start-period": "1s", "health-timeout": "1s", "label-file": "/dev/null",
        "memory": "64m", "memory-reservation": "1m", "memory-swap": "-1",
        "memory-swappiness": "1", "mount": "type=tmpfs,target=/t", "net": "n", "network": "n",
        "oom-score-adj": "1", "pids-limit": "5", "publish": "80",
        "restart": "always", "shm-size": "1m",
        "stop-timeout": "3", "ulimit": "nofile=1:2", "volume": "/x",
    }  # fmt: skip
    command = {
        "attach", "detach", "detach-keys", "disable-content-trust", "interactive", "name",
        "platform", "pull", "quiet", "sig-proxy", "host-ca",
    }  # fmt: skip
    plain = {"Image": "image", "HostConfig": {}}
    for name, _, kind, _, _ in RUN:
        if name in command:
            continue
        words = [f"--{name}"] if kind == "flag" else [f"--{name}", samples.get(name, "a=b")]
        if name in {"env-file", "label-file"}:
            assert _body(*words, "image") != {}
        else:
            assert _body(*words, "image") != plain, name


@pytest.mark.parametrize(
    ("spec", "exposed", "bindings"),
    [
        ("80", ["80/tcp"], {"80/tcp": [("", "")]}),
        ("8080:80", ["80/tcp"], {"80/tcp": [("", "8080")]}),
        ("127.0.0.1:8080:80/udp", ["80/udp"], {"80/udp": [("127.0.0.1", "8080")]}),
        ("127.0.0.1::80", ["80/tcp"], {"80/tcp": [("127.0.0.1", "")]}),
        ("[::1]:8080:80", ["80/tcp"], {"80/tcp": [("::1", "8080")]}),
        ("8000-8001:80-81", ["80/tcp", "81/tcp"],
         {"80/tcp": [("", "8000")], "81/tcp": [("", "8001")]}),
        ("8000-8010:80", ["80/tcp"], {"80/tcp": [("", "8000-8010")]}),
    ],
)  # fmt: skip
def test_ports(spec: str, exposed: list[str], bindings: dict) -> None:
    body = _body("-p", spec, "image")
    assert list(body["ExposedPorts"]) == exposed
    assert body["HostConfig"]["PortBindings"] == {
        key: [{"HostIp": ip, "HostPort": port} for ip, port in pairs]
        for key, pairs in bindings.items()
    }


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("x:80", "Invalid hostPort: x"),
        ("80:70000", "Invalid containerPort: 70000"),
        ("80/icmp", "Invalid proto: icmp"),
        ("1.2.3:80:80", "invalid IP address: 1.2.3"),
        ("8000-8005:80-81", "Invalid ranges specified"),
    ],
)
def test_ports_that_make_no_sense(spec: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        _body("-p", spec, "image")


def test_volumes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    body = _body("-v", "data:/a", "-v", "./x:/b:ro", "-v", "/host:/c", "-v", "/d", "image")
    assert body["HostConfig"]["Binds"] == ["data:/a", f"{tmp_path}/x:/b:ro", "/host:/c"]
    assert body["Volumes"] == {"/d": {}}


@pytest.mark.parametrize("spec", ["data:relative", "a:/b:ro:x", ":/b", "relative"])
def test_volumes_that_make_no_sense(spec: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid volume specification"):
        _body("-v", spec, "image")


def test_mounts() -> None:
    assert _host(
        "--mount", "type=bind,source=/a,target=/b,readonly,bind-propagation=rslave",
        "--mount", "src=data,dst=/c,volume-nocopy",
        "--mount", "type=tmpfs,destination=/d,tmpfs-size=1m,tmpfs-mode=1770",
    )["Mounts"] == [
        {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True,
         "BindOptions": {"Propagation": "rslave"}},
        {"Type": "volume", "Source": "data", "Target": "/c", "VolumeOptions": {"NoCopy": True}},
        {"Type": "tmpfs", "Target": "/d", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o1770}},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("type=bind,source=/a", "target is required"),
        ("type=bind,source=/a,target=/b,tmpfs-size=1m", "cannot mix"),
        ("target=/b,wrong=1", "unexpected key 'wrong'"),
    ],
)
def test_mounts_that_make_no_sense(spec: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        _body("--mount", spec, "image")


def test_limits() -> None:
    host = _host("-m", "64m", "--memory-swap", "-1", "--cpus", "0.5", "--ulimit", "nofile=10:20")
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (64 << 20, -1, 500_000_000)
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 10, "Hard": 20}]


def test_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "vars"
    file.write_text("# comment\n\nFROM_FILE=1\n")
    body = _body("-e", "A=b=c", "-e", "SURELY_NOT_SET", "--env-file", str(file), "image")
    assert body["Env"] == ["FROM_FILE=1", "A=b=c", "SURELY_NOT_SET"]
    with pytest.raises(NotFound, match="no such file"):
        _body("--env-file", "/nowhere", "image")


def test_networks() -> None:
    body = _body("--network", "shop", "--network-alias", "db", "--ip", "10.0.0.5", "image")
    assert body["HostConfig"]["NetworkMode"] == "shop"
    assert body["NetworkingConfig"]["EndpointsConfig"] == {
        "shop": {"Aliases": ["db"], "IPAMConfig": {"IPv4Address": "10.0.0.5"}}
    }
    body = _body("--network", "name=a,alias=x,ip=1.2.3.4", "--network", "b", "image")
    assert list(body["NetworkingConfig"]["EndpointsConfig"]) == ["a", "b"]
    assert _host("--network", "none") == {"NetworkMode": "none"}
    assert _host("--net", "host")["NetworkMode"] == "host"


def test_health() -> None:
    assert _body("--health-cmd", "true", "--health-interval", "1m30s", "image")["Healthcheck"] == {
        "Test": ["CMD-SHELL", "true"],
        "Interval": 90 * 10**9,
    }
    assert _body("--no-healthcheck", "image")["Healthcheck"] == {"Test": ["NONE"]}
    with pytest.raises(InvalidArgument, match="conflicts"):
        _body("--no-healthcheck", "--health-cmd", "x", "image")


def test_restart() -> None:
    assert _host("--restart", "on-failure:3")["RestartPolicy"] == {
        "Name": "on-failure", "MaximumRetryCount": 3,
    }  # fmt: skip
    with pytest.raises(InvalidArgument, match="invalid restart policy"):
        _host("--restart", "always:3")


def test_security(tmp_path: Path) -> None:
    profile = tmp_path / "p.json"
    profile.write_text('{"defaultAction":"SCMP_ACT_ALLOW"}')
    options = ("--security-opt", f"seccomp={profile}", "--security-opt", "no-new-privileges")
    assert _host(*options)["SecurityOpt"] == [
        'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}', "no-new-privileges",
    ]  # fmt: skip
    assert _host("--security-opt", "seccomp=unconfined")["SecurityOpt"] == ["seccomp=unconfined"]
