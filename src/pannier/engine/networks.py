"""Networks as the API drives them, and containers that join or leave one while they run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from pannier.base.errors import Conflict, InvalidArgument
from pannier.base.units import parse_time, rfc3339
from pannier.engine.ground import Ground
from pannier.engine.links import endpoint_wish
from pannier.engine.model import Container
from pannier.network.manager import NetworkManager
from pannier.network.model import (
    DEFAULT_NETWORK,
    AttachRequest,
    Endpoint,
    Network,
    NetworkRequest,
    Subnet,
)
from pannier.wire import networks as wire
from pannier.wire.filters import flag, labels_pass, match_labels

Filters = Mapping[str, list[str]]


class NetworkService:
    """Implements the API's ``Networks``."""

    def __init__(self, ground: Ground, networks: NetworkManager) -> None:
        self._ground = ground
        self._networks = networks

    async def create(self, body: wire.NetworkCreate) -> str:
        """Returns the id."""
        request = NetworkRequest(
            name=body.name,
            driver=body.driver or "bridge",
            internal=body.internal,
            ipv6=bool(body.enable_ipv6),
            subnets=tuple(Subnet(c.subnet, c.gateway, c.ip_range) for c in body.ipam.config),
            labels=body.labels,
            options=body.options,
        )
        network = await self._networks.create(request)
        self._tell("create", network)
        return network.id

    async def summaries(self, filters: Filters) -> Sequence[wire.Network]:
        chosen = [n for n in self._networks.list() if self._matches(n, filters)]
        modes = [n for n in _MODES.values() if _mode_matches(n, filters)]
        return [*(self._view(network) for network in chosen), *modes]

    async def inspect(self, ref: str) -> wire.Network:
        return _MODES.get(ref) or self._view(self._networks.get(ref))

    async def remove(self, ref: str) -> None:
        self._tell("destroy", await self._networks.remove(ref))

    async def prune(self, filters: Filters) -> Sequence[str]:
        before_ns = min((parse_time(text) for text in filters.get("until", [])), default=None)
        unused = await self._networks.prune(
            lambda n: (
                labels_pass(filters, n.labels) and (before_ns is None or n.created_ns < before_ns)
            )
        )
        return [network.name for network in unused]

    async def connect(self, ref: str, body: wire.NetworkConnect) -> None:
        """Put a container on a network, at once if it runs."""
        container = self._ground.store.get(body.container)
        network = self._networks.get(ref)
        _check_joinable(container)
        async with container.lock:
            request = AttachRequest(
                container_id=container.id,
                name=container.name,
                networks={network.name: endpoint_wish(body.endpoint_config)},
                hostname=container.record.hostname,
                kind=container.kind,
                dns=tuple(container.host_config.dns),
            )
            interfaces = await self._networks.connect(request, running=container.running)
            if container.running:
                pid = container.state.pid
                await self._ground.stager.connect_interfaces(pid, interfaces)
            container.record.networks[network.name] = body.endpoint_config
            self._ground.store.save(container)
        self._tell("connect", network, container=container.id)

    async def disconnect(self, ref: str, body: wire.NetworkDisconnect) -> None:
        container = self._ground.store.get(body.container)
        network = self._networks.get(ref)
        async with container.lock:
            left = await self._networks.disconnect(container.id, network.id)
            if container.running:
                await self._ground.stager.disconnect_interfaces(
                    [left.host], container.state.pid, left.remaining
                )
            container.record.networks.pop(network.name, None)
            self._ground.store.save(container)
        self._tell("disconnect", network, container=container.id)

    def _view(self, network: Network) -> wire.Network:
        subnet = network.subnet
        return wire.Network(
            name=network.name,
            id=network.id,
            created=rfc3339(network.created_ns),
            driver=network.driver,
            internal=network.internal,
            ipam=wire.IPAM(
                config=[
                    wire.IPAMConfig(
                        subnet=subnet.subnet, gateway=subnet.gateway, ip_range=subnet.ip_range
                    )
                ]
            ),
            containers={e.container_id: _member(e) for e in self._networks.members(network.id)},
            options=network.options,
            labels=network.labels,
        )

    def _matches(self, network: Network, filters: Filters) -> bool:
        names, ids = filters.get("name", []), filters.get("id", [])
        dangling = flag(filters, "dangling")
        used = bool(self._networks.members(network.id))
        return (
            (not names or any(name in network.name for name in names))
            and (not ids or any(network.id.startswith(wanted) for wanted in ids))
            and match_labels(filters.get("label", []), network.labels)
            and filters.get("driver", [network.driver]) == [network.driver]
            and (dangling is None or dangling != used)
            and _type_of(network.name) in filters.get("type", [_type_of(network.name)])
        )

    def _tell(self, action: str, network: Network, **facts: str) -> None:
        known = {"name": network.name, "type": network.driver}
        self._ground.events.publish("network", action, network.id, {**known, **facts})


# No networks of ours, but what clients choose by the same option; they expect them in the list.
_MODES = {
    name: wire.Network(name=name, id=hashlib.sha256(name.encode()).hexdigest(), driver=driver)
    for name, driver in (("host", "host"), ("none", "null"))
}


def _mode_matches(mode: wire.Network, filters: Filters) -> bool:
    names, drivers = filters.get("name", []), filters.get("driver", [])
    others = set(filters) - {"name", "driver", "type"}
    return (
        not others
        and (not names or any(name in mode.name for name in names))
        and (not drivers or mode.driver in drivers)
        and "builtin" in filters.get("type", ["builtin"])
    )


def _type_of(name: str) -> str:
    return "builtin" if name == DEFAULT_NETWORK else "custom"


def _member(endpoint: Endpoint) -> wire.NetworkContainer:
    return wire.NetworkContainer(
        name=endpoint.container_name,
        endpoint_id=endpoint.id,
        mac_address=endpoint.mac,
        ipv4_address=f"{endpoint.address}/{endpoint.prefix}",
    )


def _check_joinable(container: Container) -> None:
    mode = container.host_config.network_mode
    if mode == "host":
        raise InvalidArgument("container cannot be connected to network endpoints: it uses host")
    if mode.startswith("container:"):
        raise Conflict("container sharing network namespace with another cannot be connected")
