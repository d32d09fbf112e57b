"""``--format`` templates: the part of Go's text/template that people write on command lines.

Actions: fields (``.A.B``), ``$variables``, literals, pipelines, calls in parentheses; ``if``,
``else if``, ``else``, ``range``, ``with``, ``end``; comments; ``{{-`` and ``-}}``.  Parsed here,
evaluated in `cli.goeval`.  Source: https://pkg.go.dev/text/template.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from dataclasses import field as attribute

from pannier.base.errors import InvalidArgument

_ACTION = re.compile(r"\{\{(- )?(.*?)( -)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>"(?:\\.|[^"\\])*"|`[^`]*`)
      | (?P<number>-?\d+(?:\.\d+)?)
      | (?P<variable>\$\w*(?:\.\w+)*)
      | (?P<field>\.(?:\w+(?:\.\w+)*)?)
      | (?P<name>\w+)
      | (?P<chain>\)(?:\.\w+)+)
      | (?P<symbol>:=|[(),|=])
    )""",
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'"}
_BLOCKS = {"if", "range", "with"}


@dataclass(frozen=True, slots=True)
class Value:
    """A literal."""

    value: object


@dataclass(frozen=True, slots=True)
class Field:
    """``.A.B`` of the dot, or of a variable when *variable* is set, or of *base*."""

    names: tuple[str, ...]
    variable: str | None = None
    base: Pipeline | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A function with arguments, or a method (its name begins with a dot) of the first of them."""

    name: str
    arguments: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands joined by ``|``; *assign* names the variables that take the result."""

    commands: tuple[Term, ...]
    assign: tuple[str, ...] = ()


Term = Value | Field | Call | Pipeline


@dataclass(slots=True)
class Block:
    """``if``, ``range``, ``with``; kind "" is a list of nodes."""

    kind: str
    pipeline: Pipeline | None = None
    body: list[Node] = attribute(default_factory=list)
    other: list[Node] = attribute(default_factory=list)


Node = str | Pipeline | Block


def parse(text: str) -> list[Node]:
    """The nodes of a template.

    Raises:
        InvalidArgument: with Docker's words and what is wrong.
    """
    root = Block("")
    stack: list[tuple[Block, list[Node]]] = [(root, root.body)]
    position, trim = 0, False
    for match in _ACTION.finditer(text):
        literal = text[position : match.start()]
        if trim:
            literal = literal.lstrip()
        if match[1]:
            literal = literal.rstrip()
        if literal:
            stack[-1][1].append(literal)
        position, trim = match.end(), bool(match[3])
        _action(match[2].strip(), stack)
    rest = text[position:]
    if "{{" in rest:
        raise _error("unclosed action")
    if len(stack) > 1:
        raise _error("unexpected EOF: an {{end}} is missing")
    if rest:
        stack[-1][1].append(rest.lstrip() if trim else rest)
    return root.body


def _error(reason: str) -> InvalidArgument:
    return InvalidArgument(
        f"template parsing error: {reason}",
        hint="a template looks like '{{.Name}}', '{{json .State}}' or 'table {{.ID}}\\t{{.Names}}'",
    )


def _action(text: str, stack: list[tuple[Block, list[Node]]]) -> None:
    if text.startswith("/*"):
        return
    word, _, rest = text.partition(" ")
    if word in _BLOCKS:
        block = Block(word, _pipeline(rest))
        stack[-1][1].append(block)
        stack.append((block, block.body))
    elif word == "else":
        _else(rest.strip(), stack)
    elif word == "end":
        if len(stack) == 1:
            raise _error("unexpected {{end}}")
        # `else if` nests without an {{end}} of its own.
        while stack.pop()[0].kind.startswith("else "):
            pass
    else:
        stack[-1][1].append(_pipeline(text))


