"""nf_tables and conntrack as raw nfnetlink messages, for what must be cheap or has no library.

``dns_redirect`` makes the whole rule set of a container's network namespace as bytes: the daemon
builds it, the child only sends it. The host's own rules are text: ``kernel.nftables``.

Sources: linux/netfilter/nf_tables.h, nfnetlink_conntrack.h. Numbers inside are big-endian.
"""

from __future__ import annotations

import _socket
import os
from struct import Struct, pack, unpack_from

from pannier.base.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_AF_NETLINK = 16
_NETLINK_NETFILTER = 12
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_F_REQUEST, _F_ACK, _F_DUMP, _F_CREATE, _F_APPEND = 0x1, 0x4, 0x300, 0x400, 0x800

_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NFTABLES, _CONNTRACK = 10 << 8, 1 << 8
_NEWTABLE, _DELTABLE, _NEWCHAIN, _NEWRULE, _NEWGEN = 0, 2, 3, 6, 15
_CT_GET, _CT_DELETE = 1, 2
_GROUP_NFTABLES = 7

_PREROUTING, _OUTPUT, _POSTROUTING = 0, 3, 4
_PRIORITY_RAW, _PRIORITY_DSTNAT, _PRIORITY_SRCNAT = -300, -100, 100
_META_IIFNAME, _META_L4PROTO = 6, 16
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_IP_SOURCE, _IP_DESTINATION, _L4_DESTINATION = 12, 16, 2  # byte offsets in the headers
_EQUAL, _UNEQUAL = 0, 1
_VERDICT_REGISTER, _DROP = 0, 0
_DNAT = 1

_HEADER = Struct("=IHHII")
_ATTR = Struct("=HH")

TABLE = "pannier"
RESOLVER = "127.0.0.11"
_DNS_PORT = pack(">H", 53)


def dns_redirect(server: str, *, replace: bool = False) -> bytes:
    """The batch that leads 127.0.0.11:53 to *server*:53, for one container's network namespace.

    Masquerading makes the resolver see the container's own address. Packets from outside to 127/8
    are dropped, since route_localnet is on there (CVE-2020-8558 is the same on a host).

    Args:
        server: IPv4 address of the bridge.
        replace: put it in the place of an earlier one; costs an RCU wait (about 7 ms).
    """
    target = _socket.inet_aton(server)
    messages = [
        # Deleting needs the table to be there, so it is added first: all in one transaction.
        *((_table(_NEWTABLE), _table(_DELTABLE)) if replace else ()),
        _table(_NEWTABLE),
        _chain("prerouting", b"filter", _PREROUTING, _PRIORITY_RAW),
        _chain("output", b"nat", _OUTPUT, _PRIORITY_DSTNAT),
        _chain("postrouting", b"nat", _POSTROUTING, _PRIORITY_SRCNAT),
        _rule("prerouting", _from_outside() + _loopback(_IP_DESTINATION) + _verdict(_DROP)),
        *(_rule("output", _to_resolver(protocol) + _dnat(target)) for protocol in (17, 6)),
        _rule("postrouting", _to(target) + _loopback(_IP_SOURCE) + _expression(b"masq")),
    ]
    return _batch(messages)


def send_batch(batch: bytes) -> None:
    """Apply *batch* to the network namespace that the caller is in; all of it or nothing.

    Raises:
        KernelError: the first message that the kernel refused.
    """
    with _Socket() as sock:
        sock.send(batch)
        _wait_for_ack(sock)


def forget_connections(address: str, protocol: int) -> int:
    """Delete tracked connections that were led to *address*, so that new ones take another way.

    A UDP flow keeps its old destination for as long as packets come, even after the rule is gone.

    Args:
        address: the IPv4 address behind the translation.
        protocol: 17 for UDP.

    Returns:
        How many were deleted.
    """
    wanted = (_socket.inet_aton(address), protocol)
    with _Socket() as sock:
        stale = [original for original, replier in _connections(sock) if replier == wanted]
        for original in stale:
            body = _generic(_socket.AF_INET) + original
            sock.send(_message(_CONNTRACK | _CT_DELETE, _F_REQUEST | _F_ACK, body))
            _wait_for_ack(sock, gone_is_fine=True)
    return len(stale)


