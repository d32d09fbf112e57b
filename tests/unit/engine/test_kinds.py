"""What the two kinds decide: commands, environments, capabilities, signals, verdicts."""

from __future__ import annotations

import os
import signal

import msgspec
import pytest

from pannier.base.errors import InvalidArgument
from pannier.engine.kinds.app import AppKind, capabilities, command
from pannier.engine.kinds.base import Verdict, merge_env
from pannier.engine.kinds.os import OsKind, init_flavour
from pannier.engine.model import Record, Root
from pannier.oci.defaults import ALL_CAPABILITIES, DEFAULT_CAPABILITIES, OS_DROPPED_CAPABILITIES
from pannier.oci.image import ContainerDefaults
from pannier.wire.containers import ContainerConfig, HostConfig
from pannier.wire.signals import parse_signal


def record(config=None, host=None, defaults=None) -> Record:
    return Record(
        id="ab" * 32,
        name="c",
        kind="app",
        created_ns=1,
        config=config or ContainerConfig(),
        host_config=host or HostConfig(),
        networks={},
        root=Root("sha256:1", "debian:12", ("base",), 0, defaults or ContainerDefaults()),
        hostname="box",
    )


@pytest.mark.parametrize(
    ("image", "given", "expected"),
    [
        (([], ["bash"]), (None, None), ["bash"]),
        (([], ["bash"]), (None, ["true"]), ["true"]),
        ((["entry"], ["a"]), (None, None), ["entry", "a"]),
        ((["entry"], ["a"]), (None, ["b"]), ["entry", "b"]),
        ((["entry"], ["a"]), (["other"], None), ["other"]),
        ((["entry"], ["a"]), ([], ["x"]), ["x"]),
        ((["entry"], ["a"]), ([""], ["x"]), ["x"]),
    ],
)
def test_entrypoint_and_cmd_combine_as_in_docker(image, given, expected):
    defaults = ContainerDefaults(entrypoint=image[0], cmd=image[1])
    config = ContainerConfig(entrypoint=given[0], cmd=given[1])
    assert command(record(config), defaults) == expected


def test_no_command_is_an_error_that_says_what_to_do():
    with pytest.raises(InvalidArgument, match="No command specified") as caught:
        AppKind().process(record(), ContainerDefaults(), [])
    assert caught.value.hint


def test_environment_order_and_removal():
    assert merge_env(["A=1", "B=2"], ["B=3", "C=4"], ["A"]) == ["B=3", "C=4"]


def test_capabilities():
    assert set(capabilities(record(), DEFAULT_CAPABILITIES)) == set(DEFAULT_CAPABILITIES)
    only = record(host=HostConfig(cap_drop=["ALL"], cap_add=["net_admin"]))
    assert capabilities(only, DEFAULT_CAPABILITIES) == ("CAP_NET_ADMIN",)
    assert capabilities(record(host=HostConfig(privileged=True)), ()) == ALL_CAPABILITIES
    with pytest.raises(InvalidArgument, match="invalid capability"):
        capabilities(record(host=HostConfig(cap_add=["nonsense"])), ())


@pytest.mark.parametrize(
    ("text", "number"),
    [("TERM", 15), ("SIGKILL", 9), ("9", 9), ("SIGRTMIN+3", signal.SIGRTMIN + 3), ("rtmin+3", 37)],
)
def test_signals(text, number):
    assert parse_signal(text) == number


@pytest.mark.parametrize("text", ["", "NOPE", "0", "99", "SIGRTMIN+x"])
def test_bad_signals(text):
    with pytest.raises(InvalidArgument, match="Invalid signal"):
        parse_signal(text)


def test_os_kind_boots_the_init_it_finds(tmp_path):
    base, top = tmp_path / "base", tmp_path / "top"
    for directory in (base / "usr/lib/systemd", base / "usr/sbin", top):
        directory.mkdir(parents=True)
    (base / "usr/lib/systemd/systemd").write_text("")
    (base / "sbin").symlink_to("usr/sbin")
    (base / "usr/sbin/init").symlink_to("/lib/systemd/systemd")
    (base / "lib").symlink_to("usr/lib")
    roots = [str(top), str(base)]
    plan = OsKind().process(record(), ContainerDefaults(), roots)
    assert plan.argv == ["/sbin/init"]
    assert plan.terminal
    assert plan.cgroup_owned
    assert "container=pannier" in plan.env
    assert not set(OS_DROPPED_CAPABILITIES) & set(plan.capabilities)
    assert init_flavour(roots) == "systemd"
    assert OsKind().stop_steps(record(), roots)[0].signal == signal.SIGRTMIN + 3


def test_an_image_without_init_says_how_to_get_one(tmp_path):
    with pytest.raises(InvalidArgument, match="holds no init") as caught:
        OsKind().process(record(), ContainerDefaults(), [str(tmp_path)])
    assert "bootstrap" in (caught.value.hint or "")


def test_a_link_that_turns_in_circles_is_no_init(tmp_path):
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin/init").symlink_to("/sbin/init")
    assert init_flavour([str(tmp_path)]) == ""


def test_verdicts():
    assert OsKind().on_exit(129, signal.SIGHUP) is Verdict.REBOOT
    assert OsKind().on_exit(130, signal.SIGINT) is Verdict.POWERED_OFF
    assert OsKind().on_exit(139, signal.SIGSEGV) is Verdict.CRASHED
    assert AppKind().on_exit(0, 0) is Verdict.STOPPED
    assert AppKind().on_exit(3, 0) is Verdict.CRASHED


def test_records_survive_their_json():
    before = record(ContainerConfig(cmd=["x"]), HostConfig(memory=5))
    after = msgspec.json.decode(msgspec.json.encode(before), type=Record)
    assert msgspec.json.encode(after) == msgspec.json.encode(before)


def test_a_copied_os_container_loses_its_identity(tmp_path):
    for name in ("etc/machine-id", "etc/ssh/ssh_host_rsa_key", "etc/ssh/sshd_config"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("secret")
    fd = os.open(tmp_path, os.O_RDONLY)
    OsKind().scrub_clone(fd)
    os.close(fd)
    assert (tmp_path / "etc/machine-id").read_text() == ""
    assert [p.name for p in (tmp_path / "etc/ssh").iterdir()] == ["sshd_config"]


def test_scrubbing_follows_no_link_out(tmp_path):
    outside, upper = tmp_path / "outside", tmp_path / "upper"
    for directory in (outside, upper):
        directory.mkdir()
    (outside / "machine-id").write_text("the host's")
    (upper / "etc").symlink_to(outside)
    fd = os.open(upper, os.O_RDONLY)
    OsKind().scrub_clone(fd)
    os.close(fd)
    assert (outside / "machine-id").read_text() == "the host's"
