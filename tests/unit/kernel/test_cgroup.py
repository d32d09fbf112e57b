"""Cgroup decisions on directories that only look like cgroups: layout, files, values, order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pannier.base.errors import KernelError, NotFound, Unsupported
from pannier.kernel import cgroup, cgroup_devices, cgroup_v1, cgroup_v2
from pannier.kernel.cgroup import CgroupManager, Layout
from pannier.oci.defaults import DEFAULT_DEVICE_RULES

MIB = 1 << 20
V1_LINE = "{n} 31 0:{n} / {path} rw,relatime - cgroup cgroup rw,{options}\n"
V2_LINE = "{n} 31 0:{n} / {path} rw,relatime - cgroup2 cgroup2 rw\n"


def _files(directory: Path, **values: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (directory / name.replace("__", ".")).write_text(value)
    return directory


class Writes:
    """Records writes in place of making them, for orders and repeated writes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module) -> None:
        self.made: list[tuple[str, str]] = []
        monkeypatch.setattr(module, "write", self._write)

    def _write(self, path: str, value: str, *, hint: str | None = None) -> None:
        self.made.append((os.path.basename(path), value))


# ---------------------------------------------------------------- layout


def _probe(tmp_path: Path, v1: dict[str, str], v2: str | None) -> Layout:
    lines = "22 1 0:21 / /proc rw,relatime shared:5 - proc proc rw\n"
    for number, (name, options) in enumerate(v1.items()):
        lines += V1_LINE.format(n=40 + number, path=tmp_path / name, options=options)
    if v2 is not None:
        _files(tmp_path / "unified", cgroup__controllers=v2)
        lines += V2_LINE.format(n=60, path=tmp_path / "unified")
    (tmp_path / "mountinfo").write_text(lines)
    return cgroup.probe(str(tmp_path / "mountinfo"))


def test_hybrid(tmp_path: Path) -> None:
    v1 = {"memory": "memory", "cpu,cpuacct": "cpu,cpuacct", "systemd": "name=systemd"}
    layout = _probe(tmp_path, v1, "")
    assert layout.mode == "hybrid"
    assert set(layout.v1) == {"memory", "cpu", "cpuacct"}
    assert layout.mounts() == [
        str(tmp_path / "memory"),
        str(tmp_path / "cpu,cpuacct"),
        str(tmp_path / "unified"),
    ]


def test_unified(tmp_path: Path) -> None:
    layout = _probe(tmp_path, {}, "cpu memory pids")
    assert layout.mode == "unified"
    assert layout.v2_controllers == {"cpu", "memory", "pids"}


def test_legacy_has_a_freezer(tmp_path: Path) -> None:
    layout = _probe(tmp_path, {"freezer": "freezer", "pids": "pids"}, None)
    assert layout.mode == "legacy"
    assert "freezer" in layout.v1


def test_none(tmp_path: Path) -> None:
    with pytest.raises(Unsupported):
        _probe(tmp_path, {}, None)


# ---------------------------------------------------------------- version 1


@pytest.mark.parametrize(
    ("before", "change", "expected"),
    [
        (64, {"limit": 128 * MIB, "swap": 128 * MIB}, ["memsw", "limit"]),
        (64, {"limit": 32 * MIB, "swap": 32 * MIB}, ["limit", "memsw"]),
        (64, {"limit": -1, "swap": -1}, ["memsw", "limit"]),
        (64, {"limit": 128 * MIB}, ["memsw", "limit"]),
        (64, {"limit": 32 * MIB}, ["limit"]),
        (64, {"swap": 256 * MIB}, ["memsw"]),
    ],
)
def test_v1_memory_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int, change: dict, expected: list[str]
) -> None:
    """Memory may at no moment exceed memory plus swap."""
    now = str(before * MIB)
    _files(tmp_path, memory__limit_in_bytes=now, memory__memsw__limit_in_bytes=now)
    writes = Writes(monkeypatch, cgroup_v1)
    cgroup_v1.apply_memory(str(tmp_path), change)
    assert [name.split(".")[1].split("_")[0] for name, _ in writes.made] == expected