class Changes:
    """Tells when another process has changed nf_tables rules here (iptables-nft does so too).

    Poll ``fileno`` for reading.
    """

    def __init__(self) -> None:
        kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
        self._sock = _socket.socket(_AF_NETLINK, kind, _NETLINK_NETFILTER)
        self._sock.bind((0, 1 << (_GROUP_NFTABLES - 1)))

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    def by_others(self) -> bool:
        """Read what is there; true if any change was not of this process."""
        found = False
        while True:
            try:
                data = self._sock.recv(1 << 17)
            except BlockingIOError:
                return found
            except OSError:  # ENOBUFS: too many changes to be told one by one
                found = True
                continue
            found = found or _foreign_generation(data)


# ------------------------------------------------------------------ transport


class _Socket:
    """A NETLINK_NETFILTER socket of the current network namespace."""

    def __init__(self) -> None:
        kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
        self._sock = _socket.socket(_AF_NETLINK, kind, _NETLINK_NETFILTER)

    def __enter__(self) -> _Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def send(self, data: bytes) -> None:
        self._sock.send(data)

    def receive(self) -> Iterator[tuple[int, bytes]]:
        return _messages(self._sock.recv(1 << 17))


def _wait_for_ack(sock: _Socket, *, gone_is_fine: bool = False) -> None:
    while True:
        for kind, body in sock.receive():
            if kind != _NLMSG_ERROR:
                continue
            code: int = -unpack_from("=i", body)[0]
            if code and not (gone_is_fine and code == 2):
                raise KernelError(code, "nf_tables", hint="the kernel needs nf_tables with NAT")
            return


def _connections(sock: _Socket) -> Iterator[tuple[bytes, tuple[bytes, int]]]:
    """(original tuple as an attribute, (source of the replies, protocol)) of each IPv4 entry."""
    sock.send(_message(_CONNTRACK | _CT_GET, _F_REQUEST | _F_DUMP, _generic(_socket.AF_INET)))
    while True:
        for kind, body in sock.receive():
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                raise KernelError(-unpack_from("=i", body)[0], "list conntrack")
            entry = dict(_parse(body, 4))
            reply = dict(_parse(entry.get(2, b"")))
            source = dict(_parse(reply.get(1, b""))).get(1, b"")
            protocol = dict(_parse(reply.get(2, b""))).get(1, b"\0")[0]
            yield _attr(1 | 0x8000, entry.get(1, b"")), (source, protocol)


def _foreign_generation(data: bytes) -> bool:
    """Each transaction ends with a NEWGEN message, which names the process that made it."""
    for kind, body in _messages(data):
        if kind == _NFTABLES | _NEWGEN:
            pid = dict(_parse(body, 4)).get(2, bytes(4))
            if int.from_bytes(pid) != os.getpid():
                return True
    return False


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 16 <= len(data):
        size, kind, _, _, _ = _HEADER.unpack_from(data, offset)
        if size < 16:
            return
        yield kind, data[offset + 16 : offset + size]
        offset += (size + 3) & ~3


def _parse(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    while offset + 4 <= len(data):
        size, kind = _ATTR.unpack_from(data, offset)
        if size < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + size]
        offset += (size + 3) & ~3


# ------------------------------------------------------------------ encoding


def _attr(kind: int, data: bytes) -> bytes:
    return _ATTR.pack(4 + len(data), kind) + data + b"\0" * (-len(data) & 3)


def _nested(kind: int, *parts: bytes) -> bytes:
    return _attr(kind | 0x8000, b"".join(parts))


def _number(kind: int, value: int) -> bytes:
    return _attr(kind, pack(">i", value))


