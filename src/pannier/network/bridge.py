"""Bridges on the host: made, found again after a restart, removed; and what the host's own network
looks like (addresses, routes, MTU), so that nothing of it is taken.
"""

from __future__ import annotations

import errno
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from pannier.base.errors import KernelError
from pannier.kernel import netlink
from pannier.network import pools
from pannier.network.forwarding import parse_servers
from pannier.network.model import Network

_DEFAULT_MTU = 1500
_DEFAULT_INSTANCE = "pannier"


@dataclass(frozen=True, slots=True)
class HostNetwork:
    """IPv4 ranges in use on the host, CIDR notation; *routed* includes the name servers."""

    connected: tuple[str, ...]
    routed: tuple[str, ...]


def prefix_of(instance_name: str) -> str:
    """How all bridges of one engine begin: one wildcard in a rule matches them, and no others.

    Interface names have 15 characters at most; an engine of another name gets four of its hash.
    """
    if instance_name == _DEFAULT_INSTANCE:
        return "pn-"
    return f"pn{hashlib.sha256(instance_name.encode()).hexdigest()[:4]}-"


def bridge_name(instance_name: str, network_id: str) -> str:
    return prefix_of(instance_name) + network_id[:8]


def veth_name(instance_name: str) -> str:
    """A fresh name: the old pair of a restarted container may still be dying."""
    return "v" + prefix_of(instance_name)[1:] + os.urandom(4).hex()


def remove_veths(instance_name: str) -> None:
    """Delete the links of ended containers whose namespaces TCP still keeps alive."""
    prefix = "v" + prefix_of(instance_name)[1:]
    with netlink.RouteSocket() as sock:
        for link in netlink.links(sock):
            if link.name.startswith(prefix):
                _unless(errno.ENODEV, sock, netlink.delete_link(link.name))


def ensure(network: Network) -> None:
    """Create the bridge of *network*, or complete one that is there already.

    Raises:
        KernelError: a step failed; a bridge that was begun is removed.
    """
    with netlink.RouteSocket() as sock:
        created = _create(sock, network)
        try:
            _set_up(sock, network)
        except KernelError:
            if created:
                sock.run([netlink.delete_link(network.bridge)])
            raise


def ensure_present(network: Network) -> None:
    """``ensure`` if the bridge is gone: somebody restarted the host's networking."""
    try:
        netlink.index_of(network.bridge)
    except KernelError:
        ensure(network)


def remove(name: str) -> None:
    """Delete a bridge; it may be gone already."""
    with netlink.RouteSocket() as sock:
        _unless(errno.ENODEV, sock, netlink.delete_link(name))


def existing(instance_name: str) -> list[str]:
    """The bridges of this engine, whether they are still known or not."""
    prefix = prefix_of(instance_name)
    with netlink.RouteSocket() as sock:
        found = netlink.links(sock)
    return [link.name for link in found if link.kind == "bridge" and link.name.startswith(prefix)]


def host_network(resolv_conf: Path, ours: str) -> HostNetwork:
    """What the host uses; interfaces whose names begin with *ours* are left out."""
    with netlink.RouteSocket() as sock:
        own = {link.index for link in netlink.links(sock) if link.name.startswith(ours)}
        connected = [cidr for index, cidr in netlink.addresses(sock) if index not in own]
        routed = [cidr for index, cidr in netlink.routes(sock) if index not in own]
    try:
        servers = parse_servers(resolv_conf.read_text(errors="replace"))
    except OSError:
        servers = []
    routed += [f"{server}/32" for server in servers if ":" not in server]
    return HostNetwork(tuple(connected), tuple(routed))


def uplink_mtu() -> int:
    """MTU in bytes of the interface with the default route, at most 1500.

    A container with a larger MTU than the way out loses the packets that do not fit.
    """
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        name, destination = line.split()[:2]
        if destination == "00000000":
            with netlink.RouteSocket() as sock:
                found = [link.mtu for link in netlink.links(sock) if link.name == name]
            return min([*found, _DEFAULT_MTU])
    return _DEFAULT_MTU


def _create(sock: netlink.RouteSocket, network: Network) -> bool:
    mac = pools.mac_for(network.subnet.gateway)
    return _unless(errno.EEXIST, sock, netlink.bridge(network.bridge, mac, network.mtu))


def _set_up(sock: netlink.RouteSocket, network: Network) -> None:
    name = network.bridge
    address = f"{network.subnet.gateway}/{pools.prefix_length(network.subnet)}"
    sock.run(
        [
            netlink.set_alias(name, f"pannier network {network.name}"),
            netlink.no_ipv6_address(name),
            netlink.route_localnet(name),  # the firewall drops 127/8 that comes in by it
        ]
    )
    _unless(errno.EEXIST, sock, netlink.address(netlink.index_of(name), address))
    sock.run([netlink.link_up(name)])


def _unless(expected: int, sock: netlink.RouteSocket, request: netlink.Request) -> bool:
    try:
        sock.run([request])
    except KernelError as error:
        if error.errno != expected:
            raise
        return False
    return True
