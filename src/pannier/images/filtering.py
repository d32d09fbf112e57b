"""Which images a list shows: the filters of ``GET /images/json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from pannier.base.errors import InvalidArgument
from pannier.base.units import parse_time
from pannier.images import references
from pannier.images.store import Image, ImageStore
from pannier.wire.filters import flag, match_labels


def matching(store: ImageStore, filters: Mapping[str, Sequence[str]]) -> list[Image]:
    """Images that pass the filters of ``GET /images/json``.

    Args:
        store: where.
        filters: dangling, reference, label, before, since, until.

    Raises:
        InvalidArgument: unknown filter.
        NotFound: the image of ``before`` or ``since``.
    """
    plain = {key: list(values) for key, values in filters.items()}
    unknown = sorted(set(plain) - {"dangling", "reference", "label", "before", "since", "until"})
    if unknown:
        raise InvalidArgument(f"invalid filter '{unknown[0]}'")
    dangling = flag(plain, "dangling")
    earliest = max((store.get(ref).created_ns for ref in plain.get("since", [])), default=None)
    latest = min((store.get(ref).created_ns for ref in plain.get("before", [])), default=None)
    until = min((parse_time(text) for text in plain.get("until", [])), default=None)
    return [
        image
        for image in store.list()
        if dangling in (None, image.dangling)
        and match_labels(plain.get("label", []), image.labels)
        and (earliest is None or image.created_ns > earliest)
        and (latest is None or image.created_ns < latest)
        and (until is None or image.created_ns < until)
        and (not plain.get("reference") or _named_like(image, plain["reference"]))
    ]


def _named_like(image: Image, patterns: Sequence[str]) -> bool:
    """``debian``, ``debian:1*``, ``*/*:latest``: with and without tag, as Docker."""
    names = [references.parse(name) for name in image.tags]
    return any(
        fnmatchcase(text, pattern)
        for name in names
        for pattern in patterns
        for text in (name.familiar, name.familiar_name, str(name), name.repository)
    )