def _string(kind: int, value: str) -> bytes:
    return _attr(kind, value.encode() + b"\0")


def _generic(family: int, resource: int = 0) -> bytes:
    return pack(">BBH", family, 0, resource)  # nfgenmsg


def _message(kind: int, flags: int, body: bytes, sequence: int = 0) -> bytes:
    return _HEADER.pack(16 + len(body), kind, flags, sequence, 0) + body


def _batch(messages: list[tuple[int, int, bytes]]) -> bytes:
    border = _generic(0, _NFTABLES >> 8)
    packets = [_message(_BATCH_BEGIN, _F_REQUEST, border)]
    for number, (kind, flags, body) in enumerate(messages, 1):
        last = _F_ACK if number == len(messages) else 0
        full = _generic(_socket.AF_INET) + body
        packets.append(_message(_NFTABLES | kind, _F_REQUEST | flags | last, full, number))
    packets.append(_message(_BATCH_END, _F_REQUEST, border, len(messages) + 1))
    return b"".join(packets)


def _table(kind: int) -> tuple[int, int, bytes]:
    return kind, _F_CREATE if kind == _NEWTABLE else 0, _string(1, TABLE)


def _chain(name: str, kind: bytes, hook: int, priority: int) -> tuple[int, int, bytes]:
    place = _nested(4, _number(1, hook), _number(2, priority))
    body = _string(1, TABLE) + _string(3, name) + place + _attr(7, kind + b"\0")
    return _NEWCHAIN, _F_CREATE, body


def _rule(chain: str, expressions: bytes) -> tuple[int, int, bytes]:
    body = _string(1, TABLE) + _string(2, chain) + _nested(4, expressions)
    return _NEWRULE, _F_CREATE | _F_APPEND, body


def _expression(name: bytes, *attributes: bytes) -> bytes:
    data = _nested(2, *attributes)
    return _nested(1, _attr(1, name + b"\0"), data)


def _payload(base: int, offset: int, size: int) -> bytes:
    place = (_number(2, base), _number(3, offset), _number(4, size))
    return _expression(b"payload", _number(1, 1), *place)


def _meta(key: int) -> bytes:
    return _expression(b"meta", _number(1, 1), _number(2, key))


def _compare(operator: int, value: bytes) -> bytes:
    data = _nested(3, _attr(1, value))
    return _expression(b"cmp", _number(1, 1), _number(2, operator), data)


def _immediate(register: int, data: bytes) -> bytes:
    return _expression(b"immediate", _number(1, register), _nested(2, data))


def _verdict(code: int) -> bytes:
    return _immediate(_VERDICT_REGISTER, _nested(2, _number(1, code)))


def _from_outside() -> bytes:
    return _meta(_META_IIFNAME) + _compare(_UNEQUAL, b"lo".ljust(16, b"\0"))


def _loopback(offset: int) -> bytes:
    # One byte is the whole /8: nft prints it as 127.0.0.0/8 too.
    return _payload(_NETWORK_HEADER, offset, 1) + _compare(_EQUAL, b"\x7f")


def _to(address: bytes) -> bytes:
    return _payload(_NETWORK_HEADER, _IP_DESTINATION, 4) + _compare(_EQUAL, address)


def _to_resolver(protocol: int) -> bytes:
    return (
        _to(_socket.inet_aton(RESOLVER))
        + _meta(_META_L4PROTO)
        + _compare(_EQUAL, bytes([protocol]))
        + _payload(_TRANSPORT_HEADER, _L4_DESTINATION, 2)
        + _compare(_EQUAL, _DNS_PORT)
    )


def _dnat(address: bytes) -> bytes:
    nat = _expression(
        b"nat", _number(1, _DNAT), _number(2, _socket.AF_INET), _number(3, 1), _number(5, 2)
    )
    return _immediate(1, _attr(1, address)) + _immediate(2, _attr(1, _DNS_PORT)) + nat
