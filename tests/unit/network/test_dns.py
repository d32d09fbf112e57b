from __future__ import annotations

from struct import pack, unpack_from

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.network import dns


def query(name: str, kind: int = dns.A, *, edns: int = 0, flags: int = 0x100) -> bytes:
    extra = pack(">xHHIH", dns.OPT, edns, 0, 0) if edns else b""
    header = pack(">6H", 0x1234, flags, 1, 0, 0, int(bool(edns)))
    return header + dns.encode_name(name) + pack(">HH", kind, dns.IN) + extra


def test_a_query_is_read() -> None:
    read = dns.Query(query("Web.Front", dns.AAAA))
    assert (read.id, read.name, read.qtype, read.qclass) == (0x1234, "web.front", 28, 1)
    assert read.udp_limit == 512


def test_edns_raises_the_limit() -> None:
    assert dns.Query(query("a", edns=4096)).udp_limit == 1232
    assert dns.Query(query("a", edns=100)).udp_limit == 512


def test_an_answer_echoes_the_question_as_it_was_asked() -> None:
    asked = query("WeB")
    answer = dns.answer(dns.Query(asked), [(dns.A, b"\x0a\0\0\1")], ttl=2)
    assert answer[:2] == asked[:2]
    assert answer[12:].startswith(asked[12:])
    assert answer.endswith(pack(">HHHIH", 0xC00C, 1, 1, 2, 4) + b"\x0a\0\0\1")


def test_what_does_not_fit_sets_the_truncation_bit() -> None:
    records = [(dns.A, bytes(4))] * 100
    answer = dns.answer(dns.Query(query("a")), records, limit=512)
    _, flags, _, count = unpack_from(">4H", answer)
    assert len(answer) <= 512
    assert flags & 0x200
    assert 0 < count < 100


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", None),
        (b"\0" * 11, None),
        (query("a", flags=0x8100), None),  # an answer
        (query("a", flags=0x2100), dns.NOTIMP),  # notify
        (pack(">6H", 1, 0x100, 2, 0, 0, 0), dns.FORMERR),
        (pack(">6H", 1, 0x100, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1", dns.FORMERR),  # a pointer
        (pack(">6H", 1, 0x100, 1, 0, 0, 0) + b"\x05ab", dns.FORMERR),
        (pack(">6H", 1, 0x100, 1, 0, 0, 0) + b"\x3f" + b"a" * 63, dns.FORMERR),
        (query("a")[:-1], dns.FORMERR),
        (pack(">6H", 1, 0x100, 1, 0, 0, 0) + (b"\x3f" + b"a" * 63) * 5 + b"\0", dns.FORMERR),
    ],
)
def test_what_is_no_query_is_refused(data: bytes, code: int | None) -> None:
    with pytest.raises(dns.Malformed) as caught:
        dns.Query(data)
    assert caught.value.code == code


@given(st.binary(max_size=600))
def test_no_bytes_do_worse_than_malformed(data: bytes) -> None:
    for message in (data, pack(">6H", 1, 0x100, 1, 0, 0, 1) + data):
        try:
            dns.answer(dns.Query(message))
        except dns.Malformed as error:
            if error.code is not None:
                dns.refusal(message, error.code)
        dns.question_of(message)


def test_a_dot_inside_of_a_label_is_not_a_separator() -> None:
    data = pack(">6H", 1, 0x100, 1, 0, 0, 0) + b"\x03a.b\0\0\1\0\1"
    assert dns.Query(data).name == "a\\.b"


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("2.0.18.172.in-addr.arpa", "172.18.0.2"),
        ("18.172.in-addr.arpa", ""),
        ("x.0.18.172.in-addr.arpa", ""),
        ("2.0.18.172.in-addr.arpa.evil", ""),
        ("web", ""),
    ],
)
def test_reverse_names(name: str, address: str) -> None:
    assert dns.reverse_address(name) == address
