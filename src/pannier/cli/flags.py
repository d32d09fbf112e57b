"""Command-line flags as Docker's CLI reads them (Go's pflag): long, short, combined, ``=value``.

Loaded before the command is known to be cheap or dear, so it imports nothing.  What a flag means is
the command's business; how help looks is in `cli.help`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Literal, TypeAlias

    Kind: TypeAlias = Literal["flag", "text", "list", "number"]
    # Long name, short name or "", kind, name of the value in help, description.
    Option: TypeAlias = tuple[str, str, Kind, str, str]
else:
    Option = tuple

HELP: Option = ("help", "", "flag", "", "Show this help")
_TRUE = {"1", "t", "T", "true", "TRUE", "True"}
_FALSE = {"0", "f", "F", "false", "FALSE", "False"}


class UsageError(Exception):
    """What was typed cannot be understood.

    Args:
        message: Docker's wording where it has one.
        code: exit status; Docker ends with 125 for flags it does not know, 1 for missing arguments.
    """

    def __init__(self, message: str, code: int = 125) -> None:
        super().__init__(message)
        self.code = code


class Flags:
    """The values of one command's flags; a flag that was not typed has its empty value."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[str, Any] | None = None) -> None:
        self._values = values or {}

    def given(self, name: str) -> bool:
        """Whether it was typed at all."""
        return name in self._values

    def typed(self) -> Iterable[tuple[str, Any]]:
        """Names and values of what was typed, in that order."""
        return self._values.items()

    def on(self, name: str, default: bool = False) -> bool:
        value: bool = self._values.get(name, default)
        return value

    def text(self, name: str, default: str = "") -> str:
        value: str = self._values.get(name, default)
        return value

    def list(self, name: str) -> list[str]:
        value: list[str] = self._values.get(name, [])
        return value

    def number(self, name: str, default: int = 0) -> int:
        value: int = self._values.get(name, default)
        return value


def parse(
    options: Iterable[Option], words: Sequence[str], *, interspersed: bool = True
) -> tuple[Flags, list[str]]:
    """Split *words* into flags and arguments.

    Args:
        options: what the command knows; ``--help`` is always known.
        interspersed: False ends at the first argument (``run IMAGE -not-ours``).

    Raises:
        UsageError: unknown flag, missing or impossible value.
    """
    parser = _Parser(options)
    arguments: list[str] = []
    queue = list(reversed(words))
    while queue:
        word = queue.pop()
        if word == "--":
            arguments += reversed(queue)
            break
        if word.startswith("--"):
            parser.long(word[2:], queue)
        elif word.startswith("-") and len(word) > 1:
            parser.short(word[1:], queue)
        else:
            arguments.append(word)
            if not interspersed:
                arguments += reversed(queue)
                break
    return Flags(parser.values), arguments


class _Parser:
    def __init__(self, options: Iterable[Option]) -> None:
        self._long: dict[str, Option] = {"help": HELP}
        self._short: dict[str, Option] = {}
        self.values: dict[str, Any] = {}
        for option in options:
            self._long[option[0]] = option
            if option[1]:
                self._short[option[1]] = option

    def long(self, word: str, queue: list[str]) -> None:
        name, equals, value = word.partition("=")
        option = self._long.get(name)
        if option is None:
            raise UsageError(f"unknown flag: --{name}")
        if equals:
            self._set(option, value)
        elif option[2] == "flag":
            self.values[name] = True
        elif queue:
            self._set(option, queue.pop())
        else:
            raise UsageError(f"flag needs an argument: --{name}")

    def short(self, letters: str, queue: list[str]) -> None:
        rest = letters
        while rest:
            letter, rest = rest[0], rest[1:]
            option = self._short.get(letter)
            if option is None:
                if letter == "h":
                    self.values["help"] = True
                    continue
                raise UsageError(f"unknown shorthand flag: '{letter}' in -{letters}")
            if rest.startswith("="):
                self._set(option, rest[1:])
                return
            if option[2] == "flag":
                self.values[option[0]] = True
            elif rest or queue:
                self._set(option, rest or queue.pop())
                return
            else:
                raise UsageError(f"flag needs an argument: '{letter}' in -{letters}")

    def _set(self, option: Option, value: str) -> None:
        name, _, kind = option[:3]
        if kind == "list":
            self.values.setdefault(name, []).append(value)
        elif kind == "text":
            self.values[name] = value
        elif kind == "number":
            self.values[name] = _number(name, value)
        elif value in _TRUE or value in _FALSE:
            self.values[name] = value in _TRUE
        else:
            raise UsageError(f'invalid argument "{value}" for "--{name}" flag: not true or false')


def _number(name: str, value: str) -> int:
    try:
        return int(value, 0)
    except ValueError:
        raise UsageError(f'invalid argument "{value}" for "--{name}" flag: not a number') from None
