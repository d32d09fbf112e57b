"""Checks a tree against the shapes of `facts`: errors with file, line and key, and warnings.

It only looks at shapes; references between parts (a service that depends on nothing known) are
checked where the model is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import TypeAlias

from pannier.compose.facts import PROJECT
from pannier.compose.gaps import UNSUPPORTED
from pannier.compose.shapes import Anything, Either, Entries, Items, Record, Scalar, Shape
from pannier.compose.source import ComposeError, Map, Mark, Reset, Seq, Tree

_Path: TypeAlias = tuple[str, ...]

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_ARTICLES = {"integer": "an integer", "null": "empty"}


def validate(tree: Map) -> None:
    """Check the whole file.

    Raises:
        ComposeError: the first breach, with file, line and key.
    """
    _check(tree, PROJECT, (), tree.mark)


def unsupported_keys(tree: Map) -> Iterator[tuple[Mark, str]]:
    """Place and dotted path of every key in use that pannier does not carry out yet."""
    yield from _unsupported(tree, (), ())


def _unsupported(tree: Tree, path: _Path, pattern: _Path) -> Iterator[tuple[Mark, str]]:
    items: Iterator[tuple[str, Tree, Mark, str]]
    if isinstance(tree, Map):
        free = ".".join(pattern) in _NAMED
        items = ((k, v, tree.place(k), "*" if free else k) for k, v in tree.items())
    elif isinstance(tree, Seq):
        items = ((str(n), v, tree.place(n), "*") for n, v in enumerate(tree))
    else:
        return
    for key, value, mark, step in items:
        here, shape = (*path, key), (*pattern, step)
        if ".".join(shape) in UNSUPPORTED:
            yield mark, dotted(here)
        else:
            yield from _unsupported(value, here, shape)


# Where the keys of a mapping are names that people chose.
_NAMED = frozenset(
    {"services", "networks", "volumes", "secrets", "configs", "models", "services.*.networks"}
)


def dotted(path: _Path) -> str:
    """``('services', 'web', 'ports', '0')`` as ``services.web.ports.0``."""
    return ".".join(path)


def _check(value: Tree, shape: Shape, path: _Path, mark: Mark) -> None:
    match shape:
        case Scalar():
            _check_scalar(value, shape, path, mark)
        case Items():
            _check_items(value, shape, path, mark)
        case Entries():
            _check_entries(value, shape, path, mark)
        case Record():
            _check_record(value, shape, path, mark)
        case Either():
            _check_either(value, shape, path, mark)
        case Anything():
            return


def _check_either(value: Tree, shape: Either, path: _Path, mark: Mark) -> None:
    for option in shape.options:
        if _fits(value, option):
            _check(value, option, path, mark)
            return
    kinds = list(dict.fromkeys(kind for option in shape.options for kind in _kinds(option)))
    raise ComposeError(mark, dotted(path), f"must be {_listed(kinds)}")


def _fits(value: Tree, shape: Shape) -> bool:
    match shape:
        case Scalar():
            return _is_any(value, shape.types)
        case Items():
            return isinstance(value, Seq)
        case Entries() | Record():
            return isinstance(value, Map)
        case Either():
            return any(_fits(value, option) for option in shape.options)
        case Anything():
            return True


def _kinds(shape: Shape) -> list[str]:
    match shape:
        case Scalar():
            return [_ARTICLES.get(name, f"a {name}") for name in shape.types]
        case Items():
            return ["a list"]
        case Entries() | Record():
            return ["a mapping"]
        case Either():
            return [kind for option in shape.options for kind in _kinds(option)]
        case Anything():
            return ["anything"]


def _listed(words: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _is_any(value: Tree, types: tuple[str, ...]) -> bool:
    if isinstance(value, bool):  # bool is an int in Python, not in YAML
        return "boolean" in types
    return any(isinstance(value, _TYPES[name]) for name in types)


def _check_scalar(value: Tree, shape: Scalar, path: _Path, mark: Mark) -> None:
    if not _is_any(value, shape.types):
        raise ComposeError(mark, dotted(path), f"must be {_listed(_kinds(shape))}")
    if shape.choices and value not in shape.choices:
        raise ComposeError(mark, dotted(path), f"must be {_listed(list(shape.choices))}")
    if shape.pattern and isinstance(value, str) and not shape.pattern.search(value):
        raise ComposeError(mark, dotted(path), f"'{value}' does not match {shape.pattern.pattern}")
    if isinstance(value, (int, float)):
        if shape.low is not None and value < shape.low:
            raise ComposeError(mark, dotted(path), f"must not be less than {shape.low}")
        if shape.high is not None and value > shape.high:
            raise ComposeError(mark, dotted(path), f"must not be more than {shape.high}")


def _check_items(value: Tree, shape: Items, path: _Path, mark: Mark) -> None:
    if not isinstance(value, Seq):
        raise ComposeError(mark, dotted(path), "must be a list")
    for index, item in enumerate(value):
        place = value.place(index)
        if shape.unique and item in value[:index]:
            raise ComposeError(place, dotted(path), f"'{item}' is listed twice")
        _check(item, shape.item, (*path, str(index)), place)


def _check_entries(value: Tree, shape: Entries, path: _Path, mark: Mark) -> None:
    if not isinstance(value, Map):
        raise ComposeError(mark, dotted(path), "must be a mapping")
    for key, item in value.items():
        here, place = (*path, key), value.place(key)
        if shape.names and not shape.names.search(key):
            raise ComposeError(place, dotted(here), f"'{key}' is not a name that can be used here")
        if not isinstance(item, Reset):
            _check(item, shape.value, here, place)


def _check_record(value: Tree, shape: Record, path: _Path, mark: Mark) -> None:
    if not isinstance(value, Map):
        raise ComposeError(mark, dotted(path), "must be a mapping")
    for key, item in value.items():
        here, place = (*path, key), value.place(key)
        if shape.extensions and key.startswith("x-"):
            continue
        if key not in shape.keys:
            raise ComposeError(place, dotted(here), "unknown key", hint=_similar(key, shape))
        if not isinstance(item, Reset):
            _check(item, shape.keys[key], here, place)
    for key in shape.required:
        if key not in value:
            raise ComposeError(mark, dotted(path), f"the key '{key}' is missing")


def _similar(key: str, shape: Record) -> str | None:
    close = get_close_matches(key, shape.keys, 1)
    return f"did you mean '{close[0]}'?" if close else None
