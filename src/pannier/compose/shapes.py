"""A small language for the shape of configuration: scalars, lists, maps, records, alternatives.

Only the words; what a compose file may hold is in `facts`, the check itself in `validation`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value of some of the types ``string integer number boolean null``."""

    types: tuple[str, ...]
    choices: tuple[str, ...] = ()
    pattern: re.Pattern[str] | None = None
    low: int | None = None
    high: int | None = None


@dataclass(frozen=True, slots=True)
class Items:
    """A list of one shape."""

    item: Shape
    unique: bool = False


@dataclass(frozen=True, slots=True)
class Entries:
    """A mapping with free keys that all hold one shape; ``names`` restricts the keys."""

    value: Shape
    names: re.Pattern[str] | None = None
    extensions: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """A mapping with known keys; ``extensions`` admits ``x-...`` beside them."""

    keys: Mapping[str, Shape]
    required: tuple[str, ...] = ()
    extensions: bool = True


@dataclass(frozen=True, slots=True)
class Anything:
    """Not looked into."""


@dataclass(frozen=True, slots=True)
class Either:
    """The first alternative of the value's own type decides."""

    options: tuple[Shape, ...]


Shape: TypeAlias = Scalar | Items | Entries | Record | Anything | Either


def scalar(types: str, **limits: int) -> Scalar:
    return Scalar(tuple(types.split()), low=limits.get("low"), high=limits.get("high"))


def choice(*words: str) -> Scalar:
    return Scalar(("string",), choices=words)


def matching(pattern: str) -> Scalar:
    return Scalar(("string",), pattern=re.compile(pattern))


def either(*options: Shape) -> Either:
    return Either(options)


TEXT = scalar("string")
BOOLEAN = scalar("boolean string")
INTEGER = scalar("integer string")
NUMBER = scalar("number string")
NULL = scalar("null")
TEXTS = Items(TEXT)
UNIQUE_TEXTS = Items(TEXT, unique=True)
TEXT_OR_LIST = either(TEXT, UNIQUE_TEXTS)
LIST_OR_DICT = either(Entries(scalar("string number boolean null")), UNIQUE_TEXTS)
OPTIONS = Entries(scalar("string number"))
