from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from struct import pack

import pytest

from pannier.network import dns
from pannier.network.forwarding import Forwarder, Upstreams, parse_servers
from pannier.network.polling import Poller

QUERY = pack(">6H", 7, 0x100, 1, 0, 0, 0) + dns.encode_name("a.example") + pack(">HH", 1, 1)


class Server:
    """Name servers on 127.0.0.1 (and .2) that answer each question with *answer* of it."""

    def __init__(self) -> None:
        while True:
            self.tcp = socket.create_server(("127.0.0.1", 0))
            self.port: int = self.tcp.getsockname()[1]
            self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                self.udp.bind(("127.0.0.1", self.port))
            except OSError:  # somebody has this number for the other protocol
                self.close()
            else:
                return

    def close(self) -> None:
        self.udp.close()
        self.tcp.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def ask(server: Server, servers: list[str], *, tcp: bool = False) -> bytes:
    poller = Poller()
    got: list[bytes] = []

    def deliver(answer: bytes) -> None:
        got.append(answer)
        poller.stop()

    poller.call_later(10, poller.stop)
    Forwarder(poller, server.port).forward(QUERY, servers, "10.0.0.2", deliver, tcp=tcp)
    if not got:
        poller.run()
    return got[0]


def answered(query: bytes, code: int = 0) -> bytes:
    return query[:2] + bytes([0x81, 0x80 | code]) + query[4:] + b"tail"


def test_an_answer_comes_back_under_the_askers_id(server: Server) -> None:
    def serve() -> None:
        query, peer = server.udp.recvfrom(999)
        assert query[2:] == QUERY[2:]
        server.udp.sendto(b"xx" + answered(query)[2:], peer)  # forged: the id is wrong
        server.udp.sendto(answered(query)[:-9] + b"other", peer)  # another question
        server.udp.sendto(answered(query), peer)

    thread = threading.Thread(target=serve)
    thread.start()
    assert ask(server, ["127.0.0.1"]) == answered(QUERY)
    thread.join()


def test_over_tcp_in_pieces(server: Server) -> None:
    def serve() -> None:
        connection, _ = server.tcp.accept()
        query = connection.recv(999)[2:]
        whole = pack(">H", len(answered(query))) + answered(query)
        for piece in (whole[:1], whole[1:9], whole[9:]):
            connection.sendall(piece)
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    assert ask(server, ["127.0.0.1"], tcp=True) == answered(QUERY)
    thread.join()


def test_the_next_server_is_asked_when_one_refuses(server: Server) -> None:
    def serve() -> None:
        for code in (dns.REFUSED, 0):
            query, peer = server.udp.recvfrom(999)
            server.udp.sendto(answered(query, code), peer)

    thread = threading.Thread(target=serve)
    thread.start()
    # Nobody listens on 127.0.0.9: that is known at once by the ICMP error.
    assert ask(server, ["127.0.0.9", "127.0.0.1", "127.0.0.1"]) == answered(QUERY)
    thread.join()


@pytest.mark.parametrize("tcp", [False, True])
def test_no_server_answers(server: Server, tcp: bool) -> None:
    server.close()
    for servers in ([], ["127.0.0.9"]):
        assert ask(server, servers, tcp=tcp)[3] & 15 == dns.SERVFAIL


def test_one_asker_cannot_use_up_everything(server: Server) -> None:
    forwarder = Forwarder(Poller(), server.port)
    answers: list[bytes] = []
    for _ in range(300):
        forwarder.forward(QUERY, ["127.0.0.1"], "10.0.0.2", answers.append)
    assert len(answers) == 300 - 256
    forwarder.forward(QUERY, ["127.0.0.1"], "10.0.0.3", answers.append)
    assert len(answers) == 300 - 256


def test_resolv_conf_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "resolv.conf"
    monkeypatch.setattr("pannier.network.forwarding._REREAD_S", 0.0)
    upstreams = Upstreams(str(path))
    assert upstreams.servers(set()) == []
    path.write_text("nameserver 10.1.1.1\nnameserver 172.18.0.1\n")
    assert upstreams.servers({"172.18.0.1"}) == ["10.1.1.1"]
    fresh = tmp_path / "new"
    fresh.write_text("nameserver 10.2.2.2\n")
    fresh.rename(path)
    assert upstreams.servers(set()) == ["10.2.2.2"]


def test_resolv_conf_lines() -> None:
    text = "# x\nnameserver 1.1.1.1\nnameserver\nnameserver nonsense\n nameserver fe80::1%eth0\n"
    assert parse_servers(text) == ["1.1.1.1", "fe80::1"]
