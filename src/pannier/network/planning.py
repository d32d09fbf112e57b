"""A network from a request: what is allowed, and what is chosen. Pure; the bridge comes later."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pannier.base.errors import InvalidArgument, Unsupported
from pannier.base.ids import new_id
from pannier.network import pools
from pannier.network.bridge import HostNetwork, bridge_name
from pannier.network.firewall import MASQUERADE_OPTION
from pannier.network.model import Network, NetworkRequest, Subnet

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_MTU_OPTION = "com.docker.network.driver.mtu"
_OPTIONS = {_MTU_OPTION, MASQUERADE_OPTION}
_SMALLEST_MTU, _LARGEST_MTU = 68, 65535  # RFC 791; what a bridge takes


def check(request: NetworkRequest) -> None:
    """Refuse what no network can be.

    Raises:
        InvalidArgument: a malformed name or option.
        Unsupported: another driver than bridge, IPv6, several subnets, an unknown option.
    """
    if not _NAME.fullmatch(request.name):
        raise InvalidArgument(
            f"{request.name!r} is no network name", hint="use letters, digits and _.-"
        )
    if request.driver not in {"", "bridge"}:
        raise Unsupported(
            f"network driver {request.driver!r} is not supported", hint="use the driver bridge"
        )
    if request.ipv6:
        raise Unsupported("IPv6 networks are not supported", hint="leave out --ipv6")
    if len(request.subnets) > 1:
        raise Unsupported("a network has one subnet", hint="give one --subnet")
    unknown = sorted(set(request.options) - _OPTIONS)
    if unknown:
        raise Unsupported(
            f"network option {unknown[0]!r} is not supported",
            hint=f"known are {', '.join(sorted(_OPTIONS))}",
        )
    mtu = request.options.get(_MTU_OPTION, "1500")
    if not (mtu.isdigit() and _SMALLEST_MTU <= int(mtu) <= _LARGEST_MTU):
        raise InvalidArgument(f"invalid MTU: {mtu!r}", hint="give bytes: 1500")


def plan(
    request: NetworkRequest,
    *,
    instance_name: str,
    others: Iterable[str],
    host: HostNetwork,
    mtu: int,
    created_ns: int,
) -> Network:
    """The network that *request* leads to.

    Args:
        request: has passed ``check``.
        instance_name: begins the bridge's name.
        others: subnets of the engine's networks.
        host: what the host uses.
        mtu: of the way out, in bytes.
        created_ns: now, nanoseconds since the epoch.

    Raises:
        InvalidArgument, Conflict, Unavailable: see ``pools.plan_subnet``.
    """
    network_id = new_id()
    wanted = request.subnets[0] if request.subnets else Subnet()
    return Network(
        id=network_id,
        name=request.name,
        bridge=bridge_name(instance_name, network_id),
        subnet=pools.plan_subnet(wanted, others, host.connected, host.routed),
        created_ns=created_ns,
        internal=request.internal,
        mtu=int(request.options.get(_MTU_OPTION) or mtu),
        labels=request.labels,
        options=request.options,
    )
