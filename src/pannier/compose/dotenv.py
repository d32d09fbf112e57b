"""Environment files (``.env``, ``env_file``): lines of NAME=value with shell-like quotes.

compose-spec, 05-services, "Env_file format".  Variables in values are filled from the file's own
earlier lines and the caller's environment; nothing is executed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pannier.base.errors import InvalidArgument, NotFound
from pannier.compose.interpolation import Interpolator
from pannier.compose.source import ComposeError, Mark

_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_.][A-Za-z0-9_.-]*)\s*(?:([=:])[ \t]*)?")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$$"}


def read_env_file(path: Path, outer: Mapping[str, str]) -> dict[str, str | None]:
    """The variables of one file; None for a name without value, to be taken from outside.

    Raises:
        NotFound: no such file.
        ComposeError: a line that is no assignment.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise NotFound(f"env file {path} not found") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"cannot read env file {path}: {error}") from error
    return parse_env(text, str(path), outer)


def parse_env(text: str, name: str, outer: Mapping[str, str]) -> dict[str, str | None]:
    """The variables of an environment file's *text*."""
    result: dict[str, str | None] = {}
    position = 0
    while position < len(text):
        end = _line_end(text, position)
        line = text[position:end].strip()
        if not line or line.startswith("#"):
            position = end + 1
            continue
        mark = Mark(name, text.count("\n", 0, position) + 1)
        match = _LINE.match(text, position, end)
        if not match or (not match[2] and text[match.end() : end].strip()):
            raise ComposeError(mark, "", f"unexpected text '{line}'", hint="write NAME=value")
        position = end + 1
        if not match[2]:
            result[match[1]] = outer.get(match[1])
            continue
        value, literal, position = _value(text, match.end(), mark)
        known = {**{k: v for k, v in result.items() if v is not None}, **outer}
        result[match[1]] = value if literal else Interpolator(known).text(value, match[1], mark)
    return result


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def _value(text: str, start: int, mark: Mark) -> tuple[str, bool, int]:
    """The raw value, whether it is literal, and where the next line begins."""
    quote = text[start : start + 1]
    if quote not in {"'", '"'} or not quote:
        end = _line_end(text, start)
        return re.split(r"\s#", text[start:end], maxsplit=1)[0].strip(), False, end + 1
    end = start + 1
    while end < len(text) and text[end] != quote:
        end += 2 if text[end] == "\\" and quote == '"' else 1
    if end >= len(text):
        raise ComposeError(mark, "", f"the quote {quote} is not closed")
    inner = text[start + 1 : end]
    if quote == '"':
        inner = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), inner, flags=re.DOTALL)
    return inner, quote == "'", _line_end(text, end) + 1
