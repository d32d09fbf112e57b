"""What earlier builds made: a key over everything that a step's result depends on -> its layer.

A step without effect on files has a row too, for it tells when the step was first made: with equal
times in the history, an unchanged Dockerfile gives the same image again, id included.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pannier.base.database import Database
from pannier.images.layers import Layer, LayerStore

# Part of every key: to be raised when a step comes to do something else than before.
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Cached:
    """An earlier result.

    Args:
        layer: what the step changed; None if it changed no file.
        created_ns: when it was made, since the epoch.
        description: the step's line in the history.
    """

    layer: Layer | None
    created_ns: int
    description: str


@dataclass(frozen=True, slots=True)
class CacheRecord:
    """One row, for lists. ``size`` in bytes; times since the epoch."""

    id: str
    description: str
    size: int
    created_ns: int
    used_ns: int
    uses: int
    in_use: bool


def key_of(kind: str, *parts: object) -> str:
    """The key of a step: *parts* are JSON values that its result depends on."""
    text = json.dumps([_FORMAT, kind, *parts], separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class BuildCache:
    """The table ``build_cache``; a layer that stands in it is not collected."""

    def __init__(self, db: Database, layers: LayerStore) -> None:
        self._db = db
        self._layers = layers

    def find(self, key: str) -> Cached | None:
        row = self._db.one("SELECT * FROM build_cache WHERE key = ?", (key,))
        if row is None:
            return None
        layer = self._layers.get(row["layer_id"]) if row["layer_id"] else None
        return Cached(layer, row["created_ns"], row["description"])

    def add(self, key: str, result: Cached) -> None:
        """Store a result; an older one of the same key is replaced."""
        self._db.execute(
            "INSERT OR REPLACE INTO build_cache (key, layer_id, description, created_ns, used_ns)"
            " VALUES (?, ?, ?, ?, ?)",
            (
                key,
                result.layer.id if result.layer else None,
                result.description,
                result.created_ns,
                time.time_ns(),
            ),
        )

    def note_use(self, keys: Iterable[str]) -> None:
        """Remember that a build used these rows now."""
        now = time.time_ns()
        with self._db.transaction():
            for key in keys:
                self._db.execute(
                    "UPDATE build_cache SET used_ns = ?, uses = uses + 1 WHERE key = ?", (now, key)
                )

    def records(self) -> list[CacheRecord]:
        """All rows, last used first."""
        return [_record(row) for row in self._db.query(f"{_RECORDS} ORDER BY used_ns DESC")]

    async def prune(
        self, *, all_: bool, keep_bytes: int = 0, before_ns: int | None = None
    ) -> tuple[Sequence[str], int]:
        """Forget rows and remove the layers that nothing else needs.

        Args:
            all_: also rows whose layer an image has.
            keep_bytes: as many bytes of the last used rows stay.
            before_ns: only rows not used since then.

        Returns:
            The keys that went and the bytes that were freed.
        """
        doomed: list[str] = []
        kept = 0
        for record in self.records():
            kept += record.size
            old = before_ns is None or record.used_ns < before_ns
            beyond = not keep_bytes or kept > keep_bytes
            if old and beyond and (all_ or not record.in_use):
                doomed.append(record.id)
        with self._db.transaction():
            for key in doomed:
                self._db.execute("DELETE FROM build_cache WHERE key = ?", (key,))
        removed = await self._layers.collect()
        return doomed, sum(layer.size for layer in removed)


_RECORDS = """
    SELECT build_cache.*, coalesce(layers.size, 0) AS size,
        EXISTS (SELECT 1 FROM image_layers WHERE image_layers.layer_id = layers.id) AS in_use
    FROM build_cache LEFT JOIN layers ON layers.id = build_cache.layer_id
"""


def _record(row: sqlite3.Row) -> CacheRecord:
    return CacheRecord(
        row["key"],
        row["description"],
        row["size"],
        row["created_ns"],
        row["used_ns"],
        row["uses"],
        bool(row["in_use"]),
    )
