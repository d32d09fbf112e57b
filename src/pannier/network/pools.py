"""Which subnet a network gets and which address a container: pure arithmetic on IPv4.

What is taken is passed in; storing the result is the manager's matter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError

from pannier.base.errors import Conflict, InvalidArgument, Unavailable, Unsupported
from pannier.network.model import Subnet

# A /20 holds more than the 1023 ports that a bridge can have. 172.17 is left to docker0 and 172.31
# to the cloud networks that use it by default.
POOLS = (
    ("172.18.0.0/15", 20),
    ("172.20.0.0/14", 20),
    ("172.24.0.0/14", 20),
    ("172.28.0.0/15", 20),
    ("10.192.0.0/10", 20),
    ("192.168.0.0/16", 24),
)
_SMALLEST_PREFIX = 30  # a gateway and one container


def plan_subnet(
    wanted: Subnet, networks: Iterable[str], connected: Iterable[str], routed: Iterable[str]
) -> Subnet:
    """Complete *wanted*.

    Args:
        wanted: what the request says; "" is chosen here.
        networks: subnets of the engine's other networks.
        connected: subnets of the host's interfaces.
        routed: other destinations that the host has routes or name servers for: avoided when
            choosing, allowed when asked for (a more specific route wins).

    Raises:
        InvalidArgument: malformed, or gateway or range outside of the subnet.
        Conflict: it overlaps another network or the host's own.
        Unavailable: no free subnet is left in the pools.
    """
    if not wanted.subnet:
        if wanted.gateway or wanted.ip_range:
            raise InvalidArgument("gateway and ip range need a subnet", hint="give --subnet too")
        taken = [_network(text) for text in (*networks, *connected, *routed)]
        return _with_gateway(_free_subnet(taken), wanted)
    subnet = _network(wanted.subnet)
    if subnet.prefixlen > _SMALLEST_PREFIX:
        raise InvalidArgument(f"subnet {subnet} is too small", hint="use a /30 or larger")
    for text, owner in (*((n, "another network") for n in networks), *_hosts(connected)):
        if subnet.overlaps(_network(text)):
            raise Conflict(
                "invalid pool request: Pool overlaps with other one on this address space",
                hint=f"{subnet} overlaps {text} of {owner}",
            )
    return _with_gateway(subnet, wanted)


def check_address(subnet: Subnet, address: str, used: Collection[str]) -> str:
    """Return the *address* that somebody asked for, if it can be given.

    Raises:
        InvalidArgument: malformed or not inside.
        Conflict: taken.
    """
    try:
        parsed = IPv4Address(address)
    except AddressValueError:
        raise InvalidArgument(f"invalid IPv4 address: {address}") from None
    network = _network(subnet.subnet)
    if parsed not in network or parsed in {network.network_address, network.broadcast_address}:
        raise InvalidArgument(
            "invalid config for network: no configured subnet contains IP address "
            f"{address} (subnet {network})"
        )
    if str(parsed) == subnet.gateway or str(parsed) in used:
        raise Conflict("Address already in use", hint=f"{address} belongs to another container")
    return str(parsed)


def pick_address(subnet: Subnet, used: Collection[str], after: str = "") -> str:
    """The next free address behind *after*, round and round.

    Not the lowest one: an address that was just given up is still in name caches and connection
    tables for a while, and must not lead to somebody else.

    Raises:
        Unavailable: all are taken.
    """
    for candidate in _candidates(_network(subnet.ip_range or subnet.subnet), after):
        text = str(candidate)
        if text != subnet.gateway and text not in used and _usable(subnet, candidate):
            return text
    raise Unavailable(f"no available IPv4 addresses on {subnet.subnet}")


def mac_for(address: str) -> str:
    """A locally administered hardware address that follows from *address*: unique on its network,
    and a container that keeps its address keeps its neighbours' ARP entries valid.
    """
    return "02:42:" + IPv4Address(address).packed.hex(":")


def prefix_length(subnet: Subnet) -> int:
    return _network(subnet.subnet).prefixlen


def _candidates(space: IPv4Network, after: str) -> Iterator[IPv4Address]:
    first, count = int(space.network_address), space.num_addresses
    start = int(IPv4Address(after)) + 1 - first if after and IPv4Address(after) in space else 0
    return (IPv4Address(first + (start + step) % count) for step in range(count))


def _usable(subnet: Subnet, address: IPv4Address) -> bool:
    whole = _network(subnet.subnet)
    return address not in {whole.network_address, whole.broadcast_address}


def _free_subnet(taken: list[IPv4Network]) -> IPv4Network:
    for pool, prefix in POOLS:
        for candidate in IPv4Network(pool).subnets(new_prefix=prefix):
            if not any(candidate.overlaps(other) for other in taken):
                return candidate
    raise Unavailable(
        "all predefined address pools have been fully subnetted",
        hint="remove unused networks (network prune) or give --subnet",
    )


def _with_gateway(subnet: IPv4Network, wanted: Subnet) -> Subnet:
    gateway = _inside(wanted.gateway, subnet, "gateway") if wanted.gateway else str(subnet[1])
    ip_range = wanted.ip_range
    if ip_range and not _network(ip_range).subnet_of(subnet):
        raise InvalidArgument(f"ip range {ip_range} is not inside of subnet {subnet}")
    return Subnet(subnet=str(subnet), gateway=gateway, ip_range=ip_range)


def _inside(address: str, subnet: IPv4Network, what: str) -> str:
    try:
        parsed = IPv4Address(address)
    except AddressValueError:
        raise InvalidArgument(f"invalid {what}: {address}") from None
    if parsed not in subnet or parsed in {subnet.network_address, subnet.broadcast_address}:
        raise InvalidArgument(f"{what} {address} is no address of subnet {subnet}")
    return str(parsed)


def _hosts(connected: Iterable[str]) -> Iterator[tuple[str, str]]:
    return ((text, "the host") for text in connected)


@lru_cache(maxsize=256)
def _network(text: str) -> IPv4Network:
    if ":" in text:
        raise Unsupported(f"IPv6 subnets are not supported: {text}", hint="give an IPv4 subnet")
    try:
        return IPv4Network(text, strict=False)
    except (AddressValueError, NetmaskValueError, ValueError):
        raise InvalidArgument(f"invalid subnet: {text}", hint="write it as 172.30.0.0/16") from None
