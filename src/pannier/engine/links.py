"""Containers and networks: what the engine asks of the network package, in a container's terms."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from pannier.engine.model import Container
from pannier.network.manager import NetworkManager
from pannier.network.model import (
    AttachRequest,
    Endpoint,
    EndpointRequest,
    PortRequest,
    PublishedPort,
)
from pannier.wire.containers import EndpointSettings, PortBinding


class NetworkLinks:
    """Joins containers to their networks, publishes their ports, tells their names."""

    def __init__(self, networks: NetworkManager) -> None:
        self._networks = networks

    async def attach(self, container: Container) -> list[Any]:
        """Allocate an address on each of its networks; returns the interfaces to make."""
        record = container.record
        if not record.networks:
            return []
        request = AttachRequest(
            container_id=record.id,
            name=record.name,
            networks={name: endpoint_wish(s) for name, s in record.networks.items()},
            hostname=record.hostname,
            kind=record.kind,
            dns=tuple(record.host_config.dns),
        )
        return list(await self._networks.attach(request))

    async def publish(self, container: Container) -> None:
        """Open the published ports; ports chosen by us are written into the record.

        Raises:
            Conflict: a port is taken.
        """
        wishes = _port_wishes(container)
        if not wishes or not container.record.networks:
            return
        published = await self._networks.publish(container.id, wishes)
        bindings: dict[str, list[PortBinding]] = {}
        for port in published:
            binding = PortBinding(host_ip=port.host_ip, host_port=str(port.host_port))
            bindings.setdefault(f"{port.container_port}/{port.protocol}", []).append(binding)
        container.record.published = bindings

    def exposure(self, container: Container) -> list[str]:
        """Warnings about ports that the host's firewall would have refused by itself."""
        wished = [
            PublishedPort(wish.container_port, wish.protocol, wish.host_ip, number)
            for wish in _port_wishes(container)
            if (number := int(wish.host_port.partition("-")[0] or 0))
        ]
        return list(self._networks.exposure(wished)) if wished else []

    def announce(self, container: Container) -> None:
        if container.record.networks:
            self._networks.announce(container.id, container.name)

    def withdraw(self, container: Container) -> None:
        if container.record.networks:
            self._networks.withdraw(container.id)

    async def detach(self, container: Container) -> None:
        """It rests: names and ports go, its addresses stay its own."""
        if container.record.networks:
            await self._networks.detach(container.id)
        container.record.published = {}

    async def release(self, container: Container) -> None:
        """It is gone: take back everything."""
        await self._networks.release(container.id)

    async def keep_only(self, known: Collection[str]) -> None:
        """Take back everything of containers that are not *known*."""
        for container_id in self._networks.containers() - set(known):
            await self._networks.release(container_id)

    def hosts(self, container: Container) -> list[str]:
        """The host's ends of its interfaces."""
        return [endpoint.host for endpoint in self._networks.endpoints(container.id)]

    def endpoints(self, container: Container) -> dict[str, EndpointSettings]:
        """Facts of each network it is on; wishes while it does not run."""
        live = {e.network_name: e for e in self._networks.endpoints(container.id)}
        return {
            name: _settings(live[name], wish) if name in live else wish
            for name, wish in container.record.networks.items()
        }


def endpoint_wish(settings: EndpointSettings) -> EndpointRequest:
    """What a client asks of one endpoint."""
    ipam = settings.ipam_config
    return EndpointRequest(
        aliases=tuple(settings.aliases),
        address=ipam.ipv4_address if ipam else "",
        mac=settings.mac_address,
        gateway_priority=settings.gw_priority,
    )


def _settings(endpoint: Endpoint, wish: EndpointSettings) -> EndpointSettings:
    return msgspec.structs.replace(
        wish,
        network_id=endpoint.network_id,
        endpoint_id=endpoint.id,
        gateway=endpoint.gateway,
        ip_address=endpoint.address,
        ip_prefix_len=endpoint.prefix,
        mac_address=endpoint.mac,
        dns_names=list(endpoint.names),
    )


def _port_wishes(container: Container) -> list[PortRequest]:
    host = container.host_config
    bindings: Mapping[str, list[PortBinding]] = host.port_bindings
    if host.publish_all_ports:
        every = {key: [PortBinding()] for key in container.config.exposed_ports}
        bindings = {**every, **bindings}
    wishes = []
    for key, where in bindings.items():
        number, _, protocol = key.partition("/")
        for binding in where:
            wish = PortRequest(int(number), protocol or "tcp", binding.host_ip, binding.host_port)
            wishes.append(wish)
    return wishes
