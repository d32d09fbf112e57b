"""JSON by the C parts of the standard library, without the package.

``import json`` costs as much as half an interpreter start and 1 MB (it loads ``re``): too much for
the command line and for each of the small processes.  Pretty printing is the command line's
business.
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
    return "".join(_write(value, 0)).encode("ascii")


def _refuse(value: object) -> Any:
    raise TypeError(f"{type(value).__name__} has no JSON form")


# Arguments as `json.JSONEncoder.iterencode` gives them: markers, default, encoder, indent,
# separators, sort_keys, skipkeys, allow_nan.
_write = _json.make_encoder(
    None, _refuse, _json.encode_basestring_ascii, None, ":", ",", False, False, True
)
