"""Bodies in and out: Docker's names, nulls, strings for lists, errors that name the field."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from pannier.base.errors import InvalidArgument
from pannier.wire import containers as c
from pannier.wire import networks, states, system, volumes
from pannier.wire.codec import convert, decode, encode

# What Docker's CLI 28 sends for `docker run -d --init -p 18080:80 -v vol1:/data ...`, shortened.
FROM_CLI = {
    "Hostname": "",
    "Env": ["A=b"],
    "Cmd": ["sh"],
    "Entrypoint": None,
    "Image": "busybox",
    "Volumes": {},
    "OnBuild": None,
    "Labels": {"x": "y"},
    "ExposedPorts": {"80/tcp": {}},
    "Healthcheck": {"Test": ["CMD-SHELL", "true"]},
    "HostConfig": {
        "Binds": ["vol1:/data"],
        "ContainerIDFile": "",
        "LogConfig": {"Type": "", "Config": {}},
        "NetworkMode": "default",
        "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "18080"}]},
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "ConsoleSize": [24, 80],
        "CapAdd": None,
        "Memory": 67108864,
        "NanoCpus": 500000000,
        "BlkioDeviceReadIOps": None,
        "OomKillDisable": False,
        "PidsLimit": 0,
        "Tmpfs": {"/t": ""},
        "Init": True,
        "MaskedPaths": None,
        "NoSuchKeyYet": 1,
    },
    "NetworkingConfig": {"EndpointsConfig": {"default": None}},
}


def test_create_body_of_the_cli():
    body = decode(json.dumps(FROM_CLI).encode(), c.CreateBody)
    assert body.cmd == ["sh"]
    assert body.entrypoint is None
    assert body.on_build == []
    assert body.host_config.cap_add == []
    assert body.host_config.nano_cpus == 500_000_000
    assert body.host_config.pids_limit == 0
    assert body.host_config.masked_paths is None
    assert body.host_config.port_bindings["80/tcp"][0].host_port == "18080"
    assert body.host_config.console_size == (24, 80)
    assert body.networking_config.endpoints_config["default"] == c.EndpointSettings()


def test_config_is_the_image_like_part():
    config = decode(json.dumps(FROM_CLI).encode(), c.CreateBody).config()
    assert type(config) is c.ContainerConfig
    assert config.image == "busybox"
    assert "HostConfig" not in json.loads(encode(config))


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        (c.HostConfig, "ContainerIDFile UTSMode KernelMemoryTCP BlkioDeviceWriteIOps "
                       "IOMaximumIOps OomKillDisable CgroupnsMode IpcMode Dns CpusetCpus"),
        (c.EndpointSettings, "IPAMConfig NetworkID EndpointID IPAddress IPPrefixLen IPv6Gateway "
                             "GlobalIPv6Address GlobalIPv6PrefixLen DNSNames GwPriority"),
        (c.EndpointIPAMConfig, "IPv4Address IPv6Address LinkLocalIPs"),
        (c.DeviceRequest, "DeviceIDs"),
        (networks.NetworkCreate, "EnableIPv4 EnableIPv6 IPAM CheckDuplicate"),
        (networks.IPAMConfig, "Subnet IPRange Gateway AuxiliaryAddresses"),
        (volumes.Volume, "Name Driver Mountpoint CreatedAt UsageData"),
        (states.ContainerSummary, "Id ImageID SizeRw SizeRootFs NetworkSettings"),
        (states.MountPoint, "RW Destination"),
        (system.Version, "ApiVersion MinAPIVersion Os KernelVersion"),
    ],
)  # fmt: skip
def test_dockers_names(kind, keys):
    assert set(keys.split()) <= set(kind.__struct_encode_fields__)


def test_command_as_one_string():
    assert decode(b'{"Cmd":"echo hi"}', c.CreateBody).cmd == ["echo hi"]
    assert decode(b'{"Labels":{"Cmd":"x"}}', c.CreateBody).labels == {"Cmd": "x"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "invalid JSON"),
        (b"[]", "invalid request body: expected object, got array"),
        (b'{"Tty":"yes"}', "invalid value for Tty: expected bool, got str"),
        (b'{"HostConfig":{"Mounts":[{"Type":3}]}}', "HostConfig.Mounts[0].Type"),
        (b'{"HostConfig":{"ConsoleSize":[1]}}', "HostConfig.ConsoleSize"),
        (b"\xff", "invalid JSON"),
    ],
)
def test_errors_name_the_field(body, message):
    with pytest.raises(InvalidArgument) as caught:
        decode(body, c.CreateBody)
    assert message in str(caught.value)


def test_required_field():
    with pytest.raises(InvalidArgument, match="Name"):
        decode(b"{}", networks.NetworkCreate)


def test_empty_body_counts_as_an_empty_object():
    assert decode(b"", volumes.VolumeCreate) == volumes.VolumeCreate()
    assert decode(b"null", volumes.VolumeCreate) == volumes.VolumeCreate()


def test_progress_lines_are_sparse_and_versions_whole():
    assert encode(system.Progress(stream="x\n")) == b'{"stream":"x\\n"}'
    assert json.loads(encode(system.Version("1")))["MinAPIVersion"] == "1.24"


JSON = some.recursive(
    some.none() | some.booleans() | some.integers(-(2**63), 2**63) | some.text(max_size=8),
    lambda inner: some.lists(inner, max_size=3)
    | some.dictionaries(some.sampled_from(["Cmd", "HostConfig", "EndpointsConfig", "Env", "a"]),
                        inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(deadline=None)
@given(JSON)
def test_any_json_is_read_or_refused(value):
    try:
        body = convert(value, c.CreateBody)
    except InvalidArgument:
        return
    assert decode(encode(body), c.CreateBody) == body
