"""Named volumes: directories below the data directory, listed, removed, filled on first use."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec

from pannier.base.database import Database
from pannier.base.errors import Conflict, InvalidArgument, NotFound, PannierError
from pannier.base.ids import new_id
from pannier.base.instance import Instance
from pannier.engine.events import EventBus

_log = logging.getLogger(__name__)

_ANONYMOUS = "com.docker.volume.anonymous"


class Volume(msgspec.Struct):
    """One volume. ``filled`` is set once the content of the first image path was copied,
    ``filling`` while that is done, ``pending`` while its only user, an unfinished container, is not
    written down."""

    name: str
    created_ns: int
    labels: dict[str, str] = {}
    options: dict[str, str] = {}
    filled: bool = False
    filling: bool = False
    pending: bool = False

    @property
    def anonymous(self) -> bool:
        return _ANONYMOUS in self.labels


class Volumes:
    """All volumes of the engine.

    Args:
        users_of: names of the containers that use a volume.
    """

    def __init__(
        self,
        database: Database,
        instance: Instance,
        events: EventBus,
        users_of: Callable[[str], list[str]],
    ) -> None:
        self._database = database
        self._instance = instance
        self._events = events
        self._users_of = users_of
        self._volumes: dict[str, Volume] = {}
        self._fillings: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        for row in database.query("SELECT record FROM volumes"):
            volume = msgspec.json.decode(row["record"], type=Volume)
            self._volumes[volume.name] = volume

    def directory(self, volume: Volume) -> Path:
        """Where its files are."""
        return self._instance.volumes / volume.name / "_data"

    def create(
        self,
        name: str = "",
        *,
        driver: str = "local",
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        pending: bool = False,
    ) -> Volume:
        """Create, or return the one that is there (as Docker does).

        Args:
            pending: a crash before `settle` takes it away again.

        Raises:
            InvalidArgument: a bad name, an unknown driver or option.
        """
        if driver not in {"", "local"}:
            raise NotFound(f"error looking up volume plugin {driver}: plugin not found")
        if options:
            raise InvalidArgument(
                f"volume option not supported: {next(iter(options))}",
                hint="bind-mount the directory instead",
            )
        labels = dict(labels or {})
        if not name:
            name = new_id()
            labels[_ANONYMOUS] = ""
        if name in self._volumes:
            # Its removal may have been cut short by a crash.
            self.directory(self._volumes[name]).mkdir(mode=0o755, parents=True, exist_ok=True)
            return self._volumes[name]
        _check_name(name)
        volume = Volume(name, time.time_ns(), labels, pending=pending)
        self.directory(volume).mkdir(mode=0o755, parents=True, exist_ok=True)
        self._volumes[name] = volume
        self._save(volume)
        self._events.publish("volume", "create", name, {"driver": "local"})
        return volume

    def get(self, name: str) -> Volume:
        """
        Raises:
            NotFound: Docker's wording.
        """
        volume = self._volumes.get(name)
        if volume is None:
            raise NotFound(f"get {name}: no such volume")
        return volume

    def list(self) -> list[Volume]:
        return sorted(self._volumes.values(), key=lambda volume: volume.name)

    async def remove(self, name: str, *, force: bool = False) -> None:
        """
        Raises:
            NotFound: unless *force*.
            Conflict: a container uses it.
        """
        if name not in self._volumes and force:
            return
        volume = self.get(name)
        users = self._users_of(name)
        if users:
            raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
        # Renamed first: a crash half-way leaves rubbish below tmp, never half a volume.
        rubbish = self._instance.tmp / f"volume-{new_id()[:12]}"
        with suppress(FileNotFoundError):  # that crash has happened
            os.rename(self._instance.volumes / name, rubbish)
        self._database.execute("DELETE FROM volumes WHERE name = ?", (name,))
        del self._volumes[volume.name]
        if rubbish.exists():
            await asyncio.to_thread(shutil.rmtree, rubbish)
        self._events.publish("volume", "destroy", name, {"driver": "local"})

    async def prune(
        self, *, everything: bool, keep: Callable[[Volume], bool]
    ) -> tuple[Sequence[str], int]:
        """Remove unused volumes: anonymous ones, or all. Returns names and bytes freed."""
        removed, freed = [], 0
        for volume in self.list():
            wanted = (volume.anonymous or everything) and not keep(volume)
            if wanted and not self._users_of(volume.name):
                freed += await asyncio.to_thread(disk_usage, self.directory(volume))
                await self.remove(volume.name)
                removed.append(volume.name)
        return removed, freed

    async def fill(self, volume: Volume, copy: Callable[[], None]) -> None:
        """Have *copy* run, in a thread, for a volume that is used for the first time.

        Who comes meanwhile waits for it. A copy that fails or is cut short leaves nothing: half of
        it would be taken for the user's data ever after.
        """
        turn = self._fillings.setdefault(volume.name, asyncio.Lock())
        async with turn:
            if volume.filled or os.listdir(self.directory(volume)):
                self._note_filled(volume)
                return
            volume.filling = True
            self._save(volume)
            try:
                await asyncio.to_thread(copy)
            except (PannierError, OSError):
                await self._empty(volume)
                raise
            self._note_filled(volume)

    def settle(self, names: Iterable[str]) -> None:
        """The container that they were made for is written down."""
        for name in names:
            volume = self._volumes.get(name)
            if volume is not None and volume.pending:
                volume.pending = False
                self._save(volume)

    async def drop_pending(self) -> None:
        """After a crash: what was made for containers that were never written down."""
        for volume in [volume for volume in self.list() if volume.pending]:
            if self._users_of(volume.name):
                self.settle([volume.name])
            else:
                await self.remove(volume.name)

    async def empty_half_filled(self) -> None:
        """After a crash: those that no container could use yet."""
        for volume in self.list():
            if volume.filling:
                try:
                    await self._empty(volume)
                except OSError as error:  # no reason not to serve all others
                    _log.error("cannot empty the half filled volume %s: %s", volume.name, error)

    async def _empty(self, volume: Volume) -> None:
        if not self._users_of(volume.name):  # who was told not to copy may have written already
            await asyncio.to_thread(_remove_content, self.directory(volume))
        volume.filling = False
        self._save(volume)

    def _note_filled(self, volume: Volume) -> None:
        volume.filled, volume.filling = True, False
        self._save(volume)

    def _save(self, volume: Volume) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO volumes VALUES (?, ?)",
            (volume.name, msgspec.json.encode(volume)),
        )


def disk_usage(path: Path) -> int:
    """Bytes that a directory tree occupies, hard links counted once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for directory, _, files in os.walk(path):
        for name in [".", *files]:
            try:
                facts = os.lstat(os.path.join(directory, name))
            except FileNotFoundError:
                continue
            if (facts.st_dev, facts.st_ino) not in seen:
                seen.add((facts.st_dev, facts.st_ino))
                total += facts.st_blocks * 512
    return total


def _remove_content(directory: Path) -> None:
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _check_name(name: str) -> None:
    allowed = all(c.isalnum() or c in "_.-" for c in name)
    if len(name) < 2 or not name.isascii() or not allowed or not name[0].isalnum():
        raise InvalidArgument(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, '
            "use absolute path"
        )
