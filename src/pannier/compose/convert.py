"""Small readers for values that the specification lets people write in several ways.

Each takes a value that `validation` has let through, its dotted path and place, and returns plain
data or raises a `ComposeError`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TypeVar

from pannier.base.errors import InvalidArgument
from pannier.base.units import parse_duration, parse_size
from pannier.compose.source import ComposeError, Map, Mark, Seq, Tree

_T = TypeVar("_T")
_TRUE = frozenset({"true", "yes", "on", "y", "1"})
_FALSE = frozenset({"false", "no", "off", "n", "0", ""})


class Reader:
    """Reads the entries of one mapping.

    Args:
        tree: the mapping.
        path: its dotted path, for errors.
    """

    def __init__(self, tree: Map, path: str) -> None:
        self.tree = tree
        self.path = path

    def has(self, key: str) -> bool:
        return self.tree.get(key) is not None

    def get(self, key: str) -> Tree:
        return self.tree.get(key)

    def place(self, key: str) -> Mark:
        return self.tree.place(key)

    def error(self, key: str, problem: str, hint: str | None = None) -> ComposeError:
        path = f"{self.path}.{key}" if key else self.path
        return ComposeError(self.tree.place(key), path, problem, hint=hint)

    def sub(self, key: str) -> Reader:
        """The mapping below *key*; empty when it is absent."""
        value = self.tree.get(key)
        if not isinstance(value, Map):
            value = Map(self.place(key))
        return Reader(value, f"{self.path}.{key}")

    def _through(self, key: str, convert: Callable[[Tree], _T], default: _T) -> _T:
        value = self.tree.get(key)
        if value is None:
            return default
        try:
            return convert(value)
        except (ValueError, InvalidArgument) as error:
            raise self.error(key, str(error)) from error

    def text(self, key: str, default: str = "") -> str:
        return self._through(key, text, default)

    def boolean(self, key: str, default: bool = False) -> bool:
        return self._through(key, boolean, default)

    def integer(self, key: str, default: int = 0) -> int:
        return self._through(key, integer, default)

    def size(self, key: str, default: int = 0) -> int:
        return self._through(key, size, default)

    def cpus(self, key: str, default: int = 0) -> int:
        return self._through(key, cpus, default)

    def duration(self, key: str, default: int = 0) -> int:
        return self._through(key, duration, default)

    def texts(self, key: str) -> list[str]:
        """A list of texts; one text is a list of one."""
        return self._through(key, texts, [])

    def command(self, key: str) -> list[str] | None:
        """Words; a text is split as a shell would, but not run by one; null is the image's."""
        return self._through(key, command, None)

    def table(self, key: str) -> dict[str, str]:
        """A mapping of texts, or a list of ``name=value``."""
        return {k: v or "" for k, v in self.optional_table(key).items()}

    def optional_table(self, key: str) -> dict[str, str | None]:
        """As `table`; a name without a value stays None."""
        return self._through(key, optional_table, {})


def text(value: Tree) -> str:
    """A scalar as text, with YAML's own words for true and false."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def boolean(value: Tree) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise InvalidArgument(f"'{value}' is neither true nor false")


def integer(value: Tree) -> int:
    try:
        if isinstance(value, float) and not value.is_integer():
            raise ValueError
        return int(value)
    except ValueError:
        raise InvalidArgument(f"'{value}' is not a whole number") from None


def size(value: Tree) -> int:
    """Bytes; -1 stays (it means "no limit" for swap)."""
    if str(value) == "-1":
        return -1
    return parse_size(int(value) if isinstance(value, (int, float)) else value)


def cpus(value: Tree) -> int:
    """CPUs in units of 10^-9."""
    try:
        count = float(value)
    except ValueError:
        raise InvalidArgument(f"'{value}' is not a number of CPUs") from None
    if count < 0:
        raise InvalidArgument("the number of CPUs is negative")
    return round(count * 10**9)


def duration(value: Tree) -> int:
    return parse_duration(value)


def texts(value: Tree) -> list[str]:
    if isinstance(value, Seq):
        return [text(item) for item in value]
    return [text(value)]


def command(value: Tree) -> list[str] | None:
    if isinstance(value, Seq):
        return [text(item) for item in value]
    return shlex.split(value)


def optional_table(value: Tree) -> dict[str, str | None]:
    if isinstance(value, Map):
        return {key: None if item is None else text(item) for key, item in value.items()}
    result: dict[str, str | None] = {}
    for item in value:
        name, separator, rest = text(item).partition("=")
        result[name] = rest if separator else None
    return result
