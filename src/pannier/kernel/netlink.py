"""About ten rtnetlink messages: bridges, veth pairs, addresses, routes; many in one sendmsg.

Made for the spawn path: cheap imports, no classes per attribute. Rules of the firewall are in
``kernel.netfilter`` (bytes, for the child) and ``kernel.nftables`` (text, for the host).

Sources: rtnetlink(7), netlink(7), linux/if_link.h, linux/veth.h, linux/ip.h.
"""

from __future__ import annotations

import _socket
import errno
from struct import Struct, pack, unpack_from

from pannier.base.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Attributes = dict[int, bytes]

_AF_NETLINK = 16
_SOL_NETLINK = 270
_NETLINK_ROUTE = 0
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_NETLINK_GET_STRICT_CHK = 12

_F_REQUEST, _F_ACK, _F_EXCL, _F_CREATE = 0x1, 0x4, 0x200, 0x400
_F_DUMP = 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_F_ACK_TLVS, _F_CAPPED = 0x200, 0x100

_NEWLINK, _DELLINK, _GETLINK, _SETLINK = 16, 17, 18, 19
_NEWADDR, _GETADDR = 20, 22
_NEWROUTE, _GETROUTE = 24, 26

_NESTED = 0x8000
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER = 1, 3, 4, 10
_IFLA_LINKINFO, _IFLA_NET_NS_PID, _IFLA_IFALIAS, _IFLA_AF_SPEC = 18, 19, 20, 26
_IFLA_NET_NS_FD = 28
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_BRPORT_MODE = 4
_VETH_INFO_PEER = 1
_BR_MCAST_SNOOPING = 23
_INET_CONF, _DEVCONF_ROUTE_LOCALNET = 1, 26
_INET6_ADDR_GEN_MODE, _ADDR_GEN_NONE = 8, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_TABLE = 1, 4, 5, 15
_RT_TABLE_MAIN, _RT_TABLE_LOCAL, _RTPROT_STATIC, _RTN_UNICAST = 254, 255, 4, 1

IFF_UP = 1

_HEADER = Struct("=IHHII")  # nlmsghdr
_LINK = Struct("=BxHiII")  # ifinfomsg
_ADDR = Struct("=BBBBi")  # ifaddrmsg
_ROUTE = Struct("=8BI")  # rtmsg
_ATTR = Struct("=HH")


class Request:
    """One message and what to call it when it fails."""

    __slots__ = ("body", "flags", "kind", "target", "what")

    def __init__(self, kind: int, flags: int, body: bytes, what: str, target: str) -> None:
        self.kind = kind
        self.flags = flags
        self.body = body
        self.what = what
        self.target = target


class Link:
    """An interface as the kernel lists it."""

    __slots__ = ("alias", "index", "kind", "mac", "master", "mtu", "name", "up")

    def __init__(self, index: int, flags: int, attributes: Attributes) -> None:
        self.index = index
        self.up = bool(flags & IFF_UP)
        self.name = _text(attributes.get(_IFLA_IFNAME, b""))
        self.alias = _text(attributes.get(_IFLA_IFALIAS, b""))
        self.mac = attributes.get(_IFLA_ADDRESS, b"").hex(":")
        self.mtu = _number(attributes.get(_IFLA_MTU))
        self.master = _number(attributes.get(_IFLA_MASTER))
        info = dict(_attributes(attributes.get(_IFLA_LINKINFO, b""), 0))
        self.kind = _text(info.get(_INFO_KIND, b""))


class RouteSocket:
    """A NETLINK_ROUTE socket of the network namespace that the caller is in now."""

    def __init__(self) -> None:
        kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
        self._sock = _socket.socket(_AF_NETLINK, kind, _NETLINK_ROUTE)
        self._sock.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._sock.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._sequence = 0

    def __enter__(self) -> RouteSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._sock.close()

    def run(self, requests: Sequence[Request]) -> None:
        """Send all *requests* in one sendmsg, wait for every answer.

        The kernel goes on after a failing message, so what follows it may have been done.

        Raises:
            KernelError: of the first request that failed.
        """
        if not requests:
            return
        first = self._sequence + 1
        self._sock.send(b"".join(map(self._packet, requests)))
        failure: KernelError | None = None
        missing = len(requests)
        while missing:
            for kind, flags, sequence, start, end, data in self._receive():
                if kind != _NLMSG_ERROR or not first <= sequence <= self._sequence:
                    continue
                missing -= 1
                code: int = unpack_from("=i", data, start)[0]
                if code and failure is None:
                    request = requests[sequence - first]
                    failure = _failure(-code, request, _reason(data[start:end], flags))
        if failure is not None:
            raise failure

    def dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        """All objects that *kind* (a GET message) lists, without their netlink headers."""
        self._sequence += 1
        header = _HEADER.pack(16 + len(body), kind, _F_REQUEST | _F_DUMP, self._sequence, 0)
        self._sock.send(header + body)
        while True:
            for answer, _, sequence, start, end, data in self._receive():
                if sequence != self._sequence:
                    continue
                if answer == _NLMSG_DONE:
                    return
                if answer == _NLMSG_ERROR:
                    raise KernelError(-unpack_from("=i", data, start)[0], "netlink dump")
                yield data[start:end]

    def _packet(self, request: Request) -> bytes:
        self._sequence += 1
        flags = request.flags | _F_REQUEST | _F_ACK
        size = 16 + len(request.body)
        return _HEADER.pack(size, request.kind, flags, self._sequence, 0) + request.body

    def _receive(self) -> Iterator[tuple[int, int, int, int, int, bytes]]:
        data = self._sock.recv(1 << 17)
        offset = 0
        while offset + 16 <= len(data):
            size, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
            if size < 16:
                return
            yield kind, flags, sequence, offset + 16, offset + size, data
            offset += (size + 3) & ~3


