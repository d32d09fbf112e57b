from __future__ import annotations

import socket

import pytest

from pannier.base.errors import Conflict, InvalidArgument, Unsupported
from pannier.network.model import PortRequest, PublishedPort
from pannier.network.ports import PortTable, host_address, port_range


@pytest.fixture
def table() -> PortTable:
    return PortTable()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", (0, 0)), ("0", (0, 0)), ("8080", (8080, 8080)), ("8000-8010", (8000, 8010))],
)
def test_port_ranges(text: str, expected: tuple[int, int]) -> None:
    assert port_range(text) == expected


@pytest.mark.parametrize("text", ["x", "80-", "-80", "9-8", "65536", "80-70000", "1.5", "٣"])
def test_bad_port_ranges(text: str) -> None:
    with pytest.raises(InvalidArgument):
        port_range(text)


def test_host_addresses() -> None:
    assert host_address("") == "0.0.0.0"
    assert host_address("127.0.0.1") == "127.0.0.1"
    with pytest.raises(InvalidArgument):
        host_address("localhost")
    with pytest.raises(Unsupported, match="IPv6"):
        host_address("[::1]")


def test_a_held_port_is_taken_for_everybody(table: PortTable) -> None:
    port = free_port()
    wish = PortRequest(80, "tcp", "127.0.0.1", str(port))
    assert table.hold("a", [wish]) == [PublishedPort(80, "tcp", "127.0.0.1", port)]
    with pytest.raises(Conflict, match=f"127.0.0.1:{port} failed: port is already alloc") as error:
        table.hold("b", [wish])
    assert error.value.hint is not None
    assert "another container" in error.value.hint
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            sock.bind(("127.0.0.1", port))
            sock.listen()
    table.release("a")
    assert table.hold("b", [wish])
    table.release_all()


def test_all_or_none(table: PortTable) -> None:
    one, two = free_port(), free_port()
    wishes = [PortRequest(n, "tcp", "127.0.0.1", str(p)) for n, p in ((1, one), (2, two))]
    table.hold("a", wishes[1:])
    with pytest.raises(Conflict):
        table.hold("b", wishes)
    assert table.hold("c", wishes[:1])
    table.release_all()


def test_a_program_in_the_way_is_told_apart(table: PortTable) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        with pytest.raises(Conflict) as error:
            table.hold("a", [PortRequest(80, "tcp", "127.0.0.1", str(port))])
    assert error.value.hint is not None
    assert "a program on this host" in error.value.hint


def test_closed_connections_are_not_in_the_way(table: PortTable) -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = server.getsockname()
        client = socket.create_connection(address)
        connection, _ = server.accept()
        connection.close()  # the side that closes first stays in TIME_WAIT
        client.recv(1)
        client.close()
    assert table.hold("a", [PortRequest(80, "tcp", "127.0.0.1", str(address[1]))])
    table.release_all()


def test_a_range_gives_the_first_free_one(table: PortTable) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        wish = PortRequest(80, "tcp", "127.0.0.1", f"{port}-{port + 20}")
        got = table.hold("a", [wish])[0]
    assert port < got.host_port <= port + 20
    table.release_all()


def test_any_port(table: PortTable) -> None:
    got = table.hold("a", [PortRequest(53, "udp"), PortRequest(80)])
    assert [p.protocol for p in got] == ["udp", "tcp"]
    assert all(p.host_ip == "0.0.0.0" and p.host_port for p in got)
    table.release_all()


def test_after_a_restart_lost_ports_are_named(table: PortTable) -> None:
    mine, lost = free_port(), free_port()
    ports = [PublishedPort(1, "tcp", "127.0.0.1", p) for p in (mine, lost)]
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", lost))
        sock.listen()
        assert table.hold_again("a", ports) == [ports[1]]
    table.release_all()


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        (PortRequest(80, "sctp"), Unsupported),
        (PortRequest(0), InvalidArgument),
        (PortRequest(80, "tcp", "192.0.2.200", "8080"), InvalidArgument),
    ],
)
def test_bad_wishes(table: PortTable, wish: PortRequest, error: type[Exception]) -> None:
    with pytest.raises(error):
        table.hold("a", [wish])
