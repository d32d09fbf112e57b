"""Networks with real namespaces: reach, isolation, names, published ports, neighbours, tidiness."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import netlab
import pytest
from netlab import Box, client, sh

from pannier.base.database import Database
from pannier.base.errors import Conflict, Denied, NotFound, Unsupported
from pannier.base.instance import Instance
from pannier.network.manager import NetworkManager
from pannier.network.model import (
    AttachRequest,
    Endpoint,
    EndpointRequest,
    NetworkRequest,
    PortRequest,
    Subnet,
)
from pannier.runtime import netsetup

RESOLVER = "127.0.0.11"
UPSTREAM = "127.0.0.77"


@pytest.fixture
def boxes() -> Iterator[list[Box]]:
    made: list[Box] = []
    with netlab.host_of_its_own():
        try:
            yield made
        finally:
            for box in made:
                box.end()


@pytest.fixture
def home(tmp_path: Path) -> Instance:
    made = Instance("pn-h2", tmp_path / "data", tmp_path / "run")
    made.make_directories()
    return made


@pytest.fixture
async def manager(boxes: list[Box], home: Instance) -> AsyncIterator[NetworkManager]:
    (home.data / "resolv.conf").write_text(f"nameserver {UPSTREAM}\n")
    database = Database(home.database)
    made = NetworkManager(database, home, resolv_conf=home.data / "resolv.conf")
    await made.start()
    try:
        yield made
    finally:
        await made.purge()
        database.close()


@pytest.fixture
def names(manager: NetworkManager, home: Instance) -> Iterator[None]:
    with netlab.resolver(home, home.data / "resolv.conf"):
        gateway = manager.get("bridge").subnet.gateway
        for _ in range(50):
            if client("dns", gateway, "nobody", "A") == {"code": 3, "answers": []}:
                break
        yield


async def start(
    manager: NetworkManager,
    boxes: list[Box],
    name: str,
    *networks: str,
    aliases: tuple[str, ...] = (),
) -> Box:
    box = Box()
    boxes.append(box)
    wishes = {network: EndpointRequest(aliases=aliases) for network in networks or ("bridge",)}
    box.plug(await manager.attach(AttachRequest(box.id, name, wishes)))
    manager.announce(box.id)
    return box


def place(manager: NetworkManager, box: Box, network: str = "bridge") -> Endpoint:
    return next(e for e in manager.endpoints(box.id) if e.network_name == network)


def address(manager: NetworkManager, box: Box, network: str = "bridge") -> str:
    return place(manager, box, network).address


def outside(boxes: list[Box]) -> Box:
    box = Box()
    boxes.append(box)
    netlab.plug_outside(box)
    return box


# ------------------------------------------------------------------ reach


async def test_containers_reach_each_other_and_see_true_addresses(
    manager: NetworkManager, boxes: list[Box]
) -> None:
    a = await start(manager, boxes, "a")
    b = await start(manager, boxes, "b")
    with b.serving("tcp", 80, "b"):
        got = a.client("ask", "tcp", address(manager, b), 80)
    assert got == {"text": "b", "peer": address(manager, a)}


async def test_containers_reach_the_world_masqueraded(
    manager: NetworkManager, boxes: list[Box]
) -> None:
    world = outside(boxes)
    a = await start(manager, boxes, "a")
    with world.serving("tcp", 80, "world"):
        got = a.client("ask", "tcp", netlab.OUTSIDE, 80)
    assert got == {"text": "world", "peer": netlab.OUTSIDE_HOST}


async def test_the_world_does_not_reach_unpublished_ports(
    manager: NetworkManager, boxes: list[Box]
) -> None:
    world = outside(boxes)
    a = await start(manager, boxes, "a")
    with a.serving("tcp", 80, "a"):
        got = world.client("ask", "tcp", address(manager, a), 80)
    assert got == {"error": "timeout"}


async def test_networks_are_isolated(manager: NetworkManager, boxes: list[Box]) -> None:
    await manager.create(NetworkRequest("other"))
    a = await start(manager, boxes, "a")
    b = await start(manager, boxes, "b", "other")
    with b.serving("tcp", 80, "b"):
        got = a.client("ask", "tcp", address(manager, b, "other"), 80)
    assert got == {"error": "timeout"}


async def test_internal_networks_have_no_way_out(
    manager: NetworkManager, boxes: list[Box], names: None
) -> None:
    world = outside(boxes)
    await manager.create(NetworkRequest("inner", internal=True))
    a = await start(manager, boxes, "a", "inner")
    b = await start(manager, boxes, "b", "inner")
    with world.serving("tcp", 80, "world"), b.serving("tcp", 80, "b"):
        assert a.client("ask", "tcp", netlab.OUTSIDE, 80) == {"error": "Network is unreachable"}
        gateway = manager.get("inner").subnet.gateway
        a.run(f"ip route add default via {gateway}")
        assert a.client("ask", "tcp", netlab.OUTSIDE, 80) == {"error": "timeout"}
        assert a.client("ask", "tcp", address(manager, b, "inner"), 80)["text"] == "b"
    assert a.client("dns", RESOLVER, "b", "A")["answers"] == [address(manager, b, "inner")]
    refused = 5
    assert a.client("dns", RESOLVER, "example.com", "A")["code"] == refused


async def test_a_container_does_not_reach_the_hosts_loopback(
    manager: NetworkManager, boxes: list[Box]
) -> None:
    a = await start(manager, boxes, "a")
    a.run("sysctl -qw net.ipv4.conf.eth0.route_localnet=1")
    a.run("ip addr flush dev lo")
    a.run(f"ip route add 127.0.0.1/32 via {manager.get('bridge').subnet.gateway}")
    with netlab.host_serving("tcp", 5555, "secret", "127.0.0.1"):
        assert a.client("ask", "tcp", "127.0.0.1", 5555) == {"error": "timeout"}


# ------------------------------------------------------------------ published ports


@pytest.mark.parametrize("kind", ["tcp", "udp"])
async def test_published_ports_answer_from_everywhere(
    manager: NetworkManager, boxes: list[Box], kind: str
) -> None:
    world = outside(boxes)
    a = await start(manager, boxes, "a")
    b = await start(manager, boxes, "b")
    port = (await manager.publish(a.id, [PortRequest(80, kind)]))[0].host_port
    with a.serving(kind, 80, "a"):
        got = world.client("ask", kind, netlab.OUTSIDE_HOST, port)
        assert got == {"text": "a", "peer": netlab.OUTSIDE}
        assert client("ask", kind, "127.0.0.1", port)["text"] == "a"
        assert client("ask", kind, netlab.OUTSIDE_HOST, port)["text"] == "a"
        assert b.client("ask", kind, netlab.OUTSIDE_HOST, port)["text"] == "a"
        assert a.client("ask", kind, netlab.OUTSIDE_HOST, port)["text"] == "a"
        await manager.unpublish(a.id)
        assert world.client("ask", kind, netlab.OUTSIDE_HOST, port).get("text") is None


async def test_a_port_on_loopback_stays_there(manager: NetworkManager, boxes: list[Box]) -> None:
    world = outside(boxes)
    a = await start(manager, boxes, "a")
    await manager.publish(a.id, [PortRequest(80, "tcp", "127.0.0.1", "8080")])
    with a.serving("tcp", 80, "a"):
        assert client("ask", "tcp", "127.0.0.1", 8080)["text"] == "a"
        assert "error" in world.client("ask", "tcp", netlab.OUTSIDE_HOST, 8080)
        assert "error" in client("ask", "tcp", netlab.OUTSIDE_HOST, 8080)


async def test_ports_in_use_are_refused(manager: NetworkManager, boxes: list[Box]) -> None:
    a = await start(manager, boxes, "a")
    b = await start(manager, boxes, "b")
    wish = [PortRequest(80, "tcp", "", "8080")]
    await manager.publish(a.id, wish)
    with pytest.raises(Conflict, match=r"Bind for 0\.0\.0\.0:8080 failed: port is already alloc"):
        await manager.publish(b.id, wish)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="Address already in use"):
            sock.bind(("0.0.0.0", 8080))
    await manager.release(a.id)
    await manager.publish(b.id, wish)
    with netlab.host_serving("tcp", 8081, "host"), pytest.raises(Conflict, match="already alloc"):
        await manager.publish(b.id, [PortRequest(80, "tcp", "", "8081")])


async def test_a_new_container_takes_over_a_udp_flow(
    manager: NetworkManager, boxes: list[Box]
) -> None:
    wish = [PortRequest(99, "udp", "", "9999")]
    a = await start(manager, boxes, "a")
    b = await start(manager, boxes, "b")
    await manager.publish(a.id, wish)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flow:
        flow.settimeout(2)
        flow.connect(("127.0.0.1", 9999))
        with a.serving("udp", 99, "a"), b.serving("udp", 99, "b"):
            flow.send(b"?")
            assert b'"a"' in flow.recv(100)
            await manager.unpublish(a.id)
            await manager.publish(b.id, wish)
            flow.send(b"?")
            assert b'"b"' in flow.recv(100)


async def test_ports_work_on_with_the_daemon_gone_and_are_held_again(
    manager: NetworkManager, boxes: list[Box], home: Instance
) -> None:
    a = await start(manager, boxes, "a")
    await manager.publish(a.id, [PortRequest(80, "tcp", "", "8080")])
    await manager.stop()
    with a.serving("tcp", 80, "a"):
        assert client("ask", "tcp", "127.0.0.1", 8080)["text"] == "a"
        await manager.start()
        assert client("ask", "tcp", "127.0.0.1", 8080)["text"] == "a"
    b = await start(manager, boxes, "b")
    with pytest.raises(Conflict):
        await manager.publish(b.id, [PortRequest(80, "tcp", "", "8080")])


# ------------------------------------------------------------------ names


async def test_names_addresses_and_order(
    manager: NetworkManager, boxes: list[Box], names: None
) -> None:
    a = await start(manager, boxes, "a")
    replicas = [await start(manager, boxes, f"web-{n}", aliases=("web",)) for n in (1, 2, 3)]
    wanted = [address(manager, box) for box in replicas]
    first = a.client("dns", RESOLVER, "web", "A")["answers"]
    second = a.client("dns", RESOLVER, "WEB", "A", "tcp")["answers"]
    assert sorted(first) == sorted(second) == sorted(wanted)
    assert first != second
    assert a.client("dns", RESOLVER, "web-2", "A")["answers"] == [wanted[1]]
    assert a.client("dns", RESOLVER, replicas[0].id[:12], "A")["answers"] == [wanted[0]]
    assert a.client("dns", RESOLVER, "web", "AAAA") == {"code": 0, "answers": []}
    reverse = ".".join(reversed(wanted[0].split("."))) + ".in-addr.arpa"
    assert a.client("dns", RESOLVER, reverse, "PTR")["answers"] == ["web-1.bridge"]
    nxdomain = 3
    assert a.client("dns", RESOLVER, "nobody", "A") == {"code": nxdomain, "answers": []}
    manager.withdraw(replicas[0].id)
    assert a.client("dns", RESOLVER, "web-1", "A")["code"] == nxdomain
    assert sorted(a.client("dns", RESOLVER, "web", "A")["answers"]) == sorted(wanted[1:])


async def test_names_are_seen_on_own_networks_only(
    manager: NetworkManager, boxes: list[Box], names: None
) -> None:
    await manager.create(NetworkRequest("front"))
    await manager.create(NetworkRequest("back"))
    web = await start(manager, boxes, "web", "front")
    app = await start(manager, boxes, "app", "front", "back")
    data = await start(manager, boxes, "db", "back")
    found = app.client("dns", RESOLVER, "db", "A")["answers"]
    assert found == [address(manager, data, "back")]
    assert app.client("dns", RESOLVER, "db.back", "A")["answers"] == found
    assert web.client("dns", RESOLVER, "db", "A")["answers"] == []
    assert web.client("dns", RESOLVER, "app", "A")["answers"] == [address(manager, app, "front")]


async def test_other_names_are_forwarded(
    manager: NetworkManager, boxes: list[Box], names: None
) -> None:
    a = await start(manager, boxes, "a")
    with netlab.host_serving("dns", 53, "203.0.113.7", UPSTREAM):
        assert a.client("dns", RESOLVER, "example.com", "A")["answers"] == ["203.0.113.7"]
    servfail = 2
    assert a.client("dns", RESOLVER, "example.com", "A") == {"code": servfail, "answers": []}


async def test_the_resolver_survives_garbage(
    manager: NetworkManager, boxes: list[Box], names: None
) -> None:
    gateway = manager.get("bridge").subnet.gateway
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for size in range(200):
            sock.sendto(os.urandom(size), (gateway, 53))
            sock.sendto(b"\0\1\1\0\0\1\0\0\0\0\0\0" + os.urandom(size), (gateway, 53))
    with socket.create_connection((gateway, 53)) as stream:
        stream.sendall(os.urandom(5000))
    a = await start(manager, boxes, "a")
    assert a.client("dns", RESOLVER, "a", "A")["answers"] == [address(manager, a)]


# ------------------------------------------------------------------ live changes


async def test_connect_and_disconnect_while_running(
    manager: NetworkManager, boxes: list[Box], names: None
) -> None:
    await manager.create(NetworkRequest("other"))
    a = await start(manager, boxes, "a")
    b = await start(manager, boxes, "b", "other")
    a.plug(await manager.connect(AttachRequest(a.id, "a", {"other": EndpointRequest()})))
    with b.serving("tcp", 80, "b"):
        got = a.client("ask", "tcp", address(manager, b, "other"), 80)
    assert got["peer"] == address(manager, a, "other")
    assert a.client("dns", RESOLVER, "b", "A")["answers"] == [address(manager, b, "other")]
    gone = await manager.disconnect(a.id, "bridge")
    netsetup.disconnect([gone.host], a.pid, gone.remaining)
    assert "eth0" not in a.run("ip -br link")
    assert manager.get("other").subnet.gateway in a.run("ip route show default")
    assert a.client("dns", RESOLVER, "b", "A")["answers"] == [address(manager, b, "other")]
    with pytest.raises(Conflict, match="not connected"):
        await manager.disconnect(a.id, "bridge")


async def test_a_container_keeps_its_address_over_a_restart(
    manager: NetworkManager, boxes: list[Box]
) -> None:
    a = await start(manager, boxes, "a")
    before = place(manager, a)
    await manager.detach(a.id)
    await start(manager, boxes, "b")
    request = AttachRequest(a.id, "a", {"bridge": EndpointRequest()})
    await manager.attach(request)
    after = place(manager, a)
    assert (after.address, after.mac, after.id) == (before.address, before.mac, before.id)
    assert after.host != before.host


async def test_wanted_addresses(manager: NetworkManager, boxes: list[Box]) -> None:
    subnet = Subnet("10.99.0.0/24", "10.99.0.254", "10.99.0.128/25")
    await manager.create(NetworkRequest("fixed", subnets=(subnet,)))
    wish = {"fixed": EndpointRequest(address="10.99.0.5", mac="02:00:00:00:00:05")}
    box = Box()
    boxes.append(box)
    box.plug(await manager.attach(AttachRequest(box.id, "a", wish)))
    assert "10.99.0.5/24" in box.run("ip -br addr show eth0")
    assert "02:00:00:00:00:05" in box.run("ip -br link show eth0")
    with pytest.raises(Conflict, match="Address already in use"):
        await manager.attach(AttachRequest("f" * 64, "b", wish))
    picked = await manager.attach(AttachRequest("e" * 64, "c", {"fixed": EndpointRequest()}))
    assert picked[0]["addresses"] == ["10.99.0.128/24"]


# ------------------------------------------------------------------ networks as objects


async def test_networks_are_made_and_removed(manager: NetworkManager, boxes: list[Box]) -> None:
    made = await manager.create(NetworkRequest("n1", labels={"a": "b"}))
    assert manager.get("n1") == manager.get(made.id[:10]) == made
    with pytest.raises(Conflict, match="network with name n1 already exists"):
        await manager.create(NetworkRequest("n1"))
    with pytest.raises(Conflict, match="Pool overlaps"):
        await manager.create(NetworkRequest("n2", subnets=(made.subnet,)))
    with pytest.raises(Unsupported):
        await manager.create(NetworkRequest("n2", driver="overlay"))
    box = await start(manager, boxes, "a", "n1")
    with pytest.raises(Denied, match="has active endpoints"):
        await manager.remove("n1")
    assert list(await manager.prune()) == []
    await manager.release(box.id)
    assert [n.name for n in await manager.prune()] == ["n1"]
    with pytest.raises(NotFound, match="network n1 not found"):
        manager.get("n1")
    with pytest.raises(Denied, match="pre-defined"):
        await manager.remove("bridge")
    assert made.bridge not in sh("ip -br link")


async def test_everything_is_found_again_and_stale_bridges_go(
    manager: NetworkManager, boxes: list[Box], home: Instance
) -> None:
    await manager.create(NetworkRequest("n1"))
    before = manager.list()
    prefix = manager.get("n1").bridge[:7]
    sh(f"ip link add {prefix}stale type bridge")
    sh(f"ip link del {manager.get('n1').bridge}")
    await manager.stop()
    await manager.start()
    assert manager.list() == before
    present = sh("ip -br link")
    assert manager.get("n1").bridge in present
    assert f"{prefix}stale" not in present


# ------------------------------------------------------------------ other rule sets


async def eventually(condition: object) -> None:
    for _ in range(60):
        if condition():  # type: ignore[operator]
            return
        await asyncio.sleep(0.1)
    raise AssertionError("did not happen")


async def test_a_flushed_table_comes_back(manager: NetworkManager, boxes: list[Box]) -> None:
    a = await start(manager, boxes, "a")
    await manager.publish(a.id, [PortRequest(80, "tcp", "", "8080")])
    sh("nft flush ruleset")
    await eventually(lambda: "8080" in sh("nft list ruleset"))
    with a.serving("tcp", 80, "a"):
        assert client("ask", "tcp", "127.0.0.1", 8080)["text"] == "a"


async def test_beside_docker(manager: NetworkManager, boxes: list[Box], names: None) -> None:
    """The chains as dockerd 20 makes them, made again as on its restart."""
    world = outside(boxes)
    a = await start(manager, boxes, "a")
    b = await start(manager, boxes, "b")
    await manager.publish(a.id, [PortRequest(80, "tcp", "", "8080")])
    docker = (
        "iptables -P FORWARD DROP; iptables -N DOCKER-USER; iptables -A DOCKER-USER -j RETURN;"
        "iptables -I FORWARD -j DOCKER-USER; iptables -P INPUT DROP;"
        "iptables -A INPUT -i lo -j ACCEPT;"
        "iptables -A INPUT -m state --state ESTABLISHED,RELATED -j ACCEPT"
    )
    for _ in range(2):
        sh(docker)
        await eventually(lambda: sh("iptables -S").count("pannier pn-h2") == 4)
        with world.serving("tcp", 80, "world"), a.serving("tcp", 80, "a"):
            assert a.client("ask", "tcp", netlab.OUTSIDE, 80)["text"] == "world"
            assert world.client("ask", "tcp", netlab.OUTSIDE_HOST, 8080)["text"] == "a"
            assert b.client("ask", "tcp", address(manager, a), 80)["text"] == "a"
        assert a.client("dns", RESOLVER, "b", "A")["answers"] == [address(manager, b)]
        sh("iptables -F; iptables -X; iptables -P INPUT ACCEPT; iptables -P FORWARD ACCEPT")
    sh(docker)
    await eventually(lambda: sh("iptables -S").count("pannier pn-h2") == 4)
    assert manager.exposure(manager.endpoints(a.id)[0].published)
    await manager.purge()
    assert "pannier" not in sh("iptables-save")


_WORKSTATION = """
table inet filter {
    chain input {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        iifname "lo" accept
    }
    chain forward {
        type filter hook forward priority 0; policy drop;
    }
}
"""


async def test_beside_an_nftables_firewall(
    manager: NetworkManager, boxes: list[Box], home: Instance, names: None
) -> None:
    """The example of Debian's nftables package, with drop policies."""
    world = outside(boxes)
    a = await start(manager, boxes, "a")
    (home.data / "nftables.conf").write_text(_WORKSTATION)
    sh(f"nft -f {home.data / 'nftables.conf'}")
    await eventually(lambda: sh("nft list table inet filter").count("pannier pn-h2") == 4)
    with world.serving("tcp", 80, "world"):
        assert a.client("ask", "tcp", netlab.OUTSIDE, 80)["text"] == "world"
    assert a.client("dns", RESOLVER, "a", "A")["answers"] == [address(manager, a)]
    await manager.purge()
    assert "pannier" not in sh("nft list ruleset")


async def test_nothing_is_left(boxes: list[Box], home: Instance) -> None:
    before = sh("ip -o link; ip -o addr; ip route; nft list ruleset")
    database = Database(home.database)
    manager = NetworkManager(database, home, resolv_conf=home.data / "none")
    await manager.start()
    await manager.create(NetworkRequest("n1"))
    a = await start(manager, boxes, "a", "n1", "bridge")
    await manager.publish(a.id, [PortRequest(80)])
    await manager.release(a.id)
    a.end()
    await manager.purge()
    database.close()
    assert [p.name for p in home.zones.iterdir()] == ["boot_id"]

    async def vanished() -> bool:
        return sh("ip -o link; ip -o addr; ip route; nft list ruleset") == before

    for _ in range(50):
        if await vanished():
            return
        await asyncio.sleep(0.1)
    assert await vanished()
