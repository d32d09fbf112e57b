"""Quotes, escapes and variables in the words of a Dockerfile.

The rules are the classic builder's (moby, shell/lex.go): those of a shell, without commands, file
globs or field splitting of values. Splitting a line into instructions belongs to `lexer`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pannier.base.errors import InvalidArgument

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?\-$!]")
_BLANK = " \t\v\f\r\n"


def expand(text: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """Remove quotes and escapes from one word and put values in.

    Args:
        text: the word; blanks in it are kept.
        variables: names to values; a name that is not in it counts as unset.
        escape: the Dockerfile's escape character.

    Raises:
        InvalidArgument: an open quote or brace, an unknown modifier, or ``${x:?message}`` of an
            unset variable.
    """
    return "".join(_Scanner(text, variables, escape).words(split=False))


def expand_words(text: str, variables: Mapping[str, str], escape: str = "\\") -> list[str]:
    """As `expand`, then cut at blanks outside of quotes; used by EXPOSE."""
    return [word for word in _Scanner(text, variables, escape).words(split=True) if word]


def expand_document(text: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """As `expand` for a here-document: quotes are plain characters there, as in a shell."""
    return _Scanner(text, variables, escape).document()


def split_words(text: str, escape: str = "\\") -> list[str]:
    """Cut at blanks outside of quotes, keeping quotes and escapes as they are written."""
    words: list[str] = []
    current = quote = ""
    position = 0
    while position < len(text):
        char = text[position]
        position += 1
        if char == escape and quote != "'" and position < len(text):
            current += char + text[position]
            position += 1
            continue
        if not quote and char in _BLANK:
            words, current = _flush(words, current)
            continue
        current += char
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
    return _flush(words, current)[0]


def _flush(words: list[str], current: str) -> tuple[list[str], str]:
    return ([*words, current] if current else words), ""


class _Scanner:
    """One pass over a text. ``stop`` is the character that ends a nested word."""

    def __init__(self, text: str, variables: Mapping[str, str], escape: str) -> None:
        self._text = text
        self._variables = variables
        self._escape = escape
        self._at = 0

    def words(self, *, split: bool) -> list[str]:
        words = [""]
        while self._at < len(self._text):
            if split and self._peek() in _BLANK:
                self._at += 1
                words.append("")
                continue
            piece, quoted = self._piece()
            if split and not quoted:
                first, *rest = re.split(r"\s+", piece)
                words[-1] += first
                words += rest
            else:
                words[-1] += piece
        return words

    def document(self) -> str:
        result = ""
        while self._at < len(self._text):
            char = self._next()
            if char == "$":
                char = self._dollar()
            elif char == self._escape and self._peek() in ("$", self._escape):
                char = self._next()
            result += char
        return result

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        char = self._peek()
        self._at += 1
        return char

    def _piece(self) -> tuple[str, bool]:
        """One unit of the text, and whether blanks in it are protected."""
        char = self._next()
        if char == "'":
            return self._single_quoted(), True
        if char == '"':
            return self._double_quoted(), True
        if char == "$":
            return self._dollar(), False
        if char == self._escape:
            return self._next(), True
        return char, False

    def _single_quoted(self) -> str:
        end = self._text.find("'", self._at)
        if end < 0:
            raise InvalidArgument(f"no closing single quote (') in {self._text}")
        content = self._text[self._at : end]
        self._at = end + 1
        return content

    def _double_quoted(self) -> str:
        result = ""
        while self._at < len(self._text):
            char = self._next()
            if char == '"':
                return result
            if char == "$":
                result += self._dollar()
            elif char == self._escape and self._peek() in ('"', "$", self._escape):
                result += self._next()
            else:
                result += char
        raise InvalidArgument(f'no closing double quote (") in {self._text}')

    def _dollar(self) -> str:
        if self._peek() == "{":
            self._at += 1
            return self._braced()
        match = _NAME.match(self._text, self._at)
        if not match:
            return "$"
        name = match[0]
        # Positional names have one digit without braces, as in a shell.
        if name[0].isdigit():
            name = name[0]
        self._at += len(name)
        return self._variables.get(name, "")

    def _braced(self) -> str:
        match = _NAME.match(self._text, self._at)
        if not match:
            raise InvalidArgument(
                f"bad substitution in {self._text}: a name was expected after ${{"
            )
        self._at = match.end()
        value = self._variables.get(match[0])
        modifier = self._modifier()
        if modifier == "}":
            return value or ""
        word = self._nested()
        return _modified(match[0], value, modifier, word)

    def _modifier(self) -> str:
        char = self._next()
        if char == "}":
            return char
        if char == ":" or (char and char in "#%/" and self._peek() == char):
            char += self._next()
        if char not in _MODIFIERS:
            raise InvalidArgument(
                f"unsupported modifier ({char}) in substitution: {self._text}",
                hint="known are :- - :+ + :? ? # ## % %%; a ${ is closed by }",
            )
        return char

    def _nested(self) -> str:
        result = ""
        while self._at < len(self._text):
            if self._peek() == "}":
                self._at += 1
                return result
            result += self._piece()[0]
        raise InvalidArgument(f"no closing brace (}}) in {self._text}")


_MODIFIERS = (":-", "-", ":+", "+", ":?", "?", "#", "##", "%", "%%")


def _modified(name: str, value: str | None, modifier: str, word: str) -> str:
    if modifier[0] in "#%":
        return _trimmed(value or "", modifier, word)
    present = bool(value) if modifier[0] == ":" else value is not None
    if modifier[-1] == "+":
        return word if present else ""
    if present:
        return value or ""
    if modifier[-1] == "?":
        raise InvalidArgument(f"{name}: {word or 'not allowed to be unset'}")
    return word


def _trimmed(value: str, modifier: str, pattern: str) -> str:
    """``${x#p}`` and ``${x%p}``: the shortest (doubled: longest) match is cut off."""
    regex = re.compile(
        "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern), re.DOTALL
    )
    lengths = range(len(value) + 1)
    for length in lengths if len(modifier) == 1 else reversed(lengths):
        if modifier[0] == "#" and regex.fullmatch(value[:length]):
            return value[length:]
        cut = len(value) - length
        if modifier[0] == "%" and regex.fullmatch(value[cut:]):
            return value[:cut]
    return value
