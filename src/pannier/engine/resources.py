"""Limits of a container as Docker names them, turned into the OCI specification's."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence

import msgspec

from pannier.base.errors import InvalidArgument, NotFound
from pannier.oci import defaults as oci
from pannier.oci.runtime import (
    BlockIO,
    Cpu,
    DeviceRule,
    DeviceType,
    Memory,
    Resources,
    Rlimit,
    ThrottleDevice,
    WeightDevice,
)
from pannier.runtime.processplan import RLIMITS
from pannier.wire import containers as wire

_PERIOD_US = 100_000
_DEVICE_TYPES: dict[str, DeviceType] = {"a": "a", "b": "b", "c": "c"}
_DEVICE_RULE = re.compile(r"([acb]) (\d+|\*):(\d+|\*) ([rwm]{1,3})")
_LEAST_MEMORY = 6 << 20  # below this not even the first process starts; Docker has the same floor


def check(limits: wire.Resources) -> None:
    """Refuse what the kernel would refuse, before anything is made.

    Raises:
        InvalidArgument: Docker's wording.
    """
    if 0 < limits.memory < _LEAST_MEMORY:
        raise InvalidArgument("Minimum memory limit allowed is 6MB")
    if limits.memory < 0 or limits.nano_cpus < 0:
        raise InvalidArgument("a limit can't be negative")
    if limits.memory_swap > 0 and not limits.memory:
        raise InvalidArgument("You should always set the Memory limit when using Memoryswap limit")
    if 0 < limits.memory_swap < limits.memory:
        raise InvalidArgument("Minimum memoryswap limit should be larger than memory limit")
    cpus = os.cpu_count() or 1
    if limits.nano_cpus > cpus * 10**9:
        raise InvalidArgument(
            f"Range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        )
    if limits.nano_cpus and (limits.cpu_quota or limits.cpu_period):
        raise InvalidArgument(
            "Conflicting options: Nano CPUs and CPU Period or Quota cannot both be set"
        )


def to_oci(limits: wire.Resources) -> Resources:
    """Only what was asked for appears, so that an update touches nothing else."""
    resources: Resources = {}
    memory, cpu = _memory(limits), _cpu(limits)
    if memory:
        resources["memory"] = memory
    if cpu:
        resources["cpu"] = cpu
    if limits.pids_limit is not None:
        resources["pids"] = {"limit": limits.pids_limit if limits.pids_limit > 0 else -1}
    if block := _block_io(limits):
        resources["blockIO"] = block
    return resources


def device_rules(host: wire.HostConfig) -> list[DeviceRule]:
    """The device cgroup's rules: Docker's list, everything for privileged ones."""
    if host.privileged:
        return list(oci.ALL_DEVICES_RULES)
    rules = list(oci.DEFAULT_DEVICE_RULES)
    for device in host.devices:
        facts = _device_facts(device.path_on_host)
        rules.append(
            {
                "allow": True,
                "type": "b" if (facts.st_mode & 0o170000) == 0o060000 else "c",
                "major": os.major(facts.st_rdev),
                "minor": os.minor(facts.st_rdev),
                "access": device.cgroup_permissions or "rwm",
            }
        )
    return rules + [_device_rule(text) for text in host.device_cgroup_rules]


def _device_facts(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise NotFound(
            f'error gathering device information while adding custom device "{path}": '
            f"{os.strerror(error.errno or 0).lower()}"
        ) from error


def _device_rule(text: str) -> DeviceRule:
    """``c 10:200 rwm``, ``b *:* r``."""
    match = _DEVICE_RULE.fullmatch(text)
    if match is None:
        raise InvalidArgument(f"invalid device cgroup rule format: '{text}'")
    kind, major, minor, access = match.groups()
    rule: DeviceRule = {"allow": True, "type": _DEVICE_TYPES[kind], "access": access}
    if major != "*":
        rule["major"] = int(major)
    if minor != "*":
        rule["minor"] = int(minor)
    return rule


def rlimits(host: wire.HostConfig) -> list[Rlimit]:
    """
    Raises:
        InvalidArgument: there is no such limit (setrlimit(2)).
    """
    for wish in host.ulimits:
        if wish.name.upper() not in RLIMITS:
            raise InvalidArgument(f"invalid ulimit type: {wish.name}")
    return [
        {"type": f"RLIMIT_{u.name.upper()}", "soft": u.soft, "hard": u.hard} for u in host.ulimits
    ]


def merged(host: wire.HostConfig, change: wire.UpdateBody) -> wire.HostConfig:
    """*host* with every given field of *change*; zero and empty mean "as it is"."""
    fields = {
        name: value
        for name in wire.UpdateBody.__struct_fields__
        if (value := getattr(change, name)) not in (None, 0, "", [], {})
    }
    if "nano_cpus" in fields:
        fields.setdefault("cpu_quota", 0)
        fields.setdefault("cpu_period", 0)
    elif "cpu_quota" in fields or "cpu_period" in fields:
        fields["nano_cpus"] = 0
    result = msgspec.structs.replace(host, **fields)
    if change.memory and not change.memory_swap and 0 < host.memory_swap < change.memory:
        raise InvalidArgument(
            "Memory limit should be smaller than already set memoryswap limit, update the "
            "memoryswap at the same time"
        )
    return result


def _memory(limits: wire.Resources) -> Memory:
    memory: Memory = {}
    if limits.memory:
        memory["limit"] = limits.memory
        # Docker gives as much swap as memory when nothing is said.
        memory["swap"] = limits.memory_swap or limits.memory * 2
    if limits.memory_reservation:
        memory["reservation"] = limits.memory_reservation
    if limits.memory_swappiness is not None and limits.memory_swappiness >= 0:
        memory["swappiness"] = limits.memory_swappiness
    if limits.oom_kill_disable:
        memory["disableOOMKiller"] = True
    return memory


def _cpu(limits: wire.Resources) -> Cpu:
    cpu: Cpu = {}
    if limits.nano_cpus:
        cpu["period"] = _PERIOD_US
        cpu["quota"] = limits.nano_cpus * _PERIOD_US // 10**9
    if limits.cpu_period:
        cpu["period"] = limits.cpu_period
    if limits.cpu_quota:
        cpu["quota"] = limits.cpu_quota
    if limits.cpu_shares:
        cpu["shares"] = limits.cpu_shares
    if limits.cpuset_cpus:
        cpu["cpus"] = limits.cpuset_cpus
    if limits.cpuset_mems:
        cpu["mems"] = limits.cpuset_mems
    return cpu


def _block_io(limits: wire.Resources) -> BlockIO:
    block: BlockIO = {}
    if limits.blkio_weight:
        block["weight"] = limits.blkio_weight
    if limits.blkio_weight_device:
        block["weightDevice"] = [_weight(wish) for wish in limits.blkio_weight_device]
    if limits.blkio_device_read_bps:
        block["throttleReadBpsDevice"] = _throttles(limits.blkio_device_read_bps)
    if limits.blkio_device_write_bps:
        block["throttleWriteBpsDevice"] = _throttles(limits.blkio_device_write_bps)
    if limits.blkio_device_read_iops:
        block["throttleReadIOPSDevice"] = _throttles(limits.blkio_device_read_iops)
    if limits.blkio_device_write_iops:
        block["throttleWriteIOPSDevice"] = _throttles(limits.blkio_device_write_iops)
    return block


def _throttles(wishes: Sequence[wire.ThrottleDevice]) -> list[ThrottleDevice]:
    numbers = [_block_device(wish.path) for wish in wishes]
    return [
        {"major": major, "minor": minor, "rate": wish.rate}
        for wish, (major, minor) in zip(wishes, numbers, strict=True)
    ]


def _weight(wish: wire.WeightDevice) -> WeightDevice:
    major, minor = _block_device(wish.path)
    return {"major": major, "minor": minor, "weight": wish.weight}


def _block_device(path: str) -> tuple[int, int]:
    """
    Raises:
        InvalidArgument: it is none.
    """
    try:
        facts = os.stat(path)
    except OSError as error:
        raise InvalidArgument(f"no block device {path}: {error.strerror}") from error
    if not stat.S_ISBLK(facts.st_mode):
        raise InvalidArgument(f"{path} is not a block device")
    return os.major(facts.st_rdev), os.minor(facts.st_rdev)
