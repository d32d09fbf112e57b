"""``commit``: the changes of a container become a layer, and with its image's layers an image."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from pannier.base.undo import AsyncUndoStack
from pannier.base.units import rfc3339
from pannier.engine.ground import Ground
from pannier.engine.model import Container
from pannier.oci.image import ContainerDefaults, History, ImageConfig, RootFS
from pannier.wire.containers import ContainerConfig

Changes = Callable[[ContainerDefaults, Sequence[str]], ContainerDefaults]


class CommitWish(Protocol):
    """What a caller may say; ``changes`` are Dockerfile instructions."""

    @property
    def repository(self) -> str: ...
    @property
    def tag(self) -> str: ...
    @property
    def comment(self) -> str: ...
    @property
    def author(self) -> str: ...
    @property
    def pause(self) -> bool: ...
    @property
    def changes(self) -> tuple[str, ...]: ...


class Committer:
    """Makes images of containers.

    Args:
        apply: applies Dockerfile instructions to an image's defaults (the build package's work,
            handed in because it stands above).
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self.apply: Changes | None = None

    async def commit(self, container: Container, wish: CommitWish) -> str:
        """Returns the new image's id; the container goes on as it was."""
        image = self._ground.images.get(container.image_id)
        layers = self._ground.layers
        async with AsyncUndoStack() as undo:
            copy = await self._copy(container, pause=wish.pause)
            undo.push(layers.discard, copy)
            self._scrub(container, copy)
            layer = await layers.adopt(copy)
            undo.push(layers.release, [layer])
            config = self._config(container, image.config, layer.diff_id, wish)
            name = f"{wish.repository}:{wish.tag or 'latest'}" if wish.repository else ""
            layers.pin(image.layers)
            made = self._ground.images.create(
                config, [*image.layers, layer], [name] if name else []
            )
            undo.commit()
        return made.id

    async def _copy(self, container: Container, *, pause: bool) -> Path:
        """Under freeze if it runs, so that the copy is of one instant."""
        cgroups, path = self._ground.cgroups, self._ground.cgroup(container.record)
        async with container.lock:
            freeze = pause and container.state.status == "running"
            if freeze:
                await asyncio.to_thread(cgroups.freeze, path)
            try:
                return await self._ground.layers.copy_upper(
                    Path(self._ground.upper(container.record))
                )
            finally:
                if freeze:
                    await asyncio.to_thread(cgroups.thaw, path)

    def _scrub(self, container: Container, copy: Path) -> None:
        fd = os.open(copy, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._ground.kind(container).scrub_clone(fd)
        finally:
            os.close(fd)

    def _config(
        self, container: Container, base: ImageConfig, diff_id: str, wish: CommitWish
    ) -> ImageConfig:
        defaults = _defaults(container.config, base.defaults)
        if wish.changes and self.apply:
            defaults = self.apply(defaults, wish.changes)
        now = rfc3339(time.time_ns())
        step = History(
            created=now,
            created_by=" ".join(container.record.argv),
            author=wish.author,
            comment=wish.comment,
        )
        return msgspec.structs.replace(
            base,
            config=defaults,
            created=now,
            author=wish.author,
            rootfs=RootFS([*base.rootfs.diff_ids, diff_id]),
            history=[*(base.history or []), step],
        )


def _defaults(config: ContainerConfig, image: ContainerDefaults) -> ContainerDefaults:
    """The container's own settings over the image's."""
    given = {
        "user": config.user,
        "env": [*(image.env or []), *config.env] or None,
        "entrypoint": config.entrypoint,
        "cmd": config.cmd,
        "working_dir": config.working_dir,
        "labels": config.labels or None,
        "stop_signal": config.stop_signal,
    }
    return msgspec.structs.replace(image, **{k: v for k, v in given.items() if v})
