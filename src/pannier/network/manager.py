"""Networks of one engine: the only way into this package for the engine.

Order of a container's life here: ``attach`` (addresses), ``publish`` (ports), ``announce`` (names);
then ``withdraw``, ``unpublish``, and ``detach`` (stopped, keeps its address) or ``release`` (gone).
Making the interfaces is the keeper's, answering names the resolver's: both work with the daemon
down. Everything here runs on the event loop and takes a millisecond at most, a new bridge aside.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from pannier.base.database import Database
from pannier.base.errors import Conflict, Denied, NotFound
from pannier.base.instance import Instance
from pannier.base.undo import UndoStack
from pannier.kernel.netfilter import forget_connections
from pannier.network import bridge, endpoints, planning
from pannier.network.model import (
    DEFAULT_NETWORK,
    AttachRequest,
    Disconnection,
    Endpoint,
    EndpointRequest,
    Network,
    NetworkRequest,
    PortRequest,
    PublishedPort,
)
from pannier.network.ports import PortTable
from pannier.network.rules import Rules
from pannier.network.store import NetworkStore
from pannier.network.zonefiles import ZoneFiles

if TYPE_CHECKING:
    from pannier.kernel.netlink_types import Interface

_log = logging.getLogger(__name__)
_PREDEFINED = {DEFAULT_NETWORK, "host", "none"}
_UDP = 17


class NetworkManager:
    """All networks and endpoints of an engine.

    Args:
        database: where they are kept.
        instance: names the firewall table, begins the bridges' names, says where zones are.
        now_ns: the clock, nanoseconds since the epoch.
        resolv_conf: the host's name servers: no network may cover them.
    """

    def __init__(
        self,
        database: Database,
        instance: Instance,
        *,
        now_ns: Callable[[], int] = time.time_ns,
        resolv_conf: Path = Path("/etc/resolv.conf"),
    ) -> None:
        self._instance = instance
        self._now_ns = now_ns
        self._resolv_conf = resolv_conf
        self._store = NetworkStore(database)
        self._zones = ZoneFiles(instance.zones)
        self._ports = PortTable()
        self._rules = Rules(instance.name, self._store)
        self._last: dict[str, str] = {}  # network id -> the address given out last

    # -------------------------------------------------------------- whole engine

    async def start(self) -> None:
        """Make everything as the database says: bridges, rules, zones, held ports.

        Safe to repeat; running containers notice nothing.

        Raises:
            Unsupported: libnftables is missing.
            KernelError: a bridge cannot be made.
        """
        self._store.load()
        if self._zones.first_since_boot():
            self._forget_running()
        self._rules.start()
        if not self._store.has_name(DEFAULT_NETWORK):
            self._add(NetworkRequest(DEFAULT_NETWORK))
        known = {network.bridge for network in self._store.networks()}
        for stale in set(bridge.existing(self._instance.name)) - known:
            bridge.remove(stale)
        for network in self._store.networks():
            bridge.ensure(network)
        self._rules.apply()
        self._zones.drop_others({network.id for network in self._store.networks()})
        self._write_zones(network.id for network in self._store.networks())
        self._hold_ports_again()

    async def stop(self) -> None:
        """The daemon ends: networks, rules and names stay in force, held ports are given up."""
        self._rules.stop()
        self._ports.release_all()

    async def purge(self) -> None:
        """Remove every rule, bridge and zone file from the host; the database stays as it is."""
        await self.stop()
        self._rules.remove()
        bridge.remove_veths(self._instance.name)
        for name in bridge.existing(self._instance.name):
            bridge.remove(name)
        self._zones.drop_others(set())

    # -------------------------------------------------------------- networks

    async def create(self, request: NetworkRequest) -> Network:
        """Make a network.

        Raises:
            InvalidArgument: a malformed name, subnet, gateway or range.
            Conflict: the name or the subnet is taken.
            Unsupported: another driver than bridge, IPv6, an option that is not known.
            Unavailable: no subnet is free.
        """
        planning.check(request)
        if request.name in _PREDEFINED or self._store.has_name(request.name):
            raise Conflict(f"network with name {request.name} already exists")
        with UndoStack() as undo:
            network = self._add(request)
            undo.push(self._store.remove_network, network.id)
            bridge.ensure(network)
            undo.push(bridge.remove, network.bridge)
            self._rules.apply()
            self._write_zones([network.id])
            undo.commit()
        return network

    async def remove(self, ref: str) -> Network:
        """Remove a network that no running container is on.

        Raises:
            NotFound: no such network.
            Denied: it is in use, or the default one.
        """
        network = self._store.find(ref)
        if network.name in _PREDEFINED:
            raise Denied(f"{network.name} is a pre-defined network and cannot be removed")
        active = [e for e in self._store.on_network(network.id) if e.active]
        if active:
            names = ", ".join(f'name:"{e.container_name}" id:"{e.id[:12]}"' for e in active)
            raise Denied(
                f"error while removing network: network {network.name} has active endpoints "
                f"({names})",
                hint="stop or disconnect these containers first",
            )
        self._store.remove_network(network.id)
        self._rules.apply()
        self._zones.remove(network.id)
        bridge.remove(network.bridge)
        return network

    def get(self, ref: str) -> Network:
        """By name, id or the beginning of an id; NotFound if there is none."""
        return self._store.find(ref)

    def list(self) -> Sequence[Network]:
        """All networks, oldest first."""
        return self._store.networks()

    def members(self, ref: str) -> Sequence[Endpoint]:
        """The active endpoints on a network."""
        return [e for e in self._store.on_network(self._store.find(ref).id) if e.active]

    async def prune(
        self, wanted: Callable[[Network], bool] = lambda network: True
    ) -> Sequence[Network]:
        """Remove unused networks that *wanted* accepts; those of stopped containers stay."""
        unused = [
            network
            for network in self._store.networks()
            if network.name not in _PREDEFINED and not self._store.on_network(network.id)
        ]
        return [await self.remove(network.id) for network in unused if wanted(network)]

    # -------------------------------------------------------------- containers

    async def attach(self, request: AttachRequest) -> Sequence[Interface]:
        """Give a container that starts its addresses; those of an earlier start if they are free.

        Raises:
            NotFound: a network does not exist.
            Conflict: a wanted address is taken.
            InvalidArgument: a malformed address.
            Unavailable: a network has no address left.
        """
        former = {e.network_id: e for e in self._store.of_container(request.container_id)}
        made: list[Endpoint] = []
        self._close_ports(former.values())  # left over from a crash
        for ref, wish in request.networks.items():
            network = self._store.find(ref)
            bridge.ensure_present(network)
            name = endpoints.free_interface([e.interface for e in made])
            made.append(self._endpoint(network, request, wish, name, former.pop(network.id, None)))
        self._store.remove_endpoints(former.values())
        self._store.put_endpoints(made)
        self._write_zones([*former, *(e.network_id for e in made)])
        return self._interfaces(made)

    async def connect(self, request: AttachRequest, *, running: bool = True) -> Sequence[Interface]:
        """Add a container to the networks of *request*; returns the new interfaces to make.

        Raises:
            Conflict: it is on one of them already; else as ``attach``.
        """
        present = self._store.of_container(request.container_id)
        added: list[Endpoint] = []
        for ref, wish in request.networks.items():
            network = self._store.find(ref)
            if any(e.network_id == network.id for e in present):
                raise Conflict(
                    f"endpoint with name {request.name} already exists in network {network.name}"
                )
            name = endpoints.free_interface([e.interface for e in (*present, *added)])
            endpoint = self._endpoint(network, request, wish, name, None)
            announced = any(e.announced for e in present)
            added.append(replace(endpoint, announced=announced, active=running))
        self._store.put_endpoints(added)
        self._write_zones(e.network_id for e in added)
        everything = self._interfaces([*present, *added], replace_redirect=True)
        fresh = everything[len(present) :]
        if any(e.gateway for e in present):  # the default route stays where it is
            fresh = [{**interface, "gateway": None} for interface in fresh]
        return fresh

    async def disconnect(self, container_id: str, ref: str) -> Disconnection:
        """Take a container off a network.

        Raises:
            NotFound: no such network.
            Conflict: the container is not on it.
        """
        network = self._store.find(ref)
        present = self._store.of_container(container_id)
        gone = next((e for e in present if e.network_id == network.id), None)
        if gone is None:
            raise Conflict(f"container {container_id} is not connected to network {network.name}")
        self._close_ports([gone])
        self._store.remove_endpoints([gone])
        self._write_zones([network.id])
        remaining = [e for e in present if e is not gone]
        return Disconnection(gone.host, self._interfaces(remaining, replace_redirect=True))

    def announce(self, container_id: str, name: str = "") -> None:
        """Let others find a container: its name (*name* if it was renamed), id and aliases."""
        self._change(container_id, announced=True, **({"container_name": name} if name else {}))

    def withdraw(self, container_id: str) -> None:
        """Stop telling its names. Answers given before are used for ``zones.TTL_S`` seconds."""
        self._change(container_id, announced=False)

    async def publish(
        self, container_id: str, wishes: Sequence[PortRequest]
    ) -> Sequence[PublishedPort]:
        """Open ports of the host that lead into a container; all of them or none.

        On internal networks alone nothing is opened. Ports published before are closed.

        Raises:
            Conflict: a port is in use.
            NotFound: the container has not been attached.
            InvalidArgument, Unsupported: see ``ports``.
        """
        present = self._store.of_container(container_id)
        if not present:
            raise NotFound(f"container {container_id[:12]} is on no network")
        await self.unpublish(container_id)
        target = endpoints.default_endpoint(self._store.of_container(container_id))
        if target is None:
            _log.warning("%s is on internal networks only: no port opened", container_id[:12])
            return []
        published = self._ports.hold(container_id, wishes)
        opened = replace(target, published=tuple(published))
        with UndoStack() as undo:
            undo.push(self._ports.release, container_id)
            self._rules.open(opened)
            undo.push(self._rules.close, opened)
            self._store.put_endpoints([opened])
            undo.commit()
        return published

    async def unpublish(self, container_id: str) -> None:
        """Close all published ports of a container."""
        self._close_ports(self._store.of_container(container_id))

    def exposure(self, ports: Iterable[PublishedPort]) -> Sequence[str]:
        """Warnings about ports that the host's firewall would have refused."""
        public = [port for port in ports if not port.host_ip.startswith("127.")]
        if not public or not self._rules.input_refused():
            return []
        numbers = ", ".join(f"{port.host_port}/{port.protocol}" for port in public)
        return [
            f"published ports pass the host's firewall, which refuses by default: {numbers}; "
            "publish on 127.0.0.1 to keep them local"
        ]

    async def detach(self, container_id: str) -> None:
        """A container has stopped: names and ports go, its addresses stay its own."""
        await self.unpublish(container_id)
        self._change(container_id, announced=False, active=False)

    async def release(self, container_id: str) -> None:
        """Take back everything."""
        await self.unpublish(container_id)
        gone = self._store.of_container(container_id)
        self._store.remove_endpoints(gone)
        self._write_zones(e.network_id for e in gone)

    def endpoints(self, container_id: str) -> Sequence[Endpoint]:
        """A container's endpoints in the order of its interfaces."""
        return self._store.of_container(container_id)

    def containers(self) -> set[str]:
        """The ids of all containers that have an endpoint."""
        return {endpoint.container_id for endpoint in self._store.endpoints()}

    # -------------------------------------------------------------- inside

    def _add(self, request: NetworkRequest) -> Network:
        name = self._instance.name
        network = planning.plan(
            request,
            instance_name=name,
            others=[network.subnet.subnet for network in self._store.networks()],
            host=bridge.host_network(self._resolv_conf, bridge.prefix_of(name)),
            mtu=bridge.uplink_mtu(),
            created_ns=self._now_ns(),
        )
        self._store.add_network(network)
        return network

    def _endpoint(
        self,
        network: Network,
        request: AttachRequest,
        wish: EndpointRequest,
        interface: str,
        former: Endpoint | None,
    ) -> Endpoint:
        others = self._store.on_network(network.id)
        used = {e.address for e in others if e.container_id != request.container_id}
        endpoint = endpoints.make_endpoint(
            network,
            request,
            wish,
            interface=interface,
            host=bridge.veth_name(self._instance.name),
            former=former,
            taken=endpoints.Taken(used, self._last.get(network.id, "")),
        )
        if not wish.address and former is None:
            self._last[network.id] = endpoint.address
        return endpoint

    def _interfaces(
        self, made: Sequence[Endpoint], *, replace_redirect: bool = False
    ) -> Sequence[Interface]:
        networks = [self._store.find(endpoint.network_id) for endpoint in made]
        return endpoints.interfaces_of(made, networks, replace_redirect=replace_redirect)

    def _change(self, container_id: str, **changes: object) -> None:
        present = self._store.of_container(container_id)
        changed = [replace(endpoint, **changes) for endpoint in present]
        self._store.put_endpoints(c for c, p in zip(changed, present, strict=True) if c != p)
        self._write_zones(e.network_id for e in present)

    def _close_ports(self, present: Iterable[Endpoint]) -> None:
        for endpoint in present:
            if not endpoint.published:
                continue
            self._rules.close(endpoint)
            self._ports.release(endpoint.container_id)
            self._store.put_endpoints([replace(endpoint, published=())])
            if endpoints.udp_among(endpoint.published):
                forget_connections(endpoint.address, _UDP)

    def _write_zones(self, network_ids: Iterable[str]) -> None:
        several = self._store.on_several()
        for network_id in dict.fromkeys(network_ids):
            network = self._store.find(network_id)
            present = self._store.on_network(network_id)
            self._zones.write(network_id, endpoints.zone_of(network, present, several=several))

    def _hold_ports_again(self) -> None:
        for endpoint in self._store.endpoints():
            for port in self._ports.hold_again(endpoint.container_id, endpoint.published):
                _log.warning(
                    "port %d/%s of %s is used by another program as well",
                    port.host_port,
                    port.protocol,
                    endpoint.container_name,
                )

    def _forget_running(self) -> None:
        """After a boot nothing runs, whatever the records say."""
        self._store.put_endpoints(
            replace(endpoint, announced=False, active=False, published=())
            for endpoint in self._store.endpoints()
        )
