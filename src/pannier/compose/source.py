"""A compose file as a tree that remembers where each value stands.

Reads YAML into plain dicts and lists that carry the file and line of every entry; knows no compose
key and no variable.  ``<<`` merge keys, anchors and the ``!reset`` and ``!override`` tags are
resolved or marked here (compose-spec, 10-fragments and 13-merge).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pannier.base.errors import InvalidArgument, NotFound

Tree: TypeAlias = Any  # Map | Seq | str | int | float | bool | None, as YAML's types decide

# A few anchors that name each other can blow up to billions of values ("billion laughs").
_MOST_VALUES = 100_000
_DEEPEST = 64
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file; lines count from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class ComposeError(InvalidArgument):
    """A compose file that cannot be used: says file, line and key.

    Args:
        mark: where; None for what concerns no single place.
        key: the dotted path of the key, e.g. ``services.web.ports``.
        problem: what is wrong there.
        hint: what to do about it.
    """

    def __init__(
        self, mark: Mark | None, key: str, problem: str, *, hint: str | None = None
    ) -> None:
        where = "".join(f"{part}: " for part in (mark, key) if part)
        super().__init__(f"{where}{problem}", hint=hint, key=key)
        self.mark = mark
        self.key = key


class Map(dict[str, Tree]):
    """A mapping; ``marks`` holds the place of each key, ``mark`` its own."""

    def __init__(self, mark: Mark, entries: Iterable[tuple[str, Tree, Mark]] = ()) -> None:
        super().__init__()
        self.mark = mark
        self.marks: dict[str, Mark] = {}
        self.replaces = False
        for key, value, place in entries:
            self.put(key, value, place)

    def put(self, key: str, value: Tree, mark: Mark) -> None:
        self[key] = value
        self.marks[key] = mark

    def place(self, key: str) -> Mark:
        return self.marks.get(key, self.mark)


class Seq(list[Tree]):
    """A sequence; ``marks`` runs parallel to its items."""

    def __init__(self, mark: Mark, entries: Iterable[tuple[Tree, Mark]] = ()) -> None:
        super().__init__()
        self.mark = mark
        self.marks: list[Mark] = []
        self.replaces = False
        for value, place in entries:
            self.put(value, place)

    def put(self, value: Tree, mark: Mark) -> None:
        self.append(value)
        self.marks.append(mark)

    def place(self, index: int) -> Mark:
        return self.marks[index] if index < len(self.marks) else self.mark


class Reset:
    """The value of a key tagged ``!reset``: the key is removed when files are merged."""


def read_file(path: Path) -> Map:
    """The tree of one compose file.

    Raises:
        NotFound: no such file.
        ComposeError: not YAML, or its top is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"cannot read {path}: {error}") from error
    return read_text(text, str(path))


def read_text(text: str, name: str) -> Map:
    """The tree of a compose file's *text*; *name* stands for it in errors."""
    try:
        # The pure reader keeps marks and YAML 1.2's types, as the reference implementation has.
        node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        mark = Mark(name, place.line + 1) if place else None
        raise ComposeError(mark, "", f"not valid YAML: {error.problem or error.context}") from error
    except YAMLError as error:
        raise ComposeError(Mark(name, 1), "", f"not valid YAML: {error}") from error
    if node is None:
        raise ComposeError(Mark(name, 1), "", "the file is empty", hint="it needs 'services:'")
    tree = _Reader(name).value(node, 0)
    if not isinstance(tree, Map):
        raise ComposeError(Mark(name, 1), "", "the top of a compose file must be a mapping")
    return tree


class _Reader:
    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0

    def mark(self, node: Node) -> Mark:
        return Mark(self._name, node.start_mark.line + 1)

    def value(self, node: Node, depth: int) -> Tree:
        self._count += 1
        if self._count > _MOST_VALUES or depth > _DEEPEST:
            raise ComposeError(
                self.mark(node), "", "the file is too deep or too large once its aliases are filled"
            )
        tag = str(node.tag)
        if tag == "!reset":
            return Reset()
        tree = self._plain(node, depth)
        if tag == "!override" and isinstance(tree, (Map, Seq)):
            tree.replaces = True
        return tree

    def _plain(self, node: Node, depth: int) -> Tree:
        if isinstance(node, MappingNode):
            return self._map(node, depth)
        if isinstance(node, SequenceNode):
            items = ((self.value(item, depth + 1), self.mark(item)) for item in node.value)
            return Seq(self.mark(node), items)
        assert isinstance(node, ScalarNode)
        return _scalar(str(node.tag).removeprefix(_TAG), str(node.value))

    def _map(self, node: MappingNode, depth: int) -> Map:
        result = Map(self.mark(node))
        merged: list[Map] = []
        for key_node, value_node in node.value:
            value = self.value(value_node, depth + 1)
            if str(key_node.tag) == f"{_TAG}merge" or key_node.value == "<<":
                merged += self._merge_sources(value, key_node)
            else:
                self._put(result, key_node, value)
        for source in merged:  # earlier sources win, the mapping's own keys win over all
            for key, value in source.items():
                if key not in result:
                    result.put(key, value, source.place(key))
        return result

    def _put(self, result: Map, key_node: Node, value: Tree) -> None:
        mark = self.mark(key_node)
        if not isinstance(key_node, ScalarNode):
            raise ComposeError(mark, "", "a key must be a plain text")
        key = str(key_node.value)
        if key in result:
            raise ComposeError(
                mark, key, f"this key is already defined on line {result.place(key).line}"
            )
        result.put(key, value, mark)

    def _merge_sources(self, value: Tree, key_node: Node) -> list[Map]:
        sources = value if isinstance(value, Seq) else [value]
        if not all(isinstance(source, Map) for source in sources):
            raise ComposeError(self.mark(key_node), "<<", "only mappings can be merged")
        return list(sources)


def _scalar(tag: str, text: str) -> Tree:
    if tag == "null":
        return None
    if tag == "bool":
        return text.lower() == "true"
    if tag == "int":
        return _integer(text)
    if tag == "float":
        return _number(text)
    return text


def _integer(text: str) -> int | str:
    digits = text.replace("_", "")
    try:
        return int(digits, 0)
    except ValueError:
        # 0644 is decimal in YAML 1.2; written so, people mean a mode, as in Go's YAML.
        return int(digits, 8) if digits.startswith("0") else text


def _number(text: str) -> float | str:
    try:
        return float(text.replace("_", ""))
    except ValueError:
        return text
