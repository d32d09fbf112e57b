"""Which image a service runs: found, or pulled; what is built is built by the caller before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pannier.base.errors import NotFound
from pannier.compose.model import Project
from pannier.stack.ports import Images

ReportImage = Callable[[str, str, str], None]  # reference, status, message


@dataclass(frozen=True, slots=True)
class Choice:
    """What to create a container from, and the id behind it."""

    reference: str
    id: str


class ImageFinder:
    """Turns services into images.

    Args:
        images: the engine's.
    """

    def __init__(self, images: Images) -> None:
        self._images = images

    async def choose(
        self,
        project: Project,
        services: Iterable[str],
        pinned: Mapping[str, str],
        report: ReportImage,
    ) -> dict[str, Choice]:
        """The image of each of *services*; *pinned* ids win over references.

        Raises:
            NotFound: an image is neither here nor to be had.
        """
        result = {}
        for name in services:
            reference = project.image_of(name)
            if name in pinned:
                result[name] = await self._pinned(name, reference, pinned[name])
            else:
                result[name] = Choice(reference, await self._current(project, name, report))
        return result

    async def remove(self, reference: str) -> bool:
        """Whether it was there."""
        try:
            await self._images.remove(reference, force=False, noprune=False)
        except NotFound:
            return False
        return True

    async def _pinned(self, service: str, reference: str, image_id: str) -> Choice:
        if await self._find(image_id) is None:
            raise NotFound(
                f"No such image: {image_id}",
                hint=f"the previous image of {service} was removed; build or pull it again",
            )
        same = await self._find(reference) == image_id
        return Choice(reference if same else image_id, image_id)

    async def _current(self, project: Project, name: str, report: ReportImage) -> str:
        service, reference = project.services[name], project.image_of(name)
        found = await self._find(reference)
        if found and service.pull_policy != "always":
            return found
        if service.build is not None:
            if found:
                return found
            raise NotFound(
                f"No such image: {reference}",
                hint=f"service {name} builds it: pannier compose build {name}",
            )
        if service.pull_policy in {"never", "build"}:
            raise NotFound(f"No such image: {reference}", hint="its pull_policy forbids to pull")
        return await self._pull(reference, report)

    async def _pull(self, reference: str, report: ReportImage) -> str:
        report(reference, "pulling", "")
        await self._images.pull(reference, auth=None, platform="", report=lambda _: None)
        report(reference, "pulled", "")
        return (await self._images.inspect(reference)).id

    async def _find(self, reference: str) -> str | None:
        try:
            return (await self._images.inspect(reference)).id
        except NotFound:
            return None
