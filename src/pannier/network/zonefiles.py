"""Writing zone files only when they change, and knowing whether the host has booted since."""

from __future__ import annotations

from pathlib import Path

from pannier.base.atomic import write_atomic
from pannier.network import zones

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class ZoneFiles:
    """The directory that the resolver reads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._written: dict[str, zones.Zone] = {}

    def first_since_boot(self) -> bool:
        """Whether no daemon has been here since the host booted; remembers that one has now."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark = self._directory / "boot_id"
        current = _BOOT_ID.read_text()
        if mark.exists() and mark.read_text() == current:
            return False
        write_atomic(mark, current.encode())
        return True

    def write(self, network_id: str, zone: zones.Zone) -> None:
        """Put *zone* in force, unless it is already."""
        if self._written.get(network_id) != zone:
            zones.write_zone(self._directory, network_id, zone)
            self._written[network_id] = zone

    def remove(self, network_id: str) -> None:
        zones.remove_zone(self._directory, network_id)
        self._written.pop(network_id, None)

    def drop_others(self, known: set[str]) -> None:
        """Remove all zones but those of *known* network ids."""
        for network_id in set(zones.list_zones(self._directory)) - known:
            self.remove(network_id)