# ------------------------------------------------------------------ requests


def bridge(name: str, mac: str, mtu: int) -> Request:
    """Create bridge *name*, down. A MAC of its own keeps it from changing with its ports."""
    data = _attr(_INFO_DATA | _NESTED, _attr(_BR_MCAST_SNOOPING, b"\0"))
    info = _attr(_INFO_KIND, b"bridge\0") + data
    body = (
        _LINK.pack(0, 0, 0, 0, 0)
        + _attr(_IFLA_IFNAME, name.encode() + b"\0")
        + _attr(_IFLA_ADDRESS, _mac(mac))
        + _attr(_IFLA_MTU, pack("=I", mtu))
        + _attr(_IFLA_LINKINFO | _NESTED, info)
    )
    return Request(_NEWLINK, _F_CREATE | _F_EXCL, body, "create bridge", name)


def set_alias(name: str, alias: str) -> Request:
    """The text that ``ip link`` shows as alias."""
    return _set(name, _attr(_IFLA_IFALIAS, alias.encode()), "name alias of")


def veth(
    host: str, bridge_index: int, name: str, mac: str, mtu: int, *, pid: int = 0, fd: int = -1
) -> Request:
    """Create a veth pair: *host* as a port of the bridge, *name* in another network namespace.

    Args:
        host: name of the end that stays here, created down.
        bridge_index: interface index of its bridge.
        name: name of the other end.
        mac: hardware address of the other end.
        mtu: of both, in bytes.
        pid: a process in the other namespace, or
        fd: a file of that namespace.
    """
    where = _attr(_IFLA_NET_NS_FD, pack("=I", fd)) if fd >= 0 else b""
    where = where or _attr(_IFLA_NET_NS_PID, pack("=I", pid))
    size = _attr(_IFLA_MTU, pack("=I", mtu))
    peer = (
        _LINK.pack(0, 0, 0, 0, 0)
        + _attr(_IFLA_IFNAME, name.encode() + b"\0")
        + _attr(_IFLA_ADDRESS, _mac(mac))
        + size
        + where
    )
    data = _attr(_INFO_DATA | _NESTED, _attr(_VETH_INFO_PEER | _NESTED, peer))
    body = (
        _LINK.pack(0, 0, 0, 0, 0)
        + _attr(_IFLA_IFNAME, host.encode() + b"\0")
        + size
        + _attr(_IFLA_MASTER, pack("=I", bridge_index))
        + _attr(_IFLA_LINKINFO | _NESTED, _attr(_INFO_KIND, b"veth\0") + data)
    )
    return Request(_NEWLINK, _F_CREATE | _F_EXCL, body, "create veth", host)


def hairpin(name: str) -> Request:
    """Let bridge port *name* send back what came in by it: a container may reach itself by an
    address of the host, and with br_netfilter such packets are bridged, not routed.
    """
    mode = _attr(_INFO_SLAVE_DATA | _NESTED, _attr(_BRPORT_MODE, b"\1"))
    info = _attr(_IFLA_LINKINFO | _NESTED, _attr(_INFO_SLAVE_KIND, b"bridge\0") + mode)
    body = _LINK.pack(0, 0, 0, 0, 0) + _attr(_IFLA_IFNAME, name.encode() + b"\0") + info
    return Request(_NEWLINK, 0, body, "set hairpin mode of", name)


def link_up(name: str) -> Request:
    """Set *name* up."""
    body = _LINK.pack(0, 0, 0, IFF_UP, IFF_UP) + _attr(_IFLA_IFNAME, name.encode() + b"\0")
    return Request(_SETLINK, 0, body, "set link up", name)


def no_ipv6_address(name: str) -> Request:
    """addr_gen_mode none: no link-local address, hence no flood of router solicitations."""
    mode = _attr(_INET6_ADDR_GEN_MODE, pack("=B", _ADDR_GEN_NONE))
    return _set(name, _family(_socket.AF_INET6, mode), "set addr_gen_mode of")


def route_localnet(name: str) -> Request:
    """Let 127/8 be routed over *name*; the caller must drop 127/8 from outside (CVE-2020-8558)."""
    conf = _attr(_DEVCONF_ROUTE_LOCALNET, pack("=I", 1))
    setting = _family(_socket.AF_INET, _attr(_INET_CONF | _NESTED, conf))
    return _set(name, setting, "set route_localnet of")


