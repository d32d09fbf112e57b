"""The ``filters`` query argument that lists, prunes and events share.

Two spellings are in use: map[string]map[string]bool (Docker's CLI and compose) and
map[string][]string (docker-py, older clients).  Which keys mean what is each resource's matter.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from pannier.base.errors import InvalidArgument


def parse_filters(text: str | None, allowed: Collection[str] | None = None) -> dict[str, list[str]]:
    """Read a ``filters`` argument.

    Args:
        text: JSON as sent; None, "" and "{}" mean no filter.
        allowed: the keys this request knows; None takes all.

    Raises:
        InvalidArgument: not a map of maps or lists, or an unknown key.
    """
    if not text:
        return {}
    try:
        raw = msgspec.json.decode(text, type=dict[str, dict[str, bool] | list[str]])
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"invalid filter: {error}") from error
    for key in raw:
        if allowed is not None and key not in allowed:
            raise InvalidArgument(f"invalid filter '{key}'")
    return {
        key: values if isinstance(values, list) else [v for v, on in values.items() if on]
        for key, values in raw.items()
    }


def match_labels(wanted: Collection[str], labels: Mapping[str, str]) -> bool:
    """Whether ``labels`` carry every wanted ``key`` or ``key=value``."""
    for item in wanted:
        key, separator, value = item.partition("=")
        if key not in labels or (separator and labels[key] != value):
            return False
    return True


def labels_pass(filters: Mapping[str, list[str]], labels: Mapping[str, str]) -> bool:
    """Whether an object with *labels* passes the filters ``label`` and ``label!``."""
    unwanted = filters.get("label!", [])
    return match_labels(filters.get("label", []), labels) and not any(
        match_labels([item], labels) for item in unwanted
    )


def flag(filters: Mapping[str, list[str]], key: str) -> bool | None:
    """A boolean filter such as ``dangling``; None when it is not given.

    Raises:
        InvalidArgument: the value is no boolean.
    """
    values = filters.get(key)
    if not values:
        return None
    word = values[0].lower()
    if word in ("1", "t", "true"):
        return True
    if word in ("0", "f", "false"):
        return False
    raise InvalidArgument(f"invalid filter '{key}={values[0]}': expected true or false")
