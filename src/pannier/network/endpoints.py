"""Endpoints: from a wish and a network to an address, from endpoints to interfaces and zones.

Pure: what is taken already is passed in, what comes out is stored by the manager.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from pannier.base.errors import InvalidArgument
from pannier.base.ids import new_id
from pannier.kernel.netfilter import dns_redirect
from pannier.network import pools, zones
from pannier.network.model import AttachRequest, Endpoint, EndpointRequest, Network, PublishedPort

if TYPE_CHECKING:
    from pannier.kernel.netlink_types import Interface

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


class Taken(NamedTuple):
    """Addresses on a network that others have, and the one that was given out last."""

    addresses: Collection[str]
    last: str


def make_endpoint(
    network: Network,
    request: AttachRequest,
    wish: EndpointRequest,
    *,
    interface: str,
    host: str,
    former: Endpoint | None,
    taken: Taken,
) -> Endpoint:
    """A container's place on *network*.

    Args:
        network: where.
        request: the container.
        wish: what it wants there.
        interface: name inside.
        host: name of the veth outside.
        former: its endpoint of an earlier start: keeps id and, if possible, address.
        taken: what others have on this network.

    Raises:
        InvalidArgument: an address or hardware address that cannot be.
        Conflict: the wanted address is taken.
        Unavailable: no address is left.
    """
    address = _address(network, wish, former, taken)
    return Endpoint(
        id=former.id if former else new_id(),
        container_id=request.container_id,
        container_name=request.name,
        network_id=network.id,
        network_name=network.name,
        interface=interface,
        host=host,
        mac=_mac(wish.mac) or pools.mac_for(address),
        address=address,
        prefix=pools.prefix_length(network.subnet),
        gateway="" if network.internal else network.subnet.gateway,
        aliases=wish.aliases,
        gateway_priority=wish.gateway_priority,
        dns=request.dns,
        sysctls=wish.sysctls,
    )


def interfaces_of(
    endpoints: Sequence[Endpoint],
    networks: Sequence[Network],
    *,
    replace_redirect: bool = False,
) -> list[Interface]:
    """What the keeper makes of a container's endpoints, in the same order.

    One interface has the default route, the first one leads 127.0.0.11 to its bridge.
    """
    way_out = default_endpoint(endpoints)
    found: list[Interface] = []
    for endpoint, network in zip(endpoints, networks, strict=True):
        server = network.subnet.gateway
        batch = None if found else _redirect(server, replace=replace_redirect)
        found.append(
            {
                "name": endpoint.interface,
                "host": endpoint.host,
                "bridge": network.bridge,
                "mac": endpoint.mac,
                "mtu": network.mtu,
                "addresses": [f"{endpoint.address}/{endpoint.prefix}"],
                "gateway": endpoint.gateway if endpoint is way_out else None,
                "nft": batch,
                "sysctls": dict(endpoint.sysctls),
            }
        )
    return found


def default_endpoint(endpoints: Iterable[Endpoint]) -> Endpoint | None:
    """The one with the default route: highest priority, then the first; None on internal ones.

    Published ports lead to it too, so that replies go back the way the questions came.
    """
    candidates = [endpoint for endpoint in endpoints if endpoint.gateway]
    return max(candidates, key=lambda e: e.gateway_priority, default=None)


def free_interface(taken: Collection[str]) -> str:
    """``eth0`` or the next one."""
    return next(name for n in range(len(taken) + 1) if (name := f"eth{n}") not in taken)


def zone_of(
    network: Network, endpoints: Iterable[Endpoint], *, several: Collection[str] = ()
) -> zones.Zone:
    """The zone file of *network*.

    Who neither is announced nor asks in a way of its own is left out: such a change of state costs
    no write, and the resolver serves a stranger on the subnet the network's names anyway.

    Args:
        network: which.
        endpoints: all on it.
        several: ids of the containers that are on other networks too.
    """
    members: dict[str, zones.Member] = {}
    names: dict[str, list[str]] = {}
    for endpoint in endpoints:
        special = endpoint.dns or endpoint.container_id in several
        if not endpoint.active or not (endpoint.announced or special):
            continue
        members[endpoint.address] = {
            "id": endpoint.container_id,
            "name": endpoint.container_name,
            "dns": list(endpoint.dns),
        }
        if endpoint.announced:
            for name in endpoint.names:
                names.setdefault(name.lower(), []).append(endpoint.address)
    return {
        "v": zones.VERSION,
        "network": network.name,
        "gateway": network.subnet.gateway,
        "subnet": network.subnet.subnet,
        "internal": network.internal,
        "members": members,
        "names": names,
    }


def udp_among(ports: Iterable[PublishedPort]) -> bool:
    return any(port.protocol == "udp" for port in ports)


@lru_cache(maxsize=256)
def _redirect(server: str, *, replace: bool) -> str:
    return base64.b64encode(dns_redirect(server, replace=replace)).decode()


def _address(network: Network, wish: EndpointRequest, former: Endpoint | None, taken: Taken) -> str:
    if wish.address:
        return pools.check_address(network.subnet, wish.address, taken.addresses)
    if former and former.address not in taken.addresses:
        return former.address
    return pools.pick_address(network.subnet, taken.addresses, taken.last)


def _mac(text: str) -> str:
    mac = text.lower().replace("-", ":")
    if mac and not _MAC.fullmatch(mac):
        raise InvalidArgument(f"invalid MAC address: {text}", hint="write it as 02:42:ac:12:00:02")
    if mac and int(mac[:2], 16) & 1:
        raise InvalidArgument(f"MAC address {text} is a multicast address")
    return mac