def test_v1_memory_without_swap_accounting(tmp_path: Path) -> None:
    _files(tmp_path, memory__limit_in_bytes="")
    cgroup_v1.apply_memory(str(tmp_path), {"limit": 5 * MIB, "swap": 5 * MIB})
    assert (tmp_path / "memory.limit_in_bytes").read_text() == str(5 * MIB)


def test_v1_quota_first_where_the_period_alone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, str]] = []

    def write(path: str, value: str, *, hint: str | None = None) -> None:
        name = os.path.basename(path)
        if name == "cpu.cfs_period_us" and not made:
            made.append(("refused", value))
            raise KernelError(22, "write", path)
        made.append((name, value))

    monkeypatch.setattr(cgroup_v1, "write", write)
    cgroup_v1.apply_cpu(str(tmp_path), {"quota": 5000, "period": 10000})
    assert made == [
        ("refused", "10000"),
        ("cpu.cfs_quota_us", "5000"),
        ("cpu.cfs_period_us", "10000"),
    ]


def test_v1_device_rules_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = Writes(monkeypatch, cgroup_v1)
    cgroup_v1.apply_devices(str(tmp_path), DEFAULT_DEVICE_RULES)
    assert writes.made[:4] == [
        ("devices.deny", "a"),
        ("devices.allow", "c *:* m"),
        ("devices.allow", "b *:* m"),
        ("devices.allow", "c 1:3 rwm"),
    ]
    assert writes.made[-1] == ("devices.allow", "c 136:* rwm")


def test_v1_figures(tmp_path: Path) -> None:
    directory = _files(
        tmp_path,
        memory__usage_in_bytes="1000",
        memory__memsw__usage_in_bytes="1200",
        memory__limit_in_bytes="9223372036854771712",
        memory__max_usage_in_bytes="3000",
        memory__failcnt="4",
        memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 2",
        memory__stat="cache 5\nrss 6",
        blkio__throttle__io_service_bytes_recursive="254:0 Read 10\n254:0 Write 20\nTotal 30",
        blkio__throttle__io_serviced_recursive="254:0 Read 1\n254:0 Write 2\nTotal 3",
    )
    memory = cgroup_v1.read_memory(str(directory))
    assert memory["limit"] == -1
    assert (memory["usage"], memory["swap"], memory["peak"]) == (1000, 200, 3000)
    assert (memory["oom_kills"], memory["stat"]) == (2, {"cache": 5, "rss": 6})
    (device,) = cgroup_v1.read_blkio(str(directory))
    assert (device["read_bytes"], device["write_bytes"]) == (10, 20)
    assert (device["read_operations"], device["write_operations"]) == (1, 2)


def test_v1_new_cpuset_takes_over_its_parents(tmp_path: Path) -> None:
    _files(tmp_path, cpuset__cpus="0-3", cpuset__mems="0")
    child = _files(tmp_path / "child", cpuset__cpus="", cpuset__mems="", cgroup__clone_children="")
    cgroup_v1.inherit_cpuset(str(child))
    assert (child / "cpuset.cpus").read_text() == "0-3"
    assert (child / "cgroup.clone_children").read_text() == "1"


def test_v1_weight_without_a_scheduler_for_it(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="weights"):
        cgroup_v1.apply_blkio(str(tmp_path), {"weight": 100})


# ---------------------------------------------------------------- version 2


def test_v2_memory_below_use_is_refused_not_killed_for(tmp_path: Path) -> None:
    _files(tmp_path, memory__current=str(64 * MIB), memory__max="max")
    with pytest.raises(KernelError, match="busy"):
        cgroup_v2.apply_memory(str(tmp_path), {"limit": 32 * MIB})
    assert (tmp_path / "memory.max").read_text() == "max"


def test_v2_swap_is_what_goes_beyond_memory(tmp_path: Path, monkeypatch) -> None:
    _files(tmp_path, memory__current="0", memory__max="max", memory__swap__max="max")
    writes = Writes(monkeypatch, cgroup_v2)
    cgroup_v2.apply_memory(str(tmp_path), {"limit": 64 * MIB, "swap": 96 * MIB})
    cgroup_v2.apply_memory(str(tmp_path), {"limit": -1, "swap": -1})
    assert writes.made == [
        ("memory.max", str(64 * MIB)),
        ("memory.swap.max", str(32 * MIB)),
        ("memory.max", "max"),
        ("memory.swap.max", "max"),
    ]


