"""Users from image files, mount wishes, limits, id ranges, events, filters."""

from __future__ import annotations

import asyncio

import pytest

from pannier.base.database import Database
from pannier.base.errors import Conflict, InvalidArgument, NotFound, Unavailable
from pannier.base.instance import Instance
from pannier.engine import idranges, mounts, resources, users
from pannier.engine.events import EventBus
from pannier.engine.store import ContainerStore
from pannier.engine.volumes import Volumes
from pannier.oci.image import ContainerDefaults
from pannier.wire import containers as wire

PASSWD = "root:x:0:0:root:/root:/bin/bash\nwww:x:33:33::/var/www:/usr/sbin/nologin\n"
GROUP = "root:x:0:\nwww:x:33:\nextra:x:44:www,other\n"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return [str(tmp_path)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (0, 0, (), "/root")),
        ("www", (33, 33, (44,), "/var/www")),
        ("33", (33, 33, (44,), "/var/www")),
        ("www:extra", (33, 44, (), "/var/www")),
        ("1234", (1234, 0, (), "/")),
        ("1234:77", (1234, 77, (), "/")),
    ],
)
def test_users(root, text, expected):
    user = users.resolve(text, [], root)
    assert (user.uid, user.gid, user.groups, user.home) == expected


def test_unknown_names(root):
    with pytest.raises(InvalidArgument, match="unable to find user nobody"):
        users.resolve("nobody", [], root)
    with pytest.raises(InvalidArgument, match="unable to find group none"):
        users.resolve("www:none", [], root)
    assert users.resolve("www", ["extra", "5"], root).groups == (44, 5)


def test_passwd_that_is_a_link_out_of_the_layer_is_not_read(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").symlink_to("/etc/passwd")
    with pytest.raises(InvalidArgument, match="unable to find user daemon"):
        users.resolve("daemon", [], [str(tmp_path)])


@pytest.fixture
def volumes(tmp_path):
    instance = Instance("t", tmp_path / "data", tmp_path / "run")
    instance.make_directories()
    return Volumes(Database(":memory:"), instance, EventBus(), lambda _name: [])


def resolve(volumes, *, binds=(), tmpfs=None, wanted=(), image=None, config=None):
    host = wire.HostConfig(binds=list(binds), tmpfs=tmpfs or {}, mounts=list(wanted))
    defaults = ContainerDefaults(volumes=image)
    return mounts.resolve(config or wire.ContainerConfig(), host, defaults, volumes, lambda r: None)


def test_volume_and_bind_and_tmpfs(volumes, tmp_path):
    points = resolve(
        volumes,
        binds=["data:/var/lib/x:ro", f"{tmp_path}/new:/srv"],
        tmpfs={"/scratch": "size=1m,exec"},
        image={"/anon": {}},
    )
    by_place = {p.destination: p for p in points}
    assert by_place["/var/lib/x"].name == "data"
    assert not by_place["/var/lib/x"].writable
    assert (tmp_path / "new").is_dir()
    assert by_place["/scratch"].options == ("nosuid", "nodev", "size=1m", "exec")
    assert by_place["/anon"].anonymous
    assert [m["destination"] for m in mounts.to_oci(points)][-1] == "/var/lib/x"


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"binds": ["onlyone"]}, "invalid volume specification"),
        ({"binds": ["/a:b"]}, "must be absolute"),
        ({"binds": ["/a:/b:what"]}, "invalid mode"),
        ({"binds": ["../a:/b"]}, "invalid characters"),
        ({"binds": ["/a:/"]}, "can't be '/'"),
        ({"tmpfs": {"/t": "bogus=1"}}, "invalid tmpfs option"),
        ({"wanted": [wire.Mount(type="bind", source="/no/such", target="/x")]}, "does not exist"),
        ({"wanted": [wire.Mount(type="weird", target="/x")]}, "mount type unknown"),
    ],
)
def test_bad_mounts(volumes, wish, message):
    with pytest.raises(InvalidArgument, match=message):
        resolve(volumes, **wish)


def test_limits():
    oci = resources.to_oci(wire.HostConfig(memory=64 << 20, nano_cpus=500_000_000, pids_limit=10))
    assert oci["memory"] == {"limit": 64 << 20, "swap": 128 << 20}
    assert oci["cpu"] == {"period": 100_000, "quota": 50_000}
    assert oci["pids"] == {"limit": 10}
    assert resources.to_oci(wire.HostConfig()) == {}
    with pytest.raises(InvalidArgument, match="6MB"):
        resources.check(wire.HostConfig(memory=1024))
    with pytest.raises(InvalidArgument, match="Range of CPUs"):
        resources.check(wire.HostConfig(nano_cpus=10**15))


def test_update_keeps_what_is_not_named():
    host = wire.HostConfig(memory=64 << 20, memory_swap=128 << 20, cpu_shares=5)
    changed = resources.merged(host, wire.UpdateBody(nano_cpus=10**9))
    assert (changed.memory, changed.cpu_shares, changed.nano_cpus) == (64 << 20, 5, 10**9)
    with pytest.raises(InvalidArgument, match="memoryswap"):
        resources.merged(host, wire.UpdateBody(memory=256 << 20))


def test_id_ranges_do_not_overlap_and_come_back(tmp_path):
    granted = tmp_path / "subuid"
    ranges = idranges.IdRanges(Database(":memory:"), (granted,))
    first, second = ranges.allocate("a"), ranges.allocate("b")
    assert abs(first - second) >= idranges.RANGE
    granted.write_text(f"user:{second + 5}:10\n")
    again = idranges.IdRanges(Database(":memory:"), (granted,))
    assert second not in {again.allocate("x"), again.allocate("y")}


def test_id_ranges_run_out(monkeypatch):
    monkeypatch.setattr(idranges, "_RANGES", 1)
    ranges = idranges.IdRanges(Database(":memory:"), ())
    ranges.allocate("a")
    with pytest.raises(Unavailable):
        ranges.allocate("b")
    ranges.release("a")
    ranges.allocate("b")


async def test_events_past_and_live():
    bus = EventBus()
    bus.publish("container", "start", "1")
    seen = []

    async def listen():
        async for event in bus.subscribe(since_ns=0):
            seen.append(event.action)
            if event.action == "die":
                return

    task = asyncio.create_task(listen())
    while len(seen) < 1:
        await asyncio.sleep(0)
    bus.publish("container", "die", "1")
    await task
    assert seen == ["start", "die"]


def test_store_finds_by_prefix():
    store = ContainerStore(Database(":memory:"))
    with pytest.raises(NotFound, match="No such container: x"):
        store.get("x")
    assert len(store) == 0
    store.check_free("free")
    assert not [c for c in store if isinstance(c, Conflict)]
