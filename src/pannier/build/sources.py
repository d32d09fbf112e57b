"""Where FROM and ``COPY --from`` get images: the local store first, else a registry."""

from __future__ import annotations

from pannier.build.ports import Pull, Report
from pannier.build.state import State
from pannier.images.platform import check_platform
from pannier.images.store import Image, ImageStore


class Sources:
    """Looks up images for one build.

    Args:
        images: the local store.
        pull: fetches what is not there.
        report: where a pull tells its progress.
        always_pull: ask the registry even for what is there (``--pull``).
    """

    def __init__(
        self, images: ImageStore, pull: Pull, report: Report, *, always_pull: bool
    ) -> None:
        self._images = images
        self._pull = pull
        self._report = report
        self._always_pull = always_pull
        self._pulled: dict[str, Image] = {}

    async def image(self, name: str) -> State:
        """The image called *name*, as the beginning of a stage.

        Raises:
            Unsupported: it is for another operating system or processor.
            PannierError: it is neither here nor to be had.
        """
        image = self._pulled.get(name) or (None if self._always_pull else self._images.find(name))
        if image is None:
            image = self._pulled[name] = await self._pull(name, self._report)
        check_platform(image.config)
        return State.of_image(image)
