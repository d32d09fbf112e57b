"""Networks and endpoints in memory, written through to the database. No kernel, no rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from pannier.base.database import Database
from pannier.base.errors import Conflict, NotFound
from pannier.network.model import Endpoint, Network


class NetworkStore:
    """The rows of the tables ``networks`` and ``endpoints``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._networks: dict[str, Network] = {}
        self._endpoints: dict[tuple[str, str], Endpoint] = {}

    def load(self) -> None:
        """Read everything."""
        decode_network = msgspec.json.Decoder(Network).decode
        decode_endpoint = msgspec.json.Decoder(Endpoint).decode
        rows = self._database.query("SELECT record FROM networks ORDER BY rowid")
        self._networks = {n.id: n for n in (decode_network(row["record"]) for row in rows)}
        rows = self._database.query("SELECT record FROM endpoints ORDER BY rowid")
        found = [decode_endpoint(row["record"]) for row in rows]
        self._endpoints = {(e.container_id, e.network_id): e for e in found}

    def networks(self) -> list[Network]:
        """All of them, oldest first."""
        return list(self._networks.values())

    def find(self, ref: str) -> Network:
        """The network with this name, id, or beginning of an id.

        Raises:
            NotFound: none.
            Conflict: several ids begin so.
        """
        if ref in self._networks:
            return self._networks[ref]
        for network in self._networks.values():
            if network.name == ref:
                return network
        matches = [n for n in self._networks.values() if ref and n.id.startswith(ref)]
        if len(matches) > 1:
            raise Conflict(
                f"network {ref} is ambiguous ({len(matches)} matches found on ID prefix)"
            )
        if not matches:
            raise NotFound(f"network {ref} not found", hint="see: pannier network ls")
        return matches[0]

    def has_name(self, name: str) -> bool:
        return any(network.name == name for network in self._networks.values())

    def add_network(self, network: Network) -> None:
        record = msgspec.json.encode(network)
        self._database.execute(
            "INSERT INTO networks (id, name, record) VALUES (?, ?, ?)",
            (network.id, network.name, record),
        )
        self._networks[network.id] = network

    def remove_network(self, network_id: str) -> None:
        """Also drops its endpoints."""
        self.remove_endpoints(self.on_network(network_id))
        self._database.execute("DELETE FROM networks WHERE id = ?", (network_id,))
        self._networks.pop(network_id, None)

    def on_network(self, network_id: str) -> list[Endpoint]:
        return [e for e in self._endpoints.values() if e.network_id == network_id]

    def of_container(self, container_id: str) -> list[Endpoint]:
        """In the order of their interfaces."""
        found = [e for e in self._endpoints.values() if e.container_id == container_id]
        return sorted(found, key=lambda endpoint: (len(endpoint.interface), endpoint.interface))

    def on_several(self) -> set[str]:
        """The ids of the containers with more than one endpoint."""
        counts = Counter(container_id for container_id, _ in self._endpoints)
        return {container_id for container_id, count in counts.items() if count > 1}

    def endpoints(self) -> list[Endpoint]:
        return list(self._endpoints.values())

    def put_endpoints(self, endpoints: Iterable[Endpoint]) -> None:
        """Insert or replace, all or none."""
        changed = list(endpoints)
        with self._database.transaction():
            for e in changed:
                self._database.execute(
                    "INSERT INTO endpoints (container_id, network_id, address, record) "
                    "VALUES (?, ?, ?, ?) ON CONFLICT (container_id, network_id) "
                    "DO UPDATE SET address = excluded.address, record = excluded.record",
                    (e.container_id, e.network_id, e.address, msgspec.json.encode(e)),
                )
        for e in changed:
            self._endpoints[e.container_id, e.network_id] = e

    def remove_endpoints(self, endpoints: Iterable[Endpoint]) -> None:
        gone = list(endpoints)
        with self._database.transaction():
            for e in gone:
                self._database.execute(
                    "DELETE FROM endpoints WHERE container_id = ? AND network_id = ?",
                    (e.container_id, e.network_id),
                )
        for e in gone:
            self._endpoints.pop((e.container_id, e.network_id), None)
