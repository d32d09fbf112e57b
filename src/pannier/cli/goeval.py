"""Evaluates templates parsed by `cli.gotemplate`, with Go's printing and Docker's functions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pannier.base.errors import InvalidArgument
from pannier.cli.gotemplate import Block, Call, Field, Node, Pipeline, Term, Value, parse

_MISSING = object()


class Template:
    """A parsed ``--format``.

    Args:
        text: the template.
        functions: further functions by name.

    Raises:
        InvalidArgument: the text is no template.
    """

    def __init__(
        self, text: str, functions: Mapping[str, Callable[..., Any]] | None = None
    ) -> None:
        self._nodes = parse(text)
        self._functions = {**_FUNCTIONS, **(functions or {})}

    def render(self, value: object) -> str:
        """The text for one object: dicts and lists, or what has ``field(name)``.

        Raises:
            InvalidArgument: the object has no such field, or a function does not fit.
        """
        out: list[str] = []
        _Run(self._functions, value).nodes(self._nodes, value, out)
        return "".join(out)


class _Run:
    def __init__(self, functions: Mapping[str, Callable[..., Any]], root: object) -> None:
        self._functions = functions
        self._variables: dict[str, Any] = {"$": root}

    def nodes(self, nodes: list[Node], dot: Any, out: list[str]) -> None:
        for node in nodes:
            if isinstance(node, str):
                out.append(node)
            elif isinstance(node, Pipeline):
                value = self._pipeline(node, dot)
                if not node.assign:
                    out.append(text_of(value))
            else:
                self._block(node, dot, out)

    def _block(self, block: Block, dot: Any, out: list[str]) -> None:
        assert block.pipeline is not None
        kind = block.kind.removeprefix("else ")
        value = self._pipeline(block.pipeline, dot)
        if kind == "range":
            self._range(block, value, dot, out)
        elif truth(value):
            self.nodes(block.body, value if kind == "with" else dot, out)
        else:
            self.nodes(block.other, dot, out)

    def _range(self, block: Block, value: Any, dot: Any, out: list[str]) -> None:
        assert block.pipeline is not None
        if isinstance(value, Mapping):
            items: list[tuple[Any, Any]] = sorted(value.items())  # as Go does
        elif isinstance(value, int) and not isinstance(value, bool):
            items = [(i, i) for i in range(value)]
        elif value is None or isinstance(value, (list, tuple)):
            items = list(enumerate(value or ()))
        else:
            raise InvalidArgument(f"template: range can't iterate over {text_of(value)}")
        names = block.pipeline.assign
        for key, item in items:
            if len(names) == 2:
                self._variables[names[0]], self._variables[names[1]] = key, item
            elif names:
                self._variables[names[0]] = item
            self.nodes(block.body, item, out)
        if not items:
            self.nodes(block.other, dot, out)

    def _pipeline(self, pipeline: Pipeline, dot: Any) -> Any:
        value: Any = _MISSING
        for command in pipeline.commands:
            value = self._command(command, dot, value)
        if len(pipeline.assign) == 1:
            self._variables[pipeline.assign[0]] = value
        return value

    def _command(self, command: Term, dot: Any, piped: Any) -> Any:
        if isinstance(command, Call):
            function = self._functions.get(command.name)
            if function is None:
                raise InvalidArgument(
                    f'template parsing error: function "{command.name}" not defined',
                    hint="there are: " + ", ".join(sorted(_FUNCTIONS)),
                )
            arguments = [self._term(argument, dot) for argument in command.arguments]
            if piped is not _MISSING:
                arguments.append(piped)
            return _call(command.name, function, arguments)
        if piped is not _MISSING:
            raise InvalidArgument("template parsing error: only a function can follow '|'")
        return self._term(command, dot)

    def _term(self, term: Term, dot: Any) -> Any:
        if isinstance(term, Value):
            return term.value
        if isinstance(term, Pipeline):
            return self._pipeline(term, dot)
        if isinstance(term, Call):
            return self._command(term, dot, _MISSING)
        return self._field(term, dot)

    def _field(self, term: Field, dot: Any) -> Any:
        if term.base is not None:
            dot = self._pipeline(term.base, dot)
        elif term.variable is not None:
            if term.variable not in self._variables:
                raise InvalidArgument(
                    f'template parsing error: undefined variable "{term.variable}"'
                )
            dot = self._variables[term.variable]
        for name in term.names:
            dot = _lookup(dot, name)
        return dot


def _lookup(value: Any, name: str) -> Any:
    look = getattr(value, "field", None)
    if look is not None:
        return look(name)
    if value is None:
        return None  # Go prints <no value> for fields of an absent object
    if isinstance(value, Mapping):
        if name in value:
            return value[name]
        near = next((key for key in value if str(key).lower() == name.lower()), None)
        raise InvalidArgument(
            f'template: map has no entry for key "{name}"',
            hint=f"did you mean .{near}?" if near else "{{json .}} shows what there is",
        )
    raise InvalidArgument(f"template: can't evaluate field {name} in '{text_of(value)}'")


def _call(name: str, function: Callable[..., Any], arguments: list[Any]) -> Any:
    try:
        return function(*arguments)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise InvalidArgument(f"template: error calling {name}: {error}") from error


def truth(value: Any) -> bool:
    """Go's: everything but false, 0, nil and what is empty."""
    return bool(value)