def address(index: int, cidr: str) -> Request:
    """Give an IPv4 address with prefix length and broadcast address to interface *index*."""
    text, _, length = cidr.partition("/")
    prefix = int(length)
    local = _socket.inet_aton(text)
    last = int.from_bytes(local) | (0xFFFFFFFF >> prefix)
    body = _ADDR.pack(_socket.AF_INET, prefix, 0, 0, index)
    body += _attr(_IFA_LOCAL, local) + _attr(_IFA_ADDRESS, local)
    body += _attr(_IFA_BROADCAST, last.to_bytes(4))
    return Request(_NEWADDR, _F_CREATE | _F_EXCL, body, "add address", cidr)


def default_route(gateway: str) -> Request:
    """The IPv4 default route by *gateway*."""
    body = _ROUTE.pack(_socket.AF_INET, 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC, 0, _RTN_UNICAST, 0)
    body += _attr(_RTA_GATEWAY, _socket.inet_aton(gateway))
    return Request(_NEWROUTE, _F_CREATE | _F_EXCL, body, "add default route by", gateway)


def delete_link(name: str) -> Request:
    """Remove an interface. Slow (an RCU wait under RTNL): never where somebody waits."""
    body = _LINK.pack(0, 0, 0, 0, 0) + _attr(_IFLA_IFNAME, name.encode() + b"\0")
    return Request(_DELLINK, 0, body, "delete link", name)


# ------------------------------------------------------------------ lists


def links(sock: RouteSocket) -> list[Link]:
    """All interfaces of this network namespace."""
    found = []
    for data in sock.dump(_GETLINK, _LINK.pack(0, 0, 0, 0, 0)):
        _, _, index, flags, _ = _LINK.unpack_from(data)
        found.append(Link(index, flags, dict(_attributes(data, _LINK.size))))
    return found


def addresses(sock: RouteSocket) -> list[tuple[int, str]]:
    """(interface index, ``a.b.c.d/len``) of all IPv4 addresses."""
    found = []
    for data in sock.dump(_GETADDR, _ADDR.pack(_socket.AF_INET, 0, 0, 0, 0)):
        _, prefix, _, _, index = _ADDR.unpack_from(data)
        attributes = dict(_attributes(data, _ADDR.size))
        raw = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS, b"")
        if len(raw) == 4:
            found.append((index, f"{_socket.inet_ntoa(raw)}/{prefix}"))
    return found


def routes(sock: RouteSocket) -> list[tuple[int, str]]:
    """(interface index, destination as ``a.b.c.d/len``) of all IPv4 routes, without default ones
    and the local table.
    """
    found = []
    for data in sock.dump(_GETROUTE, _ROUTE.pack(_socket.AF_INET, *([0] * 8))):
        prefix, table = data[1], data[4]
        attributes = dict(_attributes(data, _ROUTE.size))
        destination = attributes.get(_RTA_DST)
        if destination and table != _RT_TABLE_LOCAL:
            index = _number(attributes.get(_RTA_OIF))
            found.append((index, f"{_socket.inet_ntoa(destination)}/{prefix}"))
    return found


def index_of(name: str) -> int:
    """The index of interface *name*.

    Raises:
        KernelError: there is none (ENODEV).
    """
    try:
        return _socket.if_nametoindex(name)
    except OSError:
        raise KernelError(errno.ENODEV, "find interface", name) from None


# ------------------------------------------------------------------ encoding


def _set(name: str, attribute: bytes, what: str) -> Request:
    body = _LINK.pack(0, 0, 0, 0, 0) + _attr(_IFLA_IFNAME, name.encode() + b"\0") + attribute
    return Request(_SETLINK, 0, body, what, name)


def _family(family: int, data: bytes) -> bytes:
    return _attr(_IFLA_AF_SPEC | _NESTED, _attr(family | _NESTED, data))


def _attr(kind: int, data: bytes) -> bytes:
    return _ATTR.pack(4 + len(data), kind) + data + b"\0" * (-len(data) & 3)


def _attributes(data: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    while offset + 4 <= len(data):
        size, kind = _ATTR.unpack_from(data, offset)
        if size < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + size]
        offset += (size + 3) & ~3


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")


def _number(data: bytes | None) -> int:
    number: int = unpack_from("=I", data)[0] if data else 0
    return number


def _failure(code: int, request: Request, reason: str) -> KernelError:
    return KernelError(code, request.what, request.target, reason or None)


def _reason(error: bytes, flags: int) -> str:
    """The kernel's own words (extended ack), empty if it gave none."""
    if not flags & _F_ACK_TLVS:
        return ""
    # With CAP_ACK only the header of the failed message is repeated, else the whole of it.
    size = 16 if flags & _F_CAPPED else unpack_from("=I", error, 4)[0]
    return _text(dict(_attributes(error, 4 + size)).get(1, b""))
