"""Volumes as the API drives them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from pannier.base.units import rfc3339
from pannier.engine.volumes import Volume, Volumes, disk_usage
from pannier.wire import volumes as wire
from pannier.wire.filters import flag, labels_pass, match_labels

Filters = Mapping[str, list[str]]


class VolumeService:
    """Implements the API's ``Volumes``.

    Args:
        users_of: names of the containers that use a volume.
    """

    def __init__(self, volumes: Volumes, users_of: Callable[[str], list[str]]) -> None:
        self._volumes = volumes
        self._users_of = users_of

    async def create(self, body: wire.VolumeCreate) -> wire.Volume:
        volume = self._volumes.create(
            body.name, driver=body.driver, labels=body.labels, options=body.driver_opts
        )
        return self._view(volume)

    async def summaries(self, filters: Filters) -> wire.VolumeList:
        chosen = [v for v in self._volumes.list() if self._matches(v, filters)]
        return wire.VolumeList(volumes=[self._view(volume) for volume in chosen])

    async def inspect(self, name: str) -> wire.Volume:
        return self._view(self._volumes.get(name))

    async def remove(self, name: str, *, force: bool = False) -> None:
        await self._volumes.remove(name, force=force)

    async def prune(self, filters: Filters) -> tuple[Sequence[str], int]:
        return await self._volumes.prune(
            everything=bool(flag(filters, "all")),
            keep=lambda volume: not labels_pass(filters, volume.labels),
        )

    async def usage(self) -> list[wire.Volume]:
        """Every volume with its size, for ``system df``."""
        result = []
        for volume in self._volumes.list():
            size = await asyncio.to_thread(disk_usage, self._volumes.directory(volume))
            usage = wire.VolumeUsage(size=size, ref_count=len(self._users_of(volume.name)))
            result.append(self._view(volume, usage))
        return result

    def _view(self, volume: Volume, usage: wire.VolumeUsage | None = None) -> wire.Volume:
        return wire.Volume(
            name=volume.name,
            mountpoint=str(self._volumes.directory(volume)),
            created_at=rfc3339(volume.created_ns),
            labels=volume.labels,
            options=volume.options,
            usage_data=usage,
        )

    def _matches(self, volume: Volume, filters: Filters) -> bool:
        names = filters.get("name", [])
        dangling = flag(filters, "dangling")
        return (
            (not names or any(name in volume.name for name in names))
            and match_labels(filters.get("label", []), volume.labels)
            and (dangling is None or dangling == (not self._users_of(volume.name)))
            and filters.get("driver", ["local"]) == ["local"]
        )
