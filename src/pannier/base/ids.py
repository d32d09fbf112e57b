"""Identifiers and names: 64 hex digits for objects, short forms, checked and random names."""

from __future__ import annotations

import os
import re

from pannier.base.errors import InvalidArgument

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_LONGEST_NAME = 128

_LEFT = (
    "amber brave calm clever eager early fair fleet gentle glad golden keen kind light lively "
    "lucky mellow merry noble patient plain proud quick quiet ready silver steady sunny swift tidy "
    "warm wise"
).split()
_RIGHT = (
    "alder badger birch brook cedar crane donkey falcon fern finch hazel heron ibis juniper lark "
    "linden llama maple marten mule oak otter pine plover poplar raven robin rowan stork thrush "
    "willow wren"
).split()


def new_id() -> str:
    """A fresh object id: 64 hexadecimal digits."""
    return os.urandom(32).hex()


def short(object_id: str) -> str:
    """The twelve digits that people see; a ``sha256:`` prefix is dropped."""
    return object_id.removeprefix("sha256:")[:12]


def check_name(name: str) -> str:
    """Return *name* if an object may be called so.

    Raises:
        InvalidArgument: with Docker's wording, which clients show as it is.
    """
    name = name.removeprefix("/")
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
    return name


def random_name() -> str:
    """Two words and an underscore, for objects that were not named."""
    left, right = os.urandom(2)
    return f"{_LEFT[left % len(_LEFT)]}_{_RIGHT[right % len(_RIGHT)]}"
