"""All firewall rules of the engine together: our table, the accepts beside others, IP forwarding.

``firewall`` knows our table's text, ``neighbours`` the foreign chains; here is when to apply them.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator

from pannier.base.errors import KernelError
from pannier.kernel.nftables import Nftables
from pannier.network import bridge
from pannier.network.firewall import Firewall, Lead
from pannier.network.model import Endpoint
from pannier.network.neighbours import Neighbours
from pannier.network.store import NetworkStore
from pannier.network.upkeep import Upkeep

_log = logging.getLogger(__name__)
_FORWARDING = "/proc/sys/net/ipv4/ip_forward"


class Rules:
    """The rules that follow from what *store* holds.

    Args:
        instance_name: names our table and marks our rules elsewhere.
        store: networks and published ports.
    """

    def __init__(self, instance_name: str, store: NetworkStore) -> None:
        self._instance_name = instance_name
        self._store = store
        self._upkeep = Upkeep(self._check)
        self._firewall: Firewall | None = None
        self._neighbours: Neighbours | None = None

    def start(self) -> None:
        """Load the library, turn IP forwarding on, watch for changes by others."""
        nft = Nftables()
        prefix = bridge.prefix_of(self._instance_name)
        self._firewall = Firewall(nft, self._instance_name, prefix)
        self._neighbours = Neighbours(nft, self._instance_name, prefix)
        _forward()
        self._upkeep.start()

    def stop(self) -> None:
        """Watch no longer; all rules stay."""
        self._upkeep.stop()

    def apply(self) -> None:
        """Replace our table by what the store says, and complete the accepts elsewhere."""
        firewall, neighbours = self._started()
        firewall.apply(self._store.networks(), self._leads())
        neighbours.ensure()

    def remove(self) -> None:
        """Remove every rule that is ours. IP forwarding stays on: others may rely on it by now."""
        nft = Nftables()
        prefix = bridge.prefix_of(self._instance_name)
        Neighbours(nft, self._instance_name, prefix).remove()
        Firewall(nft, self._instance_name, prefix).delete()

    def open(self, endpoint: Endpoint) -> None:
        """Let its published ports lead to *endpoint*."""
        self._started()[0].add(leads_of(endpoint))

    def close(self, endpoint: Endpoint) -> None:
        self._started()[0].remove(leads_of(endpoint))

    def input_refused(self) -> bool:
        """See ``Neighbours.input_refused``."""
        return self._started()[1].input_refused()

    def _started(self) -> tuple[Firewall, Neighbours]:
        assert self._firewall is not None
        assert self._neighbours is not None
        return self._firewall, self._neighbours

    def _leads(self) -> Iterator[Lead]:
        for endpoint in self._store.endpoints():
            yield from leads_of(endpoint)

    def _check(self) -> None:
        firewall, neighbours = self._started()
        if not firewall.present():
            _log.warning("the firewall table %s was removed; putting it back", firewall.table)
            firewall.apply(self._store.networks(), self._leads())
        if neighbours.ensure():
            _log.info("accepts for our networks put into other rule sets")


def leads_of(endpoint: Endpoint) -> list[Lead]:
    """What the firewall needs to know of its published ports."""
    return [
        Lead(p.protocol, p.host_ip, p.host_port, endpoint.address, p.container_port)
        for p in endpoint.published
    ]


def _forward() -> None:
    try:
        fd = os.open(_FORWARDING, os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.read(fd, 8).strip() != b"1":
                os.pwrite(fd, b"1", 0)  # behind the start a sysctl ignores what is written
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError(
            error.errno or errno.EIO,
            "turn on IP forwarding",
            _FORWARDING,
            "containers need it to reach out",
        ) from error
