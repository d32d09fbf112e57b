from __future__ import annotations

from pathlib import Path
from struct import pack, unpack_from
from typing import TYPE_CHECKING

import pytest

from pannier.network import dns
from pannier.network.forwarding import Forwarder, Upstreams
from pannier.network.polling import Poller
from pannier.network.resolver import Resolver, main
from pannier.network.zones import Names, write_zone

if TYPE_CHECKING:
    from pannier.network.zones import Zone

GATEWAY, WEB, STRANGER = "10.0.1.1", "10.0.1.2", "10.0.9.9"


class Forwarded(Forwarder):
    """Remembers who was asked; answers nothing."""

    asked: list[tuple[list[str], bool]]

    def forward(self, data, servers, source, deliver, *, tcp=False):  # type: ignore[no-untyped-def]
        self.asked.append((list(servers), tcp))


def zone(**changes: object) -> Zone:
    made = {
        "v": 1,
        "network": "front",
        "gateway": GATEWAY,
        "subnet": "10.0.1.0/24",
        "internal": False,
        "members": {WEB: {"id": "w", "name": "web", "dns": []}},
        "names": {"web": [WEB], "many": [f"10.0.1.{n}" for n in range(3, 203)]},
    }
    return {**made, **changes}  # type: ignore[typeddict-item, return-value]


class Lab:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "resolv.conf").write_text("nameserver 192.0.2.53\n")
        self.names = Names(str(directory))
        self.poller = Poller()
        self.forwarder = Forwarded(self.poller)
        self.forwarder.asked = []
        upstreams = Upstreams(str(directory / "resolv.conf"))
        self.resolver = Resolver(self.poller, self.names, upstreams, self.forwarder)
        self.put(zone())

    def put(self, content: Zone) -> None:
        write_zone(self.directory, "f", content)
        self.names.load_all()

    def ask(self, name: str, kind: int = dns.A, source: str = WEB, *, tcp: bool = False) -> bytes:
        """The answer, empty if there is none."""
        data = pack(">6H", 7, 0x100, 1, 0, 0, 0) + dns.encode_name(name) + pack(">HH", kind, 1)
        got: list[bytes] = []
        handle = self.resolver.handle_stream if tcp else self.resolver.handle
        handle(data, GATEWAY, source, got.append)
        return got[0] if got else b""


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def counts(answer: bytes) -> tuple[int, int]:
    """(response code, number of answers)"""
    _, flags, _, answers = unpack_from(">4H", answer)
    return flags & 15, answers


def test_names(lab: Lab) -> None:
    assert counts(lab.ask("web")) == (dns.NOERROR, 1)
    assert lab.ask("web").endswith(bytes([10, 0, 1, 2]))
    assert counts(lab.ask("web", dns.AAAA)) == (dns.NOERROR, 0)
    assert counts(lab.ask("nobody")) == (dns.NXDOMAIN, 0)
    assert counts(lab.ask("localhost")) == (dns.NOERROR, 1)
    assert counts(lab.ask("2.1.0.10.in-addr.arpa", dns.PTR)) == (dns.NOERROR, 1)
    assert counts(lab.ask("9.1.0.10.in-addr.arpa", dns.PTR)) == (dns.NXDOMAIN, 0)
    assert lab.forwarder.asked == []


def test_many_replicas_need_tcp(lab: Lab) -> None:
    cut = lab.ask("many")
    assert len(cut) <= 512
    assert cut[2] & 2
    assert counts(lab.ask("many", tcp=True)) == (dns.NOERROR, 200)


def test_strangers_get_silence(lab: Lab) -> None:
    assert lab.ask("web", source=STRANGER) == b""
    assert lab.ask("example.com", source=STRANGER) == b""
    assert lab.forwarder.asked == []


def test_the_rest_is_forwarded(lab: Lab) -> None:
    lab.ask("example.com")
    lab.ask("1.1.1.1.in-addr.arpa", dns.PTR, tcp=True)
    lab.put(zone(members={WEB: {"id": "w", "name": "web", "dns": ["192.0.2.99"]}}))
    lab.ask("example.com")
    assert lab.forwarder.asked == [
        (["192.0.2.53"], False),
        (["192.0.2.53"], True),
        (["192.0.2.99"], False),
    ]


def test_internal_networks_ask_nobody(lab: Lab) -> None:
    lab.put(zone(internal=True))
    assert counts(lab.ask("example.com")) == (dns.REFUSED, 0)
    assert counts(lab.ask("web")) == (dns.NOERROR, 1)
    assert lab.forwarder.asked == []


def test_garbage_is_refused_or_ignored(lab: Lab) -> None:
    got: list[bytes] = []
    lab.resolver.handle(b"\0\1\1\0\0\2\0\0\0\0\0\0", GATEWAY, WEB, got.append)
    lab.resolver.handle(b"\0\1\x81\0", GATEWAY, WEB, got.append)
    assert [answer[3] & 15 for answer in got] == [dns.FORMERR]


def test_a_callback_that_fails_does_not_end_the_loop(capsys: pytest.CaptureFixture[str]) -> None:
    poller = Poller()
    poller.call_later(0, lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    poller.call_later(0.01, poller.stop)
    poller.run()
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_wrong_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
