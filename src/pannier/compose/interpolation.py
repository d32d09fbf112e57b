"""``$VAR`` and ``${VAR...}`` in the values of a compose file (compose-spec, 12-interpolation).

Works on trees of `source`; where variables come from is the caller's matter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pannier.compose.source import ComposeError, Map, Mark, Seq, Tree

_NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_OPERATOR = re.compile(r":?[-?+]")


@dataclass(slots=True)
class Interpolator:
    """Fills variables into trees.

    Args:
        variables: what is set; an empty text counts as set and empty.
        unset: names of variables without value and default that were met, in order.
    """

    variables: Mapping[str, str]
    unset: list[str] = field(default_factory=list)

    def tree(self, tree: Tree, path: str = "", mark: Mark | None = None) -> Tree:
        """A copy of *tree* with every text filled; keys stay as they are.

        Raises:
            ComposeError: a required variable is not set, or the notation is broken.
        """
        if isinstance(tree, Map):
            result = Map(tree.mark)
            result.replaces = tree.replaces
            for key, value in tree.items():
                place = tree.place(key)
                result.put(key, self.tree(value, f"{path}.{key}".lstrip("."), place), place)
            return result
        if isinstance(tree, Seq):
            items = Seq(tree.mark)
            items.replaces = tree.replaces
            for index, value in enumerate(tree):
                place = tree.place(index)
                items.put(self.tree(value, f"{path}[{index}]", place), place)
            return items
        if isinstance(tree, str) and "$" in tree:
            return self.text(tree, path, mark)
        return tree

    def text(self, text: str, path: str, mark: Mark | None) -> str:
        """One text with its variables filled."""

        def fail(problem: str, hint: str | None = None) -> ComposeError:
            return ComposeError(mark, path, problem, hint=hint)

        return _Scanner(text, self.variables, self._note_unset, fail).whole()

    def _note_unset(self, name: str) -> None:
        if name not in self.unset:
            self.unset.append(name)


class _Scanner:
    """A recursive descent over one text: defaults may hold variables themselves."""

    def __init__(
        self,
        text: str,
        variables: Mapping[str, str],
        unset: Callable[[str], None],
        fail: Callable[..., ComposeError],
    ) -> None:
        self._text = text
        self._at = 0
        self._variables = variables
        self._unset = unset
        self._fail = fail

    def whole(self) -> str:
        return self._until("")

    def _until(self, end: str) -> str:
        """Filled text up to the character *end*, which is left to be read."""
        parts: list[str] = []
        while self._at < len(self._text):
            character = self._text[self._at]
            if end and character == end:
                return "".join(parts)
            self._at += 1
            parts.append(self._dollar() if character == "$" else character)
        if end:
            raise self._broken()
        return "".join(parts)

    def _dollar(self) -> str:
        following = self._text[self._at : self._at + 1]
        if following == "$":
            self._at += 1
            return "$"
        if following == "{":
            self._at += 1
            return self._braced()
        match = _NAME.match(self._text, self._at)
        if not match:
            raise self._broken()
        self._at = match.end()
        return self._plain(match[0])

    def _braced(self) -> str:
        match = _NAME.match(self._text, self._at)
        if not match:
            raise self._broken()
        self._at = match.end()
        operator = _OPERATOR.match(self._text, self._at)
        if operator:
            self._at = operator.end()
        other = self._until("}") if operator else ""
        if self._text[self._at : self._at + 1] != "}":
            raise self._broken()
        self._at += 1
        return self._apply(match[0], operator[0] if operator else "", other)

    def _apply(self, name: str, operator: str, other: str) -> str:
        if not operator:
            return self._plain(name)
        value = self._variables.get(name)
        given = bool(value) if operator.startswith(":") else value is not None
        match operator[-1]:
            case "-":
                return (value or "") if given else other
            case "+":
                return other if given else ""
            case _:
                if not given:
                    raise self._missing(name, other)
                return value or ""

    def _plain(self, name: str) -> str:
        if name not in self._variables:
            self._unset(name)
        return self._variables.get(name, "")

    def _missing(self, name: str, message: str) -> ComposeError:
        problem = f"required variable {name} is missing a value"
        return self._fail(
            f"{problem}: {message}" if message else problem,
            f"set it in the environment or in the .env file: {name}=...",
        )

    def _broken(self) -> ComposeError:
        return self._fail(
            f"invalid interpolation format in '{self._text}'",
            "write ${NAME}, ${NAME:-default}, ${NAME:?message}; a literal dollar is $$",
        )
