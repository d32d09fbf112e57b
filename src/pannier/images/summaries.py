"""Images as clients see them: list, inspect, history, disk usage. Pure functions over the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from pannier.base.units import rfc3339
from pannier.images import references
from pannier.images.store import Image, ImageStore, created_ns
from pannier.wire import images as wire


def familiar(names: Iterable[str]) -> list[str]:
    """References as people write them."""
    return [references.parse(name).familiar for name in names]


def summary(image: Image, *, shared_size: int = -1, containers: int = -1) -> wire.ImageSummary:
    """One line of the list.

    Args:
        image: which one.
        shared_size: bytes in layers that other images have too; -1 if not computed.
        containers: how many use it; -1 if not computed.
    """
    return wire.ImageSummary(
        id=image.id,
        repo_tags=familiar(image.tags),
        repo_digests=familiar(image.digests),
        created=image.created_ns // 10**9,
        size=image.size,
        shared_size=shared_size,
        labels=image.labels,
        containers=containers,
    )


def usage(store: ImageStore, uses: Mapping[str, int]) -> list[wire.ImageSummary]:
    """The list with shared sizes, for ``system df``.

    Args:
        store: all of its images are counted.
        uses: image id -> number of containers.
    """
    found = []
    for image in store.list():
        shared = sum(layer.size for layer in image.layers if store.users_of(layer) > 1)
        found.append(summary(image, shared_size=shared, containers=uses.get(image.id, 0)))
    return found


def inspect(store: ImageStore, image: Image) -> wire.ImageInspect:
    """Everything about one image."""
    config = image.config
    history = config.history or []
    lowers = store.layers.lower_paths(image.layers)
    data = {"UpperDir": lowers[0], "LowerDir": ":".join(lowers[1:])} if lowers else {}
    return wire.ImageInspect(
        id=image.id,
        repo_tags=familiar(image.tags),
        repo_digests=familiar(image.digests),
        comment=history[-1].comment if history else "",
        created=config.created or "",
        author=config.author,
        config=msgspec.to_builtins(config.defaults),
        architecture=config.architecture,
        variant=config.variant,
        os=config.os,
        size=image.size,
        graph_driver=wire.GraphDriver(data={key: value for key, value in data.items() if value}),
        root_fs=wire.RootFSInfo(layers=config.rootfs.diff_ids),
        metadata={"LastTagTime": rfc3339(image.stored_ns)},
    )


def history(image: Image) -> list[wire.HistoryItem]:
    """How the image came to be, newest step first."""
    layers = iter(image.layers)
    items = []
    for step in image.config.history or []:
        layer = None if step.empty_layer else next(layers, None)
        items.append(
            wire.HistoryItem(
                created=created_ns(step.created) // 10**9,
                created_by=step.created_by,
                size=layer.size if layer else 0,
                comment=step.comment,
            )
        )
    # A config may name fewer steps than layers: what they hold must not get lost.
    items += [wire.HistoryItem(size=layer.size) for layer in layers]
    if not items:
        return []
    newest = msgspec.structs.replace(items[-1], id=image.id, tags=familiar(image.tags))
    return [newest, *reversed(items[:-1])]