def _else(rest: str, stack: list[tuple[Block, list[Node]]]) -> None:
    block, _ = stack[-1]
    if len(stack) == 1 or not block.kind:
        raise _error("unexpected {{else}}")
    stack[-1] = (block, block.other)
    if rest:
        kind, _, condition = rest.partition(" ")
        if kind not in {"if", "with"}:
            raise _error(f"unexpected <{kind}> in else")
        nested = Block("else " + kind, _pipeline(condition))
        block.other.append(nested)
        stack.append((nested, nested.body))


def _pipeline(text: str) -> Pipeline:
    tokens = _tokens(text)
    pipeline = _Reader(tokens).pipeline()
    if tokens:
        raise _error(f"unexpected '{tokens[-1][1]}' in '{text}'")
    return pipeline


def _tokens(text: str) -> list[tuple[str, str]]:
    """Kinds and texts, last one first."""
    out: list[tuple[str, str]] = []
    position = 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match or not match.lastgroup:
            raise _error(f"unexpected '{text[position:].strip()[:1]}' in '{text}'")
        out.append((match.lastgroup, match[match.lastgroup]))
        position = match.end()
    out.reverse()
    return out


class _Reader:
    """Recursive descent over the tokens of one action."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens

    def _next(self, *texts: str) -> bool:
        if self._tokens and self._tokens[-1][1] in texts:
            self._tokens.pop()
            return True
        return False

    def pipeline(self) -> Pipeline:
        assign = self._assignment()
        commands = [self._command()]
        while self._next("|"):
            commands.append(self._command())
        return Pipeline(tuple(commands), assign)

    def _assignment(self) -> tuple[str, ...]:
        texts = [text for _, text in reversed(self._tokens)]
        if not texts or not texts[0].startswith("$"):
            return ()
        size = next((i for i, text in enumerate(texts[:4]) if text in {":=", "="}), 0)
        if not size:
            return ()
        names = [text for text in texts[:size] if text != ","]
        del self._tokens[-size - 1 :]
        return tuple(names)

    def _command(self) -> Term:
        kind, text = self._tokens[-1] if self._tokens else ("", "")
        if kind == "name" and text not in {"true", "false", "nil"}:
            self._tokens.pop()
            arguments: list[Term] = []
            while self._tokens and self._starts_term():
                arguments.append(self._term())
            return Call(text, tuple(arguments))
        if not kind:
            raise _error("missing value for command")
        term = self._term()
        if isinstance(term, Field) and term.names and self._tokens and self._starts_term():
            return self._method(term)
        return term

    def _method(self, field: Field) -> Term:
        """``.Label "x"`` is a method of what is before the last name; it gets that first."""
        arguments: list[Term] = [Field(field.names[:-1], field.variable, field.base)]
        while self._tokens and self._starts_term():
            arguments.append(self._term())
        return Call("." + field.names[-1], tuple(arguments))

    def _starts_term(self) -> bool:
        kind, text = self._tokens[-1]
        return kind in {"string", "number", "variable", "field", "name"} or text == "("

    def _term(self) -> Term:
        kind, text = self._tokens.pop()
        if kind == "string":
            return Value(_unquote(text))
        if kind == "number":
            return Value(float(text) if "." in text else int(text))
        if kind == "field":
            return Field(tuple(filter(None, text.split("."))))
        if kind == "variable":
            name, *names = text.split(".")
            return Field(tuple(names), name)
        if kind == "name":
            constants: dict[str, object] = {"true": True, "false": False, "nil": None}
            return Value(constants[text]) if text in constants else Call(text, ())
        if text == "(":
            return self._parenthesis()
        raise _error(f"unexpected '{text}'")

    def _parenthesis(self) -> Term:
        inner = self.pipeline()
        kind, text = self._tokens.pop() if self._tokens else ("", "")
        if kind == "chain":
            return Field(tuple(text[2:].split(".")), base=inner)
        if text != ")":
            raise _error("unclosed left paren")
        return inner


def _unquote(text: str) -> str:
    if text.startswith("`"):
        return text[1:-1]
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[0]), text[1:-1])