def text_of(value: Any) -> str:
    """As Go's fmt prints it with %v."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        inner = " ".join(f"{key}:{text_of(item)}" for key, item in sorted(value.items()))
        return f"map[{inner}]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(text_of(item) for item in value) + "]"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def to_json(value: Any) -> str:
    """One line of JSON."""
    look = getattr(value, "everything", None)
    return json.dumps(look() if look else value, ensure_ascii=False, separators=(",", ":"))


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else value[key]
    return value


def _printf(form: str, *arguments: Any) -> str:
    """%v, %s, %d, %q, %x, %t and %f with widths."""
    rest = list(arguments)
    out: list[str] = []
    pieces = form.split("%")
    out.append(pieces.pop(0))
    while pieces:
        piece = pieces.pop(0)
        if not piece:  # %%
            out.append("%" + (pieces.pop(0) if pieces else ""))
            continue
        size = next(i for i, letter in enumerate(piece) if letter.isalpha())
        flags, verb, tail = piece[:size], piece[size], piece[size + 1 :]
        value = rest.pop(0)
        if verb in "dxXof":
            text = ("%" + flags + verb) % value
        elif verb == "q":
            text = json.dumps(str(value))
        else:
            text = ("%" + flags + "s") % text_of(value)
        out.append(text + tail)
    return "".join(out)


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator)


def _equal(first: Any, *others: Any) -> bool:
    return any(first == other for other in others)


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else text


def _truncate(text: str, size: int) -> str:
    return text[:size]


def _and(*values: Any) -> Any:
    return next((value for value in values if not truth(value)), values[-1])


def _or(*values: Any) -> Any:
    return next((value for value in values if truth(value)), values[-1])


def _slice(value: Sequence[Any], start: int = 0, end: int | None = None) -> Sequence[Any]:
    return value[start:end]


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "and": _and,
    "eq": _equal,
    "ge": lambda a, b: a >= b,
    "gt": lambda a, b: a > b,
    "index": _index,
    "join": lambda items, separator: separator.join(text_of(item) for item in items or ()),
    "json": to_json,
    "le": lambda a, b: a <= b,
    "len": len,
    "lower": str.lower,
    "lt": lambda a, b: a < b,
    "ne": lambda a, b: a != b,
    "not": lambda value: not truth(value),
    "or": _or,
    "pad": _pad,
    "print": lambda *values: "".join(text_of(value) for value in values),
    "printf": _printf,
    "println": lambda *values: " ".join(text_of(value) for value in values) + "\n",
    "slice": _slice,
    "split": _split,
    "title": str.title,
    "truncate": _truncate,
    "upper": str.upper,
}
