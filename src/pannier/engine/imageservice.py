"""Images as the API drives them: the image store together with who uses what."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from pannier.engine.commit import Changes
from pannier.engine.ground import Ground
from pannier.images import archive, bootstrap, filtering, flat, registry, removal, summaries
from pannier.images.report import Report
from pannier.oci.image import ContainerDefaults
from pannier.wire import images as wire

Filters = Mapping[str, list[str]]
Bytes = AsyncIterator[bytes]


class ImageService:
    """Implements the API's ``Images``; see the Protocol there for what each method promises.

    ``apply`` applies Dockerfile instructions: the build package's work, handed in from above.
    ``stacks_using`` gives the stacks that can be rolled back to an image, by its id.
    """

    def __init__(self, ground: Ground) -> None:
        self.apply: Changes | None = None
        self.stacks_using: Callable[[], Mapping[str, Sequence[str]]] = dict
        self._ground = ground
        self._store = ground.images

    async def summaries(self, *, all_: bool, filters: Filters) -> Sequence[wire.ImageSummary]:
        return [summaries.summary(image) for image in filtering.matching(self._store, filters)]

    async def usage(self) -> Sequence[wire.ImageSummary]:
        """The list with shared sizes and numbers of containers."""
        uses = Counter(container.image_id for container in self._ground.store)
        return summaries.usage(self._store, uses)

    async def inspect(self, ref: str) -> wire.ImageInspect:
        return summaries.inspect(self._store, self._store.get(ref))

    async def history(self, ref: str) -> Sequence[wire.HistoryItem]:
        return summaries.history(self._store.get(ref))

    async def tag(self, ref: str, name: str) -> None:
        image = self._store.tag(ref, name)
        self._tell("tag", image.id, name)

    async def remove(
        self, ref: str, *, force: bool = False, noprune: bool = False
    ) -> Sequence[wire.ImageDelete]:
        image = self._store.get(ref)
        done = await removal.remove(self._store, ref, self._users, force=force)
        self._tell("delete", image.id, ref)
        return done

    async def prune(self, filters: Filters) -> tuple[Sequence[wire.ImageDelete], int]:
        return await removal.prune(self._store, self._needed_by, filters)

    async def find(self, ref: str) -> str | None:
        """The id of an image; None when it is not here."""
        image = self._store.find(ref)
        return image.id if image else None

    async def pull(
        self,
        ref: str,
        *,
        auth: wire.RegistryAuth | None = None,
        platform: str = "",
        report: Report | None = None,
    ) -> None:
        image = await registry.pull(self._store, ref, auth=auth, platform=platform, report=report)
        self._tell("pull", image.id, ref)

    async def push(
        self, ref: str, *, auth: wire.RegistryAuth | None = None, report: Report | None = None
    ) -> None:
        image = self._store.get(ref)
        await registry.push(self._store, ref, auth=auth, report=report)
        self._tell("push", image.id, ref)

    async def import_tar(
        self, tar: Bytes, *, name: str, changes: Sequence[str], comment: str
    ) -> str:
        defaults = ContainerDefaults()
        if changes and self.apply:
            defaults = self.apply(defaults, changes)
        image = await flat.import_tar(
            self._store, tar, name=name, defaults=defaults, comment=comment
        )
        self._tell("import", image.id, name)
        return image.id

    async def save(self, refs: Sequence[str]) -> Bytes:
        return archive.save(self._store, self._ground.instance, refs)

    async def load(self, tar: Bytes, report: Report) -> None:
        for image in await archive.load(self._store, self._ground.instance, tar, report):
            self._tell("load", image.id, image.id)

    async def bootstrap(self, body: wire.BootstrapBody, report: Report) -> str:
        """A base image from a distribution's signed archives; returns its id."""
        image = await bootstrap.bootstrap(
            self._store,
            self._ground.instance,
            body.reference,
            mirror=body.mirror,
            init=body.init,
            report=report,
        )
        self._tell("pull", image.id, body.reference)
        return image.id

    def _needed_by(self, image_id: str) -> list[tuple[str, bool]]:
        """Its users, and the stacks that can be rolled back to it: a prune leaves it to them."""
        stacks = [(f"stack {name}", False) for name in self.stacks_using().get(image_id, [])]
        return stacks + self._users(image_id)

    def _users(self, image_id: str) -> list[tuple[str, bool]]:
        """Containers made from an image, or that can be rolled back to it."""
        return [
            (container.id, container.running)
            for container in self._ground.store
            if any(root.image_id == image_id for root in container.record.roots)
        ]

    def _tell(self, action: str, image_id: str, name: str) -> None:
        self._ground.events.publish("image", action, image_id, {"name": name})
