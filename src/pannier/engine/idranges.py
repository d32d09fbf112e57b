"""Which 65536 host ids belong to which container: one pool, one range for each user namespace."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pannier.base.database import Database
from pannier.base.errors import Unavailable

RANGE = 65536
# Far above what distributions hand out (100000 and up) and systemd's dynamic users (524288 to
# 1878982656 is nspawn's and "container" area by systemd's UIDS-GIDS.md; we take its upper part).
_FIRST = 1_000_013_824 // RANGE * RANGE
_RANGES = 8192


class IdRanges:
    """Allocates ranges; they are kept with the container and go with it.

    Args:
        database: holds the table ``id_ranges``.
        subid_files: ranges granted to users there are left alone (subuid(5)).
    """

    def __init__(
        self,
        database: Database,
        subid_files: tuple[Path, ...] = (Path("/etc/subuid"), Path("/etc/subgid")),
    ) -> None:
        self._database = database
        self._foreign = [span for path in subid_files for span in _granted(path)]
        self._next = 0

    def allocate(self, container_id: str) -> int:
        """Returns the first host id of a free range of 65536.

        Raises:
            Unavailable: every range is taken.
        """
        taken = {row["first"] for row in self._database.query("SELECT first FROM id_ranges")}
        for offset in range(_RANGES):
            number = (self._next + offset) % _RANGES
            first = _FIRST + number * RANGE
            if first not in taken and not self._is_foreign(first):
                # Going round instead of reusing the lowest: files that a removed container left
                # somewhere do not at once belong to the next one.
                self._next = number + 1
                self.hold(container_id, first)
                return first
        raise Unavailable(
            f"no free range of {RANGE} user ids is left",
            hint="remove containers that are no longer needed",
        )

    def hold(self, container_id: str, first: int) -> None:
        """Record that *container_id* uses the range at *first*, shared or its own."""
        self._database.execute(
            "INSERT OR REPLACE INTO id_ranges VALUES (?, ?, ?)", (container_id, first, RANGE)
        )

    def release(self, container_id: str) -> None:
        self._database.execute("DELETE FROM id_ranges WHERE container_id = ?", (container_id,))

    def keep_only(self, known: Mapping[str, int]) -> None:
        """Make the table say what is so: first id by container, 0 for the host's ids."""
        for row in self._database.query("SELECT container_id FROM id_ranges"):
            if not known.get(row["container_id"]):
                self.release(row["container_id"])
        for container_id, first in known.items():
            if first:
                self.hold(container_id, first)

    def _is_foreign(self, first: int) -> bool:
        return any(start < first + RANGE and first < end for start, end in self._foreign)


def _granted(path: Path) -> list[tuple[int, int]]:
    if not path.exists():
        return []
    spans = []
    for line in path.read_text().splitlines():
        parts = line.split(":")
        if len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit():
            spans.append((int(parts[1]), int(parts[1]) + int(parts[2])))
    return spans
