"""The engine's state in one SQLite file (WAL), and the only place where its schema is written.

    images 1--n image_layers n--1 layers          tags n--1 images
    build_cache n--1 layers (nullable: a step that changed no file)
    containers n--1 images                        id_ranges 1--n containers (by sharing namespaces)
    networks 1--n endpoints n--1 containers       volumes

Columns named ``*_ns`` are nanoseconds since the epoch; ``record`` and ``config`` hold JSON.
No rows are read here: each package writes its own SQL.
The daemon's event-loop thread is the only user, so no statement ever waits for another one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pannier.base.errors import Internal

_MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE layers (
        id TEXT PRIMARY KEY,             -- short random id, the directory's name
        diff_id TEXT UNIQUE,             -- sha256:... of the uncompressed tar; null: not known yet
        size INTEGER NOT NULL,           -- bytes of its files
        tar_size INTEGER NOT NULL,       -- bytes of the uncompressed tar
        blob TEXT,                       -- digest of the archive as received, kept in blobs/
        media_type TEXT,                 -- of that blob
        created_ns INTEGER NOT NULL
    );
    CREATE TABLE images (
        id TEXT PRIMARY KEY,             -- sha256:... of the config
        config BLOB NOT NULL,
        created_ns INTEGER NOT NULL      -- when it came into this store
    );
    CREATE TABLE image_layers (
        image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,       -- 0 is the base
        layer_id TEXT NOT NULL REFERENCES layers (id),
        PRIMARY KEY (image_id, position)
    );
    CREATE INDEX image_layers_layer ON image_layers (layer_id);
    CREATE TABLE tags (
        reference TEXT PRIMARY KEY,      -- docker.io/library/debian:12, or name@sha256:...
        image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE
    );
    CREATE TABLE build_cache (
        key TEXT PRIMARY KEY,            -- digest of all that the step's result depends on
        layer_id TEXT REFERENCES layers (id), -- null: the step changed no file
        description TEXT NOT NULL,
        created_ns INTEGER NOT NULL,
        used_ns INTEGER NOT NULL,
        uses INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX build_cache_layer ON build_cache (layer_id);
    CREATE TABLE containers (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        record BLOB NOT NULL             -- the engine's own JSON
    );
    CREATE TABLE id_ranges (
        container_id TEXT PRIMARY KEY,
        first INTEGER NOT NULL,
        count INTEGER NOT NULL
    );
    CREATE TABLE volumes (
        name TEXT PRIMARY KEY,
        record BLOB NOT NULL
    );
    CREATE TABLE networks (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        record BLOB NOT NULL
    );
    CREATE TABLE endpoints (
        container_id TEXT NOT NULL,
        network_id TEXT NOT NULL REFERENCES networks (id),
        address TEXT NOT NULL,
        record BLOB NOT NULL,
        PRIMARY KEY (container_id, network_id),
        UNIQUE (network_id, address)
    );
    """,
)


class Database:
    """A thin layer over sqlite3: migrations, transactions that nest, rows by name.

    Args:
        path: the file; ``:memory:`` works for unit tests.

    Raises:
        Internal: the file was written by a newer pannier, or is no database.
    """

    def __init__(self, path: Path | str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._depth = 0
        try:
            self._connection.execute("PRAGMA journal_mode=WAL")
            # A power cut may lose the last commits, never the consistency (sqlite.org/wal.html).
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute("PRAGMA foreign_keys=ON")
            self._migrate()
        except sqlite3.DatabaseError as error:
            raise Internal(f"cannot use database {path}: {error}") from error

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Run one statement; returns the number of rows it changed."""
        return self._connection.execute(sql, parameters).rowcount

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[sqlite3.Row]:
        return self._connection.execute(sql, parameters).fetchall()

    def one(self, sql: str, parameters: Sequence[object] = ()) -> sqlite3.Row | None:
        row = self._connection.execute(sql, parameters).fetchone()
        assert row is None or isinstance(row, sqlite3.Row)
        return row

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; an inner transaction joins the outer one."""
        if self._depth:
            yield
            return
        self._connection.execute("BEGIN IMMEDIATE")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        else:
            self._connection.execute("COMMIT")
        finally:
            self._depth -= 1

    def close(self) -> None:
        self._connection.close()

    def _migrate(self) -> None:
        version: int = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(_MIGRATIONS):
            raise Internal(
                f"the database has schema {version}, this pannier knows {len(_MIGRATIONS)}",
                hint="start the newer pannier that wrote it",
            )
        for number, script in enumerate(_MIGRATIONS[version:], version + 1):
            self._connection.executescript(
                f"BEGIN; {script}; PRAGMA user_version={number}; COMMIT;"
            )
