"""Removing images: by name, by id, and all that nobody needs.

The rules and sentences are Docker's (moby daemon/images/image_delete.go): a name goes first, the
image with its last name; what a container uses stays unless forced, what a running one uses stays
always.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from pannier.base.errors import Conflict, InvalidArgument
from pannier.base.ids import short
from pannier.base.units import parse_time
from pannier.images import references
from pannier.images.store import Image, ImageStore
from pannier.wire.filters import flag, match_labels
from pannier.wire.images import ImageDelete

# Image id -> the containers made from it: their ids, and whether they run.
InUse = Callable[[str], Sequence[tuple[str, bool]]]

PRUNE_FILTERS = ("dangling", "until", "label", "label!")


async def remove(
    store: ImageStore, ref: str, in_use: InUse, *, force: bool = False
) -> list[ImageDelete]:
    """``rmi``: take the name *ref* away, and the image too if it was the last one.

    Args:
        store: where.
        ref: a name, or an id for the image with all its names.
        in_use: who uses an image.
        force: also with several names, and when a stopped container uses it.

    Returns:
        what was done, in order.

    Raises:
        NotFound: no such image.
        Conflict: it is needed; nothing was changed.
    """
    image = store.get(ref)
    name = _name_meant(image, ref)
    if name and len(_others(image, name)) > 0:
        store.untag(name)
        return [_untagged(name)]
    _check_unused(image, in_use(image.id), force=force, by_name=bool(name), ref=ref)
    if not name and len({n.partition("@")[0].rpartition(":")[0] for n in image.tags}) > 1:
        _check_forced(image, force=force)
    return await _delete(store, [image])


async def prune(
    store: ImageStore, in_use: InUse, filters: Mapping[str, Sequence[str]]
) -> tuple[list[ImageDelete], int]:
    """Remove images without a name, or with ``dangling=false`` all that no container uses.

    Args:
        store: where.
        in_use: who uses an image.
        filters: dangling, until, label, label! as in ``POST /images/prune``.

    Returns:
        what was done, and the bytes freed on disk.
    """
    plain = {key: list(values) for key, values in filters.items()}
    unknown = sorted(set(plain) - set(PRUNE_FILTERS))
    if unknown:
        raise InvalidArgument(f"invalid filter '{unknown[0]}'")
    only_dangling = flag(plain, "dangling") is not False
    until_ns = parse_time(plain["until"][0]) if plain.get("until") else time.time_ns()
    doomed = [
        image
        for image in store.list()
        if (image.dangling or not only_dangling)
        and image.created_ns <= until_ns
        and match_labels(plain.get("label", []), image.labels)
        and not any(match_labels([label], image.labels) for label in plain.get("label!", []))
        and not in_use(image.id)
    ]
    before = store.layers.total_size()
    deleted = await _delete(store, doomed)
    return deleted, before - store.layers.total_size()


async def _delete(store: ImageStore, images: Sequence[Image]) -> list[ImageDelete]:
    done: list[ImageDelete] = []
    for image in images:
        done += [_untagged(name) for name in (*image.tags, *image.digests)]
        store.delete(image)
        done.append(ImageDelete(deleted=image.id))
    layers = await store.layers.collect()
    return done + [ImageDelete(deleted=layer.diff_id) for layer in layers if layer.diff_id]


def _name_meant(image: Image, ref: str) -> str:
    """The image's name that *ref* spells, or "" if it is an id."""
    if references.is_id(ref):
        return ""
    try:
        name = references.parse(ref)
    except InvalidArgument:
        return ""
    full = str(name.with_digest(name.digest) if name.digest else name)
    return full if full in (*image.tags, *image.digests) else ""


def _others(image: Image, name: str) -> list[str]:
    """Names that keep the image; a digest of the same repository goes with its last tag."""
    if "@" in name:
        return [*image.tags, *(other for other in image.digests if other != name)]
    repository = references.parse(name).repository
    return [
        *(other for other in image.tags if other != name),
        *(d for d in image.digests if references.parse(d).repository != repository),
    ]


def _check_unused(
    image: Image, uses: Sequence[tuple[str, bool]], *, force: bool, by_name: bool, ref: str
) -> None:
    running = [container for container, runs in uses if runs]
    if running:
        raise Conflict(
            f"conflict: unable to delete {short(image.id)} (cannot be forced) - "
            f"image is being used by running container {short(running[0])}",
            hint="stop and remove the container first",
        )
    if not uses or force:
        return
    container = short(uses[0][0])
    if by_name:
        raise Conflict(
            f'conflict: unable to remove repository reference "{ref}" (must force) - '
            f"container {container} is using its referenced image {short(image.id)}"
        )
    raise Conflict(
        f"conflict: unable to delete {short(image.id)} (must be forced) - "
        f"image is being used by stopped container {container}"
    )


def _check_forced(image: Image, *, force: bool) -> None:
    if not force:
        raise Conflict(
            f"conflict: unable to delete {short(image.id)} (must be forced) - "
            "image is referenced in multiple repositories"
        )


def _untagged(name: str) -> ImageDelete:
    return ImageDelete(untagged=references.parse(name).familiar)
