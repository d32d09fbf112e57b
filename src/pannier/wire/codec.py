"""How bodies of the HTTP API become typed data and back.

Every struct below ``wire/`` derives from `Body`: Python names inside, Docker's names outside.
`decode` is the one door in: unknown keys are ignored (as Docker does, so that newer clients
work), null means "not given" (Go clients send null for every empty list and map), and a value of
the wrong type is an `InvalidArgument` that names the field.  What a value *means* is checked by
the engine, not here.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from pannier.base.errors import InvalidArgument

_T = TypeVar("_T")

# Go clients refuse an empty string where a time is due.
ZERO_TIME = "0001-01-01T00:00:00Z"
# Maps whose null values carry meaning: an endpoint without settings, a port only exposed.
_NULL_VALUES: dict[str, Any] = {"EndpointsConfig": {}, "PortBindings": []}
# Docker's strslice type takes one string for a list of one.
_STRING_OR_LIST = ("Cmd", "Entrypoint")


class Body(msgspec.Struct, rename="pascal", frozen=True):
    """Base of every request and response body; ``cpu_shares`` is ``CpuShares`` on the wire."""


def decode(data: bytes | str, kind: type[_T]) -> _T:
    """Read a JSON body.

    Args:
        data: the bytes of the body; an empty one counts as ``{}``, and so does ``null``, which
            Docker's client 20.10 sends to commit.
        kind: the struct (or any type msgspec knows) to read it as.

    Raises:
        InvalidArgument: malformed JSON, or a field of the wrong type (named in the message).
    """
    try:
        raw = msgspec.json.decode(data or b"{}")
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"invalid JSON: {error}") from error
    return convert({} if raw is None else raw, kind)


def convert(raw: object, kind: type[_T]) -> _T:
    """Turn already decoded JSON into a struct; see `decode`."""
    try:
        return msgspec.convert(_clean(_listify(raw)), kind)
    except msgspec.ValidationError as error:
        raise InvalidArgument(_explain(str(error))) from error


def encode(value: object) -> bytes:
    """Write a body: structs, dicts and lists of them."""
    return msgspec.json.encode(value)


def to_plain(value: object) -> Any:
    """Turn structs into plain dicts and lists with Docker's names."""
    return msgspec.to_builtins(value)


def _listify(raw: Any) -> Any:
    """Only the top level is looked at: a label may well be called Cmd."""
    if not isinstance(raw, dict):
        return raw
    strings = {key: [raw[key]] for key in _STRING_OR_LIST if isinstance(raw.get(key), str)}
    return raw | strings if strings else raw


def _clean(value: Any, fill: Any = None) -> Any:
    """Without nulls; those directly inside become ``fill`` when it is given."""
    if isinstance(value, dict):
        return {
            key: fill if item is None else _clean(item, _NULL_VALUES.get(key))
            for key, item in value.items()
            if item is not None or fill is not None
        }
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return value


def _explain(message: str) -> str:
    """``Expected `int`, got `str` - at `$.HostConfig.Memory``` with the field up front."""
    problem, _, where = message.partition(" - at `")
    field = where.rstrip("`").removeprefix("$").removeprefix(".")
    problem = problem.replace("`", "")
    if not field:
        return f"invalid request body: {problem[:1].lower()}{problem[1:]}"
    return f"invalid value for {field}: {problem[:1].lower()}{problem[1:]}"
