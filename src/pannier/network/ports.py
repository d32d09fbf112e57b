"""Published ports of the host: reading the wishes, and holding each port by a bound socket.

Packets never reach these sockets (the firewall translates them before), they only keep the port:
no other program can take it meanwhile, and a port that is in use is noticed at once, with whoever
uses it: another container, a program, Docker's proxy. Rules are made in ``firewall``.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from ipaddress import ip_address

from pannier.base.errors import Conflict, InvalidArgument, Unsupported
from pannier.network.model import PortRequest, PublishedPort

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_EVERYWHERE = "0.0.0.0"
_LAST_PORT = 65535


class PortTable:
    """Which container holds which ports."""

    def __init__(self) -> None:
        self._sockets: dict[str, dict[PublishedPort, socket.socket]] = {}

    def hold(self, container_id: str, wishes: Iterable[PortRequest]) -> list[PublishedPort]:
        """Take all ports of *wishes* for a container, or none.

        Raises:
            Conflict: a port is in use.
            InvalidArgument: a malformed port or address.
            Unsupported: SCTP, or an IPv6 address.
        """
        held: dict[PublishedPort, socket.socket] = {}
        try:
            for wish in wishes:
                port, sock = self._first_free(wish)
                held[port] = sock
        except Exception:
            _close(held.values())
            raise
        self._sockets.setdefault(container_id, {}).update(held)
        return list(held)

    def hold_again(self, container_id: str, ports: Iterable[PublishedPort]) -> list[PublishedPort]:
        """Take back *ports* after a restart of the daemon; returns those that others took."""
        lost = []
        for port in ports:
            sock = _bind(port.protocol, port.host_ip, port.host_port)
            if isinstance(sock, int):
                lost.append(port)
            else:
                self._sockets.setdefault(container_id, {})[port] = sock
        return lost

    def release(self, container_id: str) -> None:
        """Give up all ports of a container."""
        _close(self._sockets.pop(container_id, {}).values())

    def release_all(self) -> None:
        for container_id in list(self._sockets):
            self.release(container_id)

    def _first_free(self, wish: PortRequest) -> tuple[PublishedPort, socket.socket]:
        _check(wish)
        address = host_address(wish.host_ip)
        first, last = port_range(wish.host_port)
        code = 0
        for number in range(first, last + 1):
            sock = _bind(wish.protocol, address, number)
            if not isinstance(sock, int):
                bound: int = sock.getsockname()[1]
                return PublishedPort(wish.container_port, wish.protocol, address, bound), sock
            code = sock
            if code not in {errno.EADDRINUSE, errno.EACCES}:
                break
        raise self._failure(wish, address, code)

    def _failure(self, wish: PortRequest, address: str, code: int) -> Exception:
        what = "driver failed programming external connectivity"
        if code == errno.EADDRNOTAVAIL:
            return InvalidArgument(
                f"{what}: Bind for {address}:{wish.host_port} failed: "
                "cannot assign requested address",
                hint=f"{address} is no address of this host (ip address shows them)",
            )
        ours = any(self._clashes(port, wish, address) for port in self._all())
        owner = "another container" if ours else "a program on this host"
        return Conflict(
            f"{what}: Bind for {address}:{wish.host_port} failed: port is already allocated",
            hint=f"{owner} uses it: choose another port, or find it by: ss -lnp "
            f"'sport = :{wish.host_port}'",
        )

    def _all(self) -> Iterable[PublishedPort]:
        return (port for ports in self._sockets.values() for port in ports)

    @staticmethod
    def _clashes(port: PublishedPort, wish: PortRequest, address: str) -> bool:
        first, last = port_range(wish.host_port)
        same_address = address == port.host_ip or _EVERYWHERE in {address, port.host_ip}
        return same_address and port.protocol == wish.protocol and first <= port.host_port <= last


def port_range(text: str) -> tuple[int, int]:
    """``""`` -> (0, 0): any free one; ``8080`` -> (8080, 8080); ``8000-8010`` -> (8000, 8010).

    Raises:
        InvalidArgument: no port, or a range that runs backwards.
    """
    low, dash, high = (text or "0").partition("-")
    if not (_is_port(low) and (not dash or _is_port(high))):
        raise InvalidArgument(f"invalid port specification: {text!r}", hint="write 8080, 8000-8010")
    first, last = int(low), int(high) if dash else int(low)
    if first > last:
        raise InvalidArgument(f"invalid port range: {text!r}", hint="write the lower port first")
    return first, last


def host_address(text: str) -> str:
    """The IPv4 address to publish on; "" is every one.

    Raises:
        InvalidArgument: no address.
        Unsupported: IPv6.
    """
    if not text:
        return _EVERYWHERE
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        raise InvalidArgument(
            f"invalid IP address: {text!r}", hint="publish on an address, not on a name"
        ) from None
    if address.version != 4:
        raise Unsupported(
            f"cannot publish a port on the IPv6 address {text}",
            hint="container networks are IPv4; leave the address out or use 127.0.0.1",
        )
    return str(address)


def _check(wish: PortRequest) -> None:
    if wish.protocol not in _KINDS:
        raise Unsupported(
            f"cannot publish protocol {wish.protocol!r}", hint="tcp and udp can be published"
        )
    if not 0 < wish.container_port <= _LAST_PORT:
        raise InvalidArgument(f"invalid container port: {wish.container_port}")


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) <= _LAST_PORT


def _bind(protocol: str, address: str, number: int) -> socket.socket | int:
    """A socket that holds the port, or the error number."""
    code = _try_bind(protocol, address, number, reuse=False)
    if code == errno.EADDRINUSE and protocol == "tcp":
        # Perhaps only closed connections of an earlier server linger (TIME_WAIT).
        code = _try_bind(protocol, address, number, reuse=True)
    return code


def _try_bind(protocol: str, address: str, number: int, *, reuse: bool) -> socket.socket | int:
    sock = socket.socket(socket.AF_INET, _KINDS[protocol])
    try:
        if reuse:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, number))
        # Off again: with it on, a second program could bind the port as long as nobody listens.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError as error:
        sock.close()
        return error.errno or errno.EIO
    return sock


def _close(sockets: Iterable[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
