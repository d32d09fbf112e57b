"""Plans are pure, so every decision shows in them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pannier.base.errors import InvalidArgument, Unsupported
from pannier.kernel import _libc, mount
from pannier.oci import defaults
from pannier.oci.runtime import Mount, Spec
from pannier.runtime import plan
from pannier.runtime.model import ExecRequest, Launch, Rootfs, Stdio

HOST = plan.HostFacts(
    tini="/usr/bin/tini-static", cgroup_v1=[("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct")]
)
MAPPING = {"containerID": 0, "hostID": 100000, "size": 65536}


def spec(*, mapped: bool = True, mounts: list[Mount] | None = None) -> Spec:
    made: Spec = {
        "ociVersion": "1.2.0",
        "process": {
            "args": ["sh"],
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
            "env": ["PATH=/bin", "A=1", "A=2", "NONSENSE"],
            "capabilities": {"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"]},
        },
        "hostname": "box",
        "mounts": list(defaults.DEFAULT_MOUNTS) + (mounts or []),
        "linux": {
            "namespaces": [n for n in defaults.DEFAULT_NAMESPACES if mapped or n["type"] != "user"],
            "sysctl": dict(defaults.DEFAULT_SYSCTLS),
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
        },
    }
    if mapped:
        made["linux"]["uidMappings"] = [MAPPING]  # type: ignore[list-item]
        made["linux"]["gidMappings"] = [MAPPING]  # type: ignore[list-item]
    return made


def launch(made: Spec, **changes: Any) -> Launch:
    rootfs = Rootfs(["/layers/a"], "/c/upper", "/c/work")
    return Launch(**{"id": "c1", "spec": made, "rootfs": rootfs, **changes})


def build(made: Spec, **changes: Any) -> plan.Plan:
    result = plan.build(launch(made, **changes), HOST)
    assert json.loads(json.dumps(result)) == result  # it crosses a socket and is kept on disk
    return result


def steps(result: plan.Plan, do: str) -> list[plan.Step]:
    return [step for step in result["steps"] + result["early"] if step["do"] == do]


def bind(*options: str) -> Mount:
    return {"destination": "/d", "type": "bind", "source": "/s", "options": list(options)}


def source(result: plan.Plan) -> dict[str, Any]:
    made: dict[str, Any] = result["sources"][0]
    return made


def test_order_of_steps() -> None:
    result = build(spec(), stdio=Stdio(tty=True))
    assert [s["do"] for s in result["early"]] == ["network", "sysctl", "hostname"]
    order = [s["do"] for s in result["steps"]]
    # nodes need /dev, the masks the finished /proc, and nothing can be mounted after the root step
    assert order.index("devices") > order.index("mount")
    assert order[-4:] == ["console", "readonly", "mask", "root"]


def test_targets_are_normal_paths() -> None:
    made = spec(mounts=[{"destination": "//x/../y/", "type": "tmpfs"}])
    assert build(made)["steps"][7]["target"] == "/y"


def test_cgroup_mount_follows_the_host() -> None:
    (mounted,) = steps(build(spec()), "cgroups")
    assert mounted["hierarchies"] == [["cpu,cpuacct", "cpu,cpuacct", None]]
    unified = plan.build(launch(spec()), plan.HostFacts())
    mounted = [s for s in unified["steps"] if s.get("target") == "/sys/fs/cgroup"]
    assert [(s["do"], s["type"]) for s in mounted] == [("mount", "cgroup2")]


def test_without_a_cgroup_namespace_the_own_cgroup_is_bound() -> None:
    made = spec()
    made["linux"]["namespaces"] = [{"type": "mount"}, {"type": "user"}]
    result = build(made, cgroup="p/default/c1")
    (step,) = steps(result, "cgroups")
    bound = result["sources"][step["hierarchies"][0][2]]
    assert bound["source"] == "/sys/fs/cgroup/cpu,cpuacct/p/default/c1"
    assert bound["set"] & _libc.MOUNT_ATTR_RDONLY


def test_flags_and_data_are_told_apart() -> None:
    entry: Mount = {
        "destination": "/t",
        "type": "tmpfs",
        "options": ["ro", "rw", "nosuid", "size=1m", "mode=700", "rslave"],
    }
    step = steps(build(spec(mounts=[entry])), "mount")[-1]
    assert step["flags"] == _libc.MS_NOSUID
    assert step["data"] == "size=1m,mode=700"
    assert step["propagation"] == [_libc.MS_SLAVE | _libc.MS_REC]


def test_a_tmpfs_that_is_filled_is_closed_afterwards() -> None:
    entry: Mount = {"destination": "/t", "type": "tmpfs", "options": ["ro", "tmpcopyup"]}
    step = steps(build(spec(mounts=[entry])), "mount")[-1]
    assert (step["copy_up"], step["seal"], step["flags"]) == (True, True, 0)


def test_bind_options() -> None:
    result = build(spec(mounts=[bind("rbind", "ro", "rnosuid", "idmap", "rslave")]))
    made = source(result)
    assert made["recursive"]
    assert made["set"] == _libc.MOUNT_ATTR_RDONLY
    assert made["all_set"] == _libc.MOUNT_ATTR_NOSUID
    assert made["idmap"] == "container"
    assert steps(result, "bind")[0]["propagation"] == [mount.PROPAGATION["rslave"]]


def test_rw_does_not_open_what_the_host_has_closed() -> None:
    assert source(build(spec(mounts=[bind("bind", "rw")])))["clear"] == 0


def test_without_a_user_namespace_nothing_is_mapped() -> None:
    result = build(spec(mapped=False, mounts=[bind("bind", "idmap")]))
    assert result["maps"] is None
    assert source(result)["idmap"] is None
    assert not steps(result, "devices")[0]["bind"]


def test_a_map_of_the_mount_itself_wins() -> None:
    entry = bind("bind")
    entry["uidMappings"] = entry["gidMappings"] = [MAPPING]  # type: ignore[list-item]
    assert source(build(spec(mounts=[entry])))["idmap"]["uid"] == [[0, 100000, 65536]]


def test_unknown_bind_option() -> None:
    with pytest.raises(InvalidArgument, match="sometimes"):
        build(spec(mounts=[bind("bind", "sometimes")]))


def test_nodes_come_from_the_keeper_in_a_user_namespace() -> None:
    made = spec()
    fuse = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}
    made["linux"]["devices"] = [*defaults.DEFAULT_NODES, fuse]  # type: ignore[list-item]
    result = build(made)
    (step,) = steps(result, "devices")
    assert [node["target"] for node in step["nodes"]] == ["/dev/fuse"]
    assert result["sources"][step["nodes"][0]["slot"]]["node"]["minor"] == 229
    made["linux"].pop("uidMappings")
    made["linux"].pop("gidMappings")
    made["linux"]["namespaces"] = [{"type": "mount"}]
    assert "slot" not in steps(build(made), "devices")[0]["nodes"][0]


def test_a_bound_dev_is_left_alone() -> None:
    made = spec()
    made["mounts"] = [{**bind("rbind"), "destination": "/dev"}]
    assert not steps(build(made), "devices")


def test_ping_groups_stay_inside_the_map() -> None:
    values = steps(build(spec()), "sysctl")[0]["values"]
    assert values["net.ipv4.ping_group_range"] == "0 65535"
    values = steps(build(spec(mapped=False)), "sysctl")[0]["values"]
    assert values["net.ipv4.ping_group_range"] == "0 2147483647"


def test_joined_namespaces() -> None:
    made = spec()
    made["linux"]["namespaces"] = [{"type": "mount"}, {"type": "network", "path": "/proc/7/ns/net"}]
    result = build(made)
    assert result["namespaces"] == {"new": ["mount"], "join": {"network": "/proc/7/ns/net"}}
    assert [s["do"] for s in result["early"]] == ["sysctl"]  # neither links nor a host name


@pytest.mark.parametrize(
    ("namespaces", "error"),
    [
        ([{"type": "pid"}], Unsupported),
        ([{"type": "mount"}, {"type": "mount"}], InvalidArgument),
        ([{"type": "mount"}, {"type": "time"}], Unsupported),
    ],
)
def test_namespaces_that_cannot_be(namespaces: list[Any], error: type[Exception]) -> None:
    made = spec()
    made["linux"]["namespaces"] = namespaces
    with pytest.raises(error):
        build(made)


def test_a_user_namespace_needs_maps() -> None:
    made = spec()
    made["linux"].pop("uidMappings")
    with pytest.raises(InvalidArgument, match="come together"):
        build(made)
    made["linux"].pop("gidMappings")
    with pytest.raises(InvalidArgument, match="needs uidMappings"):
        build(made)


def test_init_goes_in_front() -> None:
    result = build(spec(), init=True)
    assert result["process"]["init"] == "/dev/.pannier/init"
    assert source(result)["source"] == "/usr/bin/tini-static"
    with pytest.raises(Unsupported, match="init"):
        plan.build(launch(spec(), init=True), plan.HostFacts())


def test_devices_of_the_default_parent_are_not_set_again() -> None:
    made = spec()
    made["linux"]["resources"] = {"devices": [{"allow": False}], "pids": {"limit": 5}}
    result = build(made, cgroup="pannier/default/c1")
    assert result["cgroup"]["resources"] == {"pids": {"limit": 5}}
    result = build(made, cgroup="pannier/custom/c1")
    assert "devices" in result["cgroup"]["resources"]
    assert build(made)["cgroup"] is None


def test_process() -> None:
    made = spec()
    made["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 5, "hard": (1 << 64) - 1}]
    process = build(made)["process"]
    assert process["env"] == {"PATH": "/bin", "A": "2"}
    assert process["rlimits"] == [[7, 5, -1, "RLIMIT_NOFILE"]]
    assert process["capabilities"]["bounding"] == 1
    assert process["capabilities"]["ambient"] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"args": []},
        {"rlimits": [{"type": "RLIMIT_HOPE", "soft": 1, "hard": 1}]},
        {"capabilities": {"bounding": ["CAP_FLY"]}},
    ],
)
def test_process_that_cannot_be(change: Any) -> None:
    made = spec()
    made["process"].update(change)
    with pytest.raises(InvalidArgument):
        build(made)


def test_exec_of_another_user_has_no_effective_capabilities() -> None:
    request = ExecRequest("c1", "e1", ["id"], capabilities=["CAP_CHOWN"], uid=33, gid=33)
    sets = plan.exec_plan(request)["capabilities"]
    assert (sets["bounding"], sets["effective"], sets["permitted"]) == (1, 0, 0)
    request = ExecRequest("c1", "e1", ["id"], capabilities=["CAP_CHOWN"])
    assert plan.exec_plan(request)["capabilities"]["effective"] == 1


def test_privileged_containers_may_open_nodes_they_make() -> None:
    made = spec(mapped=False)
    assert build(made)["rootfs"]["nodev"]
    made["process"]["capabilities"]["bounding"] = list(defaults.ALL_CAPABILITIES)
    assert not build(made)["rootfs"]["nodev"]


def test_describe() -> None:
    lines = [plan.describe(step) for step in build(spec())["steps"]]
    assert any(line.startswith("mount /proc type=proc") for line in lines)
    assert all("\n" not in line for line in lines)