def test_v2_cpu(tmp_path: Path, monkeypatch) -> None:
    _files(tmp_path, cpu__max="max 100000")
    writes = Writes(monkeypatch, cgroup_v2)
    cgroup_v2.apply_cpu(str(tmp_path), {"shares": 1024, "quota": 50000})
    cgroup_v2.apply_cpu(str(tmp_path), {"quota": -1, "period": 50000})
    assert writes.made == [
        ("cpu.weight", "39"),
        ("cpu.max", "50000 100000"),
        ("cpu.max", "max 50000"),
    ]


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 39), (262144, 10000), (1, 1)])
def test_shares_to_weight(shares: int, weight: int) -> None:
    assert cgroup_v2.weight_of_shares(shares) == weight


def test_v2_io(tmp_path: Path, monkeypatch) -> None:
    _files(tmp_path, io__weight="default 100")
    writes = Writes(monkeypatch, cgroup_v2)
    throttle = {"major": 8, "minor": 0, "rate": 1000}
    cgroup_v2.apply_io(str(tmp_path), {"weight": 1000, "throttleReadBpsDevice": [throttle]})
    assert writes.made == [("io.weight", "default 10000"), ("io.max", "8:0 rbps=1000")]


def test_v2_figures(tmp_path: Path) -> None:
    directory = _files(
        tmp_path,
        memory__current="1000",
        memory__max="max",
        memory__events="low 0\nmax 3\noom 1\noom_kill 1",
        memory__stat="anon 7",
        cpu__stat="usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_throttled 4\nthrottled_usec 9",
        pids__current="2",
        pids__max="max",
        io__stat="254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0",
    )
    memory = cgroup_v2.read_memory(str(directory))
    assert (memory["limit"], memory["oom_kills"], memory["failures"]) == (-1, 1, 3)
    cpu = cgroup_v2.read_cpu(str(directory))
    assert (cpu["usage_ns"], cpu["throttled_periods"], cpu["throttled_ns"]) == (5000, 4, 9000)
    assert cgroup_v2.read_pids_stats(str(directory))["limit"] == -1
    assert cgroup_v2.read_io(str(directory))[0]["write_operations"] == 4


def test_v2_controllers_are_handed_on_once(tmp_path: Path) -> None:
    _files(tmp_path, cgroup__controllers="cpu memory misc", cgroup__subtree_control="cpu")
    cgroup_v2.enable_controllers(str(tmp_path))
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory"


# ---------------------------------------------------------------- manager


def _manager(tmp_path: Path, v1: tuple[str, ...] = (), v2: str | None = None) -> CgroupManager:
    for name in v1:
        (tmp_path / name).mkdir()
    if v2 is not None:
        _files(tmp_path / "v2", cgroup__controllers=v2, cgroup__subtree_control="")
    layout = Layout(
        {name: str(tmp_path / name) for name in v1},
        str(tmp_path / "v2") if v2 is not None else None,
        (v2 or "").split(),
    )
    return CgroupManager(layout, "engine", DEFAULT_DEVICE_RULES)


def test_path_says_which_devices_are_inherited(tmp_path: Path) -> None:
    manager = _manager(tmp_path, v2="")
    assert manager.path_for("x", list(DEFAULT_DEVICE_RULES)) == "engine/default/x"
    assert manager.path_for("x", [{"allow": True, "access": "rwm"}]) == "engine/custom/x"


def test_missing_controller_is_named(tmp_path: Path) -> None:
    manager = _manager(tmp_path, v1=("cpu",), v2="")
    with pytest.raises(Unsupported, match="memory controller"):
        manager.apply("engine/default/x", {"memory": {"limit": MIB}})


def test_each_limit_goes_where_its_controller_is(tmp_path: Path) -> None:
    manager = _manager(tmp_path, v1=("pids",), v2="memory")
    one = _files(tmp_path / "pids/engine/custom/x", pids__max="")
    two = _files(tmp_path / "v2/engine/custom/x", memory__max="", memory__current="0")
    manager.apply("engine/custom/x", {"memory": {"limit": MIB}, "pids": {"limit": 7}})
    assert (one / "pids.max").read_text() == "7"
    assert (two / "memory.max").read_text() == str(MIB)


