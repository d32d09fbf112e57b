"""An image on its way: configuration and layers after so many steps; pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import msgspec

from pannier.base.units import rfc3339
from pannier.build import effects
from pannier.images.layers import Layer
from pannier.images.platform import host_platform
from pannier.images.store import Image
from pannier.oci.image import (
    ContainerDefaults,
    History,
    ImageConfig,
    RootFS,
    digest_of,
    encode,
)


@dataclass(frozen=True, slots=True)
class State:
    """
    Args:
        config: the image's document so far.
        layers: base first.
        image: the stored image, as long as nothing was changed.
        arguments: values of ARG in this stage.
        command_is_own: CMD stood in this stage.
    """

    config: ImageConfig
    layers: tuple[Layer, ...]
    image: Image | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)
    command_is_own: bool = False

    @classmethod
    def scratch(cls) -> Self:
        """The empty image."""
        host = host_platform()
        config = ImageConfig(
            architecture=host.architecture,
            variant=host.variant,
            os=host.os,
            rootfs=RootFS([]),
            config=ContainerDefaults(env=[f"PATH={effects.DEFAULT_PATH}"]),
        )
        return cls(config, ())

    @classmethod
    def of_image(cls, image: Image) -> Self:
        return cls(image.config, tuple(image.layers), image)

    @property
    def id(self) -> str:
        """The id that an image of this state has."""
        return self.image.id if self.image else digest_of(encode(self.config))

    @property
    def defaults(self) -> ContainerDefaults:
        return self.config.defaults

    @property
    def diff_ids(self) -> list[str]:
        return self.config.rootfs.diff_ids

    def scope(self) -> dict[str, str]:
        """The variables that instructions see; ENV hides ARG."""
        return {**self.arguments, **effects.environment(self.defaults.env)}

    def run_arguments(self) -> dict[str, str]:
        """The arguments that RUN finds in its environment."""
        env = effects.environment(self.defaults.env)
        return {name: value for name, value in self.arguments.items() if name not in env}

    def as_base(self) -> Self:
        """As the beginning of another stage: arguments and triggers end with their stage."""
        defaults = msgspec.structs.replace(self.defaults, on_build=None)
        fresh = replace(self, arguments={}, command_is_own=False)
        return fresh if defaults == self.defaults else fresh.with_defaults(defaults)

    def with_defaults(self, defaults: ContainerDefaults) -> Self:
        return replace(
            self, config=msgspec.structs.replace(self.config, config=defaults), image=None
        )

    def with_step(self, layer: Layer | None, created_ns: int, created_by: str) -> Self:
        """One line of history more, and its layer if the step changed files."""
        created = rfc3339(created_ns)
        entry = History(created=created, created_by=created_by, empty_layer=layer is None)
        added = (layer,) if layer else ()
        config = msgspec.structs.replace(
            self.config,
            created=created,
            history=[*(self.config.history or []), entry],
            rootfs=RootFS([*self.diff_ids, *(new.diff_id for new in added)]),
        )
        return replace(self, config=config, layers=(*self.layers, *added), image=None)
