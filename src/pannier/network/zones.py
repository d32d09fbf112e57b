"""Zone files: how the engine tells the resolver who is called what; one JSON file per network.

The engine writes (``write_zone``), the resolver reads (``Names``). Neither needs the other to be
alive: files are replaced atomically and complete in themselves.

    <run>/zones/<network id>.json
    {"v": 1, "network": "front", "gateway": "172.18.0.1", "subnet": "172.18.0.0/20",
     "internal": false,
     "members": {"172.18.0.2": {"id": "<container>", "name": "web-1", "dns": []}},
     "names": {"web-1": ["172.18.0.2"], "web": ["172.18.0.2", "172.18.0.3"]}}

``members`` are all containers that ask from there, ``names`` what is announced. A container in
several networks sees the names of all of them: its addresses have the same ``id``.
"""

from __future__ import annotations

import _socket
import os

from pannier.base import jsonlite
from pannier.base.atomic import write_atomic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class Member(TypedDict):
        id: str
        name: str
        dns: list[str]

    class Zone(TypedDict):
        v: int
        network: str
        gateway: str
        subnet: str
        internal: bool
        members: dict[str, Member]
        names: dict[str, list[str]]


VERSION = 1
TTL_S = 2  # how long an answer may be kept; taking an endpoint out of service waits at least so
_SUFFIX = ".json"


def write_zone(directory: str | os.PathLike[str], network_id: str, zone: Zone) -> None:
    """Put *zone* in force."""
    path = os.path.join(directory, network_id + _SUFFIX)
    write_atomic(path, jsonlite.encode(zone))


def remove_zone(directory: str | os.PathLike[str], network_id: str) -> None:
    """Drop a network's zone; it may be gone already."""
    try:
        os.unlink(os.path.join(directory, network_id + _SUFFIX))
    except FileNotFoundError:
        return


def list_zones(directory: str | os.PathLike[str]) -> list[str]:
    """The ids of the networks that have a zone file."""
    return [n.removesuffix(_SUFFIX) for n in os.listdir(directory) if n.endswith(_SUFFIX)]


class Names:
    """All zones in memory, and the answers in them. Knows nothing of packets."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._zones: dict[str, Zone] = {}  # by network id
        self._by_gateway: dict[str, Zone] = {}
        self._memberships: dict[str, list[Zone]] = {}  # container id -> its zones
        self._turn = 0

    def load_all(self) -> None:
        """Read the directory anew."""
        present = list_zones(self._directory)
        for network_id in set(self._zones) - set(present):
            del self._zones[network_id]
        for network_id in present:
            self._read(network_id)
        self._index()

    def reload(self, file_name: str) -> None:
        """One file was replaced or removed."""
        if file_name.endswith(_SUFFIX):
            self._read(file_name.removesuffix(_SUFFIX))
            self._index()

    def gateways(self) -> set[str]:
        """The addresses to answer on."""
        return set(self._by_gateway)

    def visible(self, gateway: str, source: str) -> list[Zone]:
        """The zones that *source* may look into when it asks on *gateway*; none for a stranger."""
        zone = self._by_gateway.get(gateway)
        if zone is None or not _inside(source, zone["subnet"]):
            return []
        member = zone["members"].get(source)
        others = self._memberships.get(member["id"], []) if member else []
        return [zone, *(other for other in others if other is not zone)]

    def servers(self, gateway: str, source: str) -> list[str]:
        """The name servers that a container asked for itself (``--dns``)."""
        zone = self._by_gateway.get(gateway)
        member = zone["members"].get(source) if zone else None
        return member["dns"] if member else []

    def addresses(self, zones: list[Zone], name: str) -> list[str] | None:
        """The addresses of *name*, each time beginning with another one; None if nobody has it.

        ``name.network`` works as well as ``name``.
        """
        found = None
        for zone in zones:
            suffix = "." + zone["network"].lower()
            found = zone["names"].get(name)
            if found is None and name.endswith(suffix):
                found = zone["names"].get(name.removesuffix(suffix))
            if found:
                break
        if not found:
            return found
        self._turn += 1
        start = self._turn % len(found)
        return found[start:] + found[:start]

    @staticmethod
    def name_of(zones: list[Zone], address: str) -> str | None:
        """The container at *address*; "" if the address is ours but free, None if it is not."""
        ours = False
        for zone in zones:
            member = zone["members"].get(address)
            if member:
                return f"{member['name']}.{zone['network']}"
            ours = ours or _inside(address, zone["subnet"])
        return "" if ours else None

    def _read(self, network_id: str) -> None:
        path = os.path.join(self._directory, network_id + _SUFFIX)
        try:
            with open(path, "rb") as file:
                zone: Zone = jsonlite.decode(file.read())
        except FileNotFoundError:
            self._zones.pop(network_id, None)
            return
        except ValueError:
            return  # not ours, or of a disk that is full: what is in force stays
        if zone.get("v") == VERSION:
            self._zones[network_id] = zone

    def _index(self) -> None:
        self._by_gateway = {zone["gateway"]: zone for zone in self._zones.values()}
        self._memberships = {}
        for zone in self._zones.values():
            for member in zone["members"].values():
                self._memberships.setdefault(member["id"], []).append(zone)


def _inside(address: str, subnet: str) -> bool:
    network, _, length = subnet.partition("/")
    try:
        difference = _as_number(address) ^ _as_number(network)
    except OSError:
        return False
    return difference >> (32 - int(length)) == 0


def _as_number(address: str) -> int:
    return int.from_bytes(_socket.inet_aton(address))
