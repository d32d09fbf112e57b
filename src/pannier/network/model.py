"""The data of this package: networks, endpoints, published ports. No behaviour, no I/O.

Records are stored as JSON in the tables ``networks`` and ``endpoints`` of ``base.database``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pannier.kernel.netlink_types import Interface

DEFAULT_NETWORK = "bridge"


class Subnet(msgspec.Struct, frozen=True, omit_defaults=True):
    """An address range: *subnet* and *ip_range* in CIDR notation, "" means "choose for me"."""

    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""


class NetworkRequest(msgspec.Struct, frozen=True):
    """A network as somebody wants it."""

    name: str
    driver: str = "bridge"
    internal: bool = False
    ipv6: bool = False
    subnets: tuple[Subnet, ...] = ()
    labels: dict[str, str] = {}
    options: dict[str, str] = {}


class Network(msgspec.Struct, frozen=True):
    """A network as it is; *subnet* is complete."""

    id: str
    name: str
    bridge: str  # interface name
    subnet: Subnet
    created_ns: int
    driver: str = "bridge"
    internal: bool = False
    mtu: int = 1500  # bytes
    labels: dict[str, str] = {}
    options: dict[str, str] = {}


class EndpointRequest(msgspec.Struct, frozen=True):
    """Wishes for one container on one network; "" means "choose for me"."""

    aliases: tuple[str, ...] = ()
    address: str = ""  # IPv4 without prefix length
    mac: str = ""
    gateway_priority: int = 0  # the highest gives the default route
    sysctls: dict[str, str] = {}


class AttachRequest(msgspec.Struct, frozen=True):
    """A container that is about to start.

    *networks* are by name or id, the first gives ``eth0``. *dns* replaces the host's name servers
    for what is no container's name. *hostname* is kept for callers; it is not a name on the network
    (two containers may share one).
    """

    container_id: str
    name: str
    networks: dict[str, EndpointRequest]
    hostname: str = ""
    kind: str = "app"
    dns: tuple[str, ...] = ()


class PortRequest(msgspec.Struct, frozen=True):
    """``-p host_ip:host_port:container_port/protocol``; *host_port* "", "8080" or "8000-8010"."""

    container_port: int
    protocol: str = "tcp"
    host_ip: str = ""
    host_port: str = ""


class PublishedPort(msgspec.Struct, frozen=True):
    """A port of the host that leads into a container."""

    container_port: int
    protocol: str
    host_ip: str  # 0.0.0.0 is every address of the host
    host_port: int


class Endpoint(msgspec.Struct, frozen=True):
    """A container on a network."""

    id: str
    container_id: str
    container_name: str
    network_id: str
    network_name: str
    interface: str  # inside: eth0
    host: str  # outside: the veth on the bridge
    mac: str
    address: str  # IPv4 without prefix length
    prefix: int
    gateway: str  # "" on an internal network
    aliases: tuple[str, ...] = ()
    gateway_priority: int = 0
    dns: tuple[str, ...] = ()
    sysctls: dict[str, str] = {}
    announced: bool = False
    active: bool = True  # attached for a start, not yet detached
    published: tuple[PublishedPort, ...] = ()  # those that lead to this address

    @property
    def names(self) -> tuple[str, ...]:
        """What other containers on the network can call it, in order, without doubles."""
        return tuple(dict.fromkeys((self.container_name, self.container_id[:12], *self.aliases)))


class Disconnection(msgspec.Struct, frozen=True):
    """What taking a running container off a network leaves to do in its namespace."""

    host: str  # the veth to delete
    remaining: Sequence[Interface]  # its other interfaces, with who has the default route now
