"""Back to the image before, or on to another one: a new stack of layers under the same container.

Name, address, ports and volumes stay. A private upper directory belongs to the stack below it, so
each stack keeps its own; going back starts with a fresh upper, undoing it returns to the old
pair as it was. Nothing is copied: the cost does not depend on sizes.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec

from pannier.base.errors import Conflict, NotFound, NotModified
from pannier.engine.creation import Creator
from pannier.engine.ground import Ground
from pannier.engine.model import Container, Root

Act = Callable[[Container], Awaitable[None]]


class Rollback:
    """Changes what a container is made from.

    Args:
        stop, start: called around the change when it runs; each takes the container's lock.
    """

    def __init__(self, ground: Ground, creator: Creator, stop: Act, start: Act) -> None:
        self._ground = ground
        self._creator = creator
        self._stop = stop
        self._start = start

    async def replace_image(self, container: Container, reference: str) -> dict[str, Any]:
        """Put the container on another image; the one it leaves can be rolled back to.

        Raises:
            NotFound: ``No such image``.
        """
        image = self._ground.images.get(reference)
        root = self._creator.make_root(image, reference, _next_generation(container))

        def change() -> None:
            container.record.previous.append(container.record.root)
            container.record.undone.clear()
            self._enter(container, root)

        return await self._around(container, "update", change)

    async def rollback(self, container: Container, *, undo: bool = False) -> dict[str, Any]:
        """Back to the previous image, or with *undo* return to the stack that was left.

        Raises:
            Conflict: there is nothing to go back to.
        """
        record = container.record
        if undo and not record.undone:
            raise Conflict(f"container {container.name} has no rollback to undo")
        if not undo and not record.previous:
            raise Conflict(
                f"container {container.name} has no previous image",
                hint=f"put it on another one first: pannier update --image IMAGE {container.name}",
            )

        def change() -> None:
            if undo:
                record.previous.append(record.root)
                self._enter(container, record.undone.pop())
                return
            target = record.previous.pop()
            record.undone.append(record.root)
            fresh = msgspec.structs.replace(target, generation=_next_generation(container))
            self._enter(container, fresh)

        return await self._around(container, "rollback", change)

    def _enter(self, container: Container, root: Root) -> None:
        self._creator.make_upper(container.id, root)
        container.record.root = root
        self._ground.store.save(container)

    async def _around(
        self, container: Container, action: str, change: Callable[[], None]
    ) -> dict[str, Any]:
        """Stop, change, start; if the new stack does not start, the old one is put back."""
        container.comes_back = True
        try:
            return await self._change(container, action, change)
        finally:
            container.comes_back = False

    async def _change(
        self, container: Container, action: str, change: Callable[[], None]
    ) -> dict[str, Any]:
        running = container.running
        before = msgspec.json.encode(container.record)
        if running:
            with suppress(NotModified):
                await self._stop(container)
        await container.drained.wait()
        async with container.lock:
            _check_resting(container)
            change()
        if running:
            try:
                await self._start(container)
            except BaseException:
                self._put_back(container, before)
                await self._start(container)
                raise
        await self._remove_unreachable(container)
        self._ground.publish(container, action)
        root = container.record.root
        return {"Image": root.image_ref, "ImageId": root.image_id, "Name": container.name}

    async def _remove_unreachable(self, container: Container) -> None:
        """Upper directories that neither a rollback nor its undoing can lead back to."""
        reachable = {str(root.generation) for root in container.record.roots}
        for path in self._ground.instance.container_data(container.id).iterdir():
            if path.name.isdigit() and path.name not in reachable:
                rubbish = self._ground.instance.tmp / f"container-{container.id[:12]}-{path.name}"
                path.rename(rubbish)
                await asyncio.to_thread(shutil.rmtree, rubbish)

    def _put_back(self, container: Container, before: bytes) -> None:
        old = msgspec.json.decode(before, type=type(container.record))
        container.record.root = old.root
        container.record.previous = old.previous
        container.record.undone = old.undone
        self._ground.store.save(container)


def _check_resting(container: Container) -> None:
    """Others may have removed or started it while it was stopped for this."""
    if container.removed.is_set():
        raise NotFound(f"No such container: {container.id}")
    if container.running:
        raise Conflict(f"container {container.name} was started meanwhile")


def _next_generation(container: Container) -> int:
    return 1 + max(root.generation for root in container.record.roots)
