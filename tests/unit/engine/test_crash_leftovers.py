"""What a daemon that was killed has left in the database, and two who fill one volume."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pannier.base.database import Database
from pannier.base.errors import Internal, InvalidArgument
from pannier.base.instance import Instance
from pannier.engine import users
from pannier.engine.events import EventBus
from pannier.engine.idranges import IdRanges
from pannier.engine.volumes import Volumes


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "db")


def volumes_of(database: Database, path: Path, users_of=lambda _: []) -> Volumes:
    instance = Instance(name="t", data=path / "data", run=path / "run")
    instance.make_directories()
    return Volumes(database, instance, EventBus(), users_of)


def test_ranges_follow_the_containers(database: Database) -> None:
    ranges = IdRanges(database, ())
    kept, lost = ranges.allocate("kept"), ranges.allocate("half-made")
    ranges.keep_only({"kept": kept, "half-removed": lost, "host": 0})
    rows = database.query("SELECT container_id, first FROM id_ranges ORDER BY first")
    assert [tuple(row) for row in rows] == [("kept", kept), ("half-removed", lost)]


async def test_a_volume_is_filled_once(database: Database, tmp_path: Path) -> None:
    volumes = volumes_of(database, tmp_path)
    volume = volumes.create("data")
    runs = []

    def copy() -> None:
        runs.append(1)
        (volumes.directory(volume) / "file").touch()

    await asyncio.gather(volumes.fill(volume, copy), volumes.fill(volume, copy))
    assert runs == [1]
    assert volume.filled


async def test_a_failed_copy_leaves_nothing(database: Database, tmp_path: Path) -> None:
    volumes = volumes_of(database, tmp_path)
    volume = volumes.create("data")

    def copy() -> None:
        (volumes.directory(volume) / "half").mkdir()
        raise Internal("no space left")

    with pytest.raises(Internal):
        await volumes.fill(volume, copy)
    assert list(volumes.directory(volume).iterdir()) == []
    assert not volume.filled


@pytest.mark.parametrize(("used", "left"), [(False, []), (True, ["half"])])
async def test_half_a_copy_goes_unless_somebody_uses_it(
    database: Database, tmp_path: Path, used: bool, left: list[str]
) -> None:
    volumes = volumes_of(database, tmp_path, lambda _: ["x"] if used else [])
    volume = volumes.create("data")
    volume.filling = True
    (volumes.directory(volume) / "half").touch()
    await volumes.empty_half_filled()
    assert [path.name for path in volumes.directory(volume).iterdir()] == left
    assert not volume.filling


async def test_a_removal_cut_short_is_completed(database: Database, tmp_path: Path) -> None:
    volumes = volumes_of(database, tmp_path)
    volume = volumes.create("data")
    volumes.directory(volume).rmdir()
    volumes.directory(volume).parent.rmdir()
    await volumes.remove("data")
    assert volumes.list() == []


@pytest.mark.parametrize("user", ["²", "0:²", "99999999999", "0:4294967296"])
def test_numbers_that_are_no_ids(user: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument):
        users.resolve(user, [], [str(tmp_path)])
