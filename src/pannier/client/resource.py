"""What the groups of calls share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pannier.client.bare import quote

if TYPE_CHECKING:
    from pannier.client.api import Client

Json = dict[str, Any]
# Inside a class with a method called list, `list[...]` would mean the method.
Jsons = list[Json]
Strings = list[str]
Filters = Mapping[str, Iterable[str]]


class Resource:
    """A group of calls on one client."""

    def __init__(self, client: Client) -> None:
        self._client = client


def segment(ref: str) -> str:
    """A name in a path; slashes stay, as image names have them."""
    return quote(ref)


def filters_json(filters: Filters | None) -> Json | None:
    """``{"label": ["a=b"]}``, or None when there is nothing to filter by."""
    given = {key: list(values) for key, values in (filters or {}).items()}
    return given or None