def test_unified_values_need_version_2_alone(tmp_path: Path) -> None:
    manager = _manager(tmp_path, v1=("pids",), v2="")
    with pytest.raises(Unsupported, match="unified"):
        manager.apply("engine/custom/x", {"unified": {"memory.high": "1"}})


def test_figures_of_a_cgroup_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        _manager(tmp_path, v2="memory").stats("engine/custom/x")


def test_failed_create_leaves_nothing(tmp_path: Path) -> None:
    manager = _manager(tmp_path, v1=("cpu", "pids"), v2="")
    (tmp_path / "cpu/engine/custom").mkdir(parents=True)
    with pytest.raises(KernelError):
        manager.create("engine/custom/x")
    assert list((tmp_path / "cpu/engine/custom").iterdir()) == []


def test_entry_is_a_leaf_once_controllers_are_handed_on(tmp_path: Path) -> None:
    manager = _manager(tmp_path, v2="memory")
    container = _files(tmp_path / "v2/engine/custom/x", cgroup__subtree_control="")
    fd, _ = manager.open_entry("engine/custom/x")
    assert os.readlink(f"/proc/self/fd/{fd}") == str(container)
    os.close(fd)
    (container / "cgroup.subtree_control").write_text("memory")
    fd, _ = manager.open_entry("engine/custom/x")
    assert os.readlink(f"/proc/self/fd/{fd}") == str(container / "exec")
    os.close(fd)


# ---------------------------------------------------------------- device program


class Machine:
    """Runs the few instructions that ``cgroup_devices`` uses, as the kernel would."""

    def __init__(self, code: bytes) -> None:
        self.code = [code[i : i + 8] for i in range(0, len(code), 8)]

    def allows(self, kind: str, major: int, minor: int, access: str) -> bool:
        word = sum({"m": 1, "r": 2, "w": 4}[letter] for letter in access) << 16
        context = [word | {"b": 1, "c": 2}[kind], major, minor]
        registers, at = [0] * 11, 0
        while True:
            instruction = self.code[at]
            code, target, source = instruction[0], instruction[1] & 15, instruction[1] >> 4
            offset = int.from_bytes(instruction[2:4], "little", signed=True)
            value = int.from_bytes(instruction[4:8], "little")
            at += 1
            match code:
                case 0x61:
                    registers[target] = context[offset // 4]
                case 0xBC:
                    registers[target] = registers[source]
                case 0x54:
                    registers[target] &= value
                case 0x74:
                    registers[target] >>= value
                case 0xB7:
                    registers[target] = value
                case 0x55:
                    at += offset if registers[target] != value else 0
                case 0x15:
                    at += offset if registers[target] == value else 0
                case 0x95:
                    return bool(registers[0])
                case _:
                    raise AssertionError(f"unknown instruction {code:#x}")


@pytest.mark.parametrize(
    ("kind", "major", "minor", "access", "allowed"),
    [
        ("c", 1, 3, "rw", True),
        ("c", 1, 1, "r", False),
        ("c", 1, 1, "m", True),
        ("b", 8, 0, "m", True),
        ("b", 8, 0, "r", False),
        ("b", 1, 3, "rw", False),
        ("c", 136, 77, "rw", True),
        ("c", 5, 2, "rwm", True),
        ("c", 10, 229, "rw", False),
    ],
)
def test_default_device_rules(
    kind: str, major: int, minor: int, access: str, allowed: bool
) -> None:
    machine = Machine(cgroup_devices.program(DEFAULT_DEVICE_RULES))
    assert machine.allows(kind, major, minor, access) is allowed


def test_later_device_rules_overrule() -> None:
    rules = [
        {"allow": True, "access": "rwm"},
        {"allow": False, "type": "c", "major": 1, "access": "w"},
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"},
    ]
    machine = Machine(cgroup_devices.program(rules))
    assert machine.allows("b", 8, 0, "rwm")
    assert machine.allows("c", 1, 9, "r")
    assert not machine.allows("c", 1, 9, "rw")
    assert machine.allows("c", 1, 3, "rw")
