"""JSON for the first milliseconds: the C parts of the standard library without the package.

``import json`` costs as much as half an interpreter start (it loads ``re``), and the command line
cannot afford that.  Everything the client sends or receives goes through these two functions;
pretty printing for people is the command line's business.
"""

from __future__ import annotations

import _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Context:
    """The attributes that the C scanner reads, as `json.JSONDecoder` sets them."""

    strict = False
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}


_scan = _json.make_scanner(_Context())  # type: ignore[arg-type]
_SPACE = " \t\r\n"


def decode(data: bytes | str) -> Any:
    """Read one JSON value.

    Raises:
        ValueError: malformed, or followed by something else.
    """
    text = data if isinstance(data, str) else str(data, "utf-8", "replace")
    text = text.strip(_SPACE)
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise ValueError(f"not JSON: {text[:80]!r}") from None
    if end != len(text):
        raise ValueError(f"not one JSON value: {text[end : end + 80]!r}")
    return value


def encode(value: Any) -> bytes:
    """Write a value of dicts with string keys, lists, tuples, strings, numbers, bools and None.

    Raises:
        TypeError: anything else.
    """
    parts: list[str] = []
    _write(value, parts.append)
    return "".join(parts).encode("ascii")


def _write(value: Any, put: Any) -> None:
    if isinstance(value, str):
        put(_json.encode_basestring_ascii(value))
    elif value is None:
        put("null")
    elif isinstance(value, bool):
        put("true" if value else "false")
    elif isinstance(value, (int, float)):
        put(repr(value))
    elif isinstance(value, dict):
        _write_dict(value, put)
    elif isinstance(value, (list, tuple)):
        _write_list(value, put)
    else:
        raise TypeError(f"{type(value).__name__} has no JSON form")


def _write_dict(value: dict[str, Any], put: Any) -> None:
    separator = "{"
    for key, item in value.items():
        put(separator)
        put(_json.encode_basestring_ascii(key))
        put(":")
        _write(item, put)
        separator = ","
    put("}" if value else "{}")


def _write_list(value: list[Any] | tuple[Any, ...], put: Any) -> None:
    separator = "["
    for item in value:
        put(separator)
        _write(item, put)
        separator = ","
    put("]" if value else "[]")
