"""Limits by device, and settings that are refused instead of dropped."""

from __future__ import annotations

import pytest

from pannier.base.errors import InvalidArgument, Unsupported
from pannier.engine import resources, unsupported
from pannier.oci.defaults import DEFAULT_DEVICE_RULES
from pannier.wire import containers as wire


def rules_of(*texts: str) -> list[object]:
    host = wire.HostConfig(device_cgroup_rules=list(texts))
    return list(resources.device_rules(host)[len(DEFAULT_DEVICE_RULES) :])


def test_device_rules() -> None:
    assert rules_of("c 10:200 rwm", "b *:1 r", "a *:* rwm") == [
        {"allow": True, "type": "c", "major": 10, "minor": 200, "access": "rwm"},
        {"allow": True, "type": "b", "minor": 1, "access": "r"},
        {"allow": True, "type": "a", "access": "rwm"},
    ]


@pytest.mark.parametrize("text", ["", "c", "c 1:2", "x 1:2 r", "c 1:2 z", "c 1 r", "c -1:2 r"])
def test_bad_device_rules(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid device cgroup rule format"):
        rules_of(text)


@pytest.mark.parametrize(
    ("path", "message"), [("/nosuch", "no block device /nosuch"), ("/dev/null", "not a block")]
)
def test_throttles_are_for_block_devices(path: str, message: str) -> None:
    limits = wire.HostConfig(blkio_device_read_bps=[wire.ThrottleDevice(path, 1 << 20)])
    with pytest.raises(InvalidArgument, match=message):
        resources.to_oci(limits)


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (wire.HostConfig(cgroup_parent="/x"), "CgroupParent is not supported"),
        (wire.HostConfig(cpu_realtime_runtime=1), "CpuRealtimeRuntime is not supported"),
        (wire.HostConfig(storage_opt={"size": "1g"}), "StorageOpt is not supported"),
        (wire.HostConfig(device_requests=[wire.DeviceRequest()]), "could not select device driver"),
        (wire.HostConfig(volume_driver="nfs"), "error looking up volume plugin nfs"),
    ],
)
def test_refused(host: wire.HostConfig, message: str) -> None:
    with pytest.raises(Unsupported, match=message) as caught:
        unsupported.check(host)
    assert caught.value.hint


def test_an_ordinary_container_is_not_refused() -> None:
    unsupported.check(wire.HostConfig(memory=1 << 30, volume_driver="local", privileged=True))
