"""DNS messages, as far as an authority for container names needs them: pure, no I/O.

Everything comes from containers, hence from strangers: what is malformed raises ``Malformed``,
nothing else. Forwarded messages are not decoded beyond their question.

Sources: RFC 1035 (messages), RFC 6891 (EDNS), RFC 9619 (one question).
"""

from __future__ import annotations

from struct import Struct, error, pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

A, PTR, AAAA, OPT, ANY = 1, 12, 28, 41, 255
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)

_HEADER = Struct(">6H")
_QUESTION_END = Struct(">HH")
_RECORD = Struct(">HHHIH")  # name (a pointer), type, class, time to live, length
_EDNS = Struct(">xHHIH")
_QR, _OPCODE, _AA, _TC, _RD, _RA = 0x8000, 0x7800, 0x0400, 0x0200, 0x0100, 0x0080
_CLASSIC_LIMIT = 512  # bytes of a UDP message without EDNS
_EDNS_LIMIT = 1232  # bytes that pass every path unfragmented (DNS flag day 2020)


class Malformed(Exception):
    """Not a query. *code* is what to answer, None means silence."""

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


class Query:
    """One question: *name* in lower case without final dot."""

    __slots__ = ("edns", "flags", "id", "name", "qclass", "qtype", "question")

    def __init__(self, data: bytes) -> None:
        try:
            self.id, self.flags, questions, answers, authorities, extra = _HEADER.unpack_from(data)
        except error:
            raise Malformed(None) from None
        self.question = b""
        self.edns = 0
        if self.flags & _QR:
            raise Malformed(None)  # an answer: to answer it could start a loop
        if self.flags & _OPCODE:
            raise Malformed(NOTIMP)
        if questions != 1:
            raise Malformed(FORMERR)
        self.name, end = _name(data, 12)
        try:
            self.qtype, self.qclass = _QUESTION_END.unpack_from(data, end)
        except error:
            raise Malformed(FORMERR) from None
        self.question = data[12 : end + 4]
        if extra and not answers and not authorities:
            self.edns = _edns_size(data, end + 4)

    @property
    def udp_limit(self) -> int:
        """The largest answer in bytes that the asker takes in one datagram."""
        return max(_CLASSIC_LIMIT, min(self.edns, _EDNS_LIMIT))


def answer(
    query: Query,
    records: Sequence[tuple[int, bytes]] = (),
    *,
    code: int = NOERROR,
    ttl: int = 0,
    limit: int = 0xFFFF,
) -> bytes:
    """The authoritative answer to *query*.

    Args:
        query: the question.
        records: (type, data) pairs about the name that was asked for.
        code: the response code.
        ttl: of all records, in seconds.
        limit: bytes; what does not fit is left out and the truncation bit set.
    """
    body = query.question
    extra = _EDNS.pack(OPT, _EDNS_LIMIT, 0, 0) if query.edns else b""
    flags = _QR | _AA | _RA | (query.flags & _RD) | code
    count = 0
    for kind, data in records:
        record = _RECORD.pack(0xC00C, kind, IN, ttl, len(data)) + data
        if 12 + len(body) + len(record) + len(extra) > limit:
            flags |= _TC
            break
        body += record
        count += 1
    return _HEADER.pack(query.id, flags, 1, count, 0, int(bool(extra))) + body + extra


def refusal(data: bytes, code: int) -> bytes:
    """The answer to a message that could not be decoded."""
    identity, flags = _HEADER.unpack_from(data)[:2]
    return _HEADER.pack(identity, _QR | (flags & (_OPCODE | _RD)) | code, 0, 0, 0, 0)


def encode_name(name: str) -> bytes:
    """*name* as labels; ``""`` and ``"."`` are the root."""
    labels = [label.encode() for label in name.strip(".").split(".") if label]
    return b"".join(pack("B", len(label[:63])) + label[:63] for label in labels) + b"\0"


def question_of(data: bytes) -> bytes:
    """The question section of any message, empty if there is none; for comparing."""
    try:
        _, end = _name(data, 12)
    except Malformed:
        return b""
    return data[12 : end + 4]


def reverse_address(name: str) -> str:
    """``2.0.18.172.in-addr.arpa`` -> ``172.18.0.2``; empty if it is no such name."""
    head, dot, tail = name.partition(".in-addr.arpa")
    parts = head.split(".")
    if not dot or tail or len(parts) != 4 or not all(p.isascii() and p.isdigit() for p in parts):
        return ""
    return ".".join(reversed(parts))


def _name(data: bytes, offset: int) -> tuple[str, int]:
    labels: list[str] = []
    length = 0
    while True:
        if offset >= len(data):
            raise Malformed(FORMERR)
        size = data[offset]
        offset += 1
        if size == 0:
            return ".".join(labels), offset
        length += size + 1
        # Above 63 it is a pointer; a question has nothing to point back at.
        if size > 63 or length > 254 or offset + size > len(data):
            raise Malformed(FORMERR)
        label = data[offset : offset + size].decode("latin-1").lower()
        labels.append(label.replace(".", "\\."))
        offset += size


def _edns_size(data: bytes, offset: int) -> int:
    if data[offset : offset + 1] != b"\0":
        return 0
    try:
        kind, size, _, _ = _EDNS.unpack_from(data, offset)
    except error:
        return 0
    return max(int(size), _CLASSIC_LIMIT) if kind == OPT else 0
