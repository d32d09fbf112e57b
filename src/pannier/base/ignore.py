"""``.dockerignore``: which paths of a context are left out.

Docker's rules (docs.docker.com/build/concepts/context/#dockerignore-files; moby patternmatcher):
the last matching pattern decides, ``!`` brings back, ``**`` crosses directories, and a pattern that
matches a directory matches all below it. Pure text work; no file is read here.
"""

from __future__ import annotations

import posixpath
import re

from pannier.base.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class _Pattern:
    # Not a dataclass: the CLI loads this module for every build, and `dataclasses` takes 6 ms.
    __slots__ = ("excluded", "regex")

    def __init__(self, regex: re.Pattern[str], excluded: bool) -> None:
        self.regex = regex
        self.excluded = excluded


class Ignore:
    """Compiled patterns; ``matches`` answers for one path at a time."""

    def __init__(self, patterns: Sequence[_Pattern]) -> None:
        self._patterns = tuple(patterns)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    @property
    def has_exceptions(self) -> bool:
        """Whether something below an ignored directory may be wanted after all."""
        return any(not pattern.excluded for pattern in self._patterns)

    def matches(self, path: str) -> bool:
        """Whether *path* (relative, ``/`` between its parts) is left out."""
        parts = path.split("/")
        prefixes = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        ignored = False
        for pattern in self._patterns:
            if pattern.excluded != ignored and any(map(pattern.regex.fullmatch, prefixes)):
                ignored = pattern.excluded
        return ignored


def read_ignore(text: str, file: str = ".dockerignore") -> Ignore:
    """Compile the lines of an ignore file.

    Raises:
        InvalidArgument: a malformed pattern, with its line.
    """
    patterns = []
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        if raw.startswith("#") or not raw.strip():
            continue
        line = raw.strip()
        excluded = not line.startswith("!")
        pattern = line if excluded else line[1:].strip()
        if not pattern:
            raise InvalidArgument(f"{file}:{number}: a pattern was expected after '!'")
        patterns.append(_Pattern(_compiled(_cleaned(pattern), file, number), excluded))
    return Ignore(patterns)


def _cleaned(pattern: str) -> str:
    cleaned = posixpath.normpath(pattern)
    # normpath keeps a doubled slash at the front (POSIX); here it has no meaning.
    return cleaned.lstrip("/") or "/"


def _compiled(pattern: str, file: str, number: int) -> re.Pattern[str]:
    try:
        return re.compile(glob_to_regex(pattern), re.DOTALL)
    except (re.error, InvalidArgument) as error:
        raise InvalidArgument(f"{file}:{number}: syntax error in pattern '{pattern}'") from error


def glob_to_regex(pattern: str) -> str:
    """Go's filepath.Match pattern, with ``**``, as a regular expression for a whole path.

    Raises:
        InvalidArgument: an escape character at the end.
    """
    result = ""
    at = 0
    while at < len(pattern):
        if pattern.startswith("**", at):
            at += 2
            if pattern.startswith("/", at):
                at += 1
                result += "(?:.*/)?"
            else:
                result += ".*"
            continue
        piece, at = _glob_piece(pattern, at)
        result += piece
    return result


def _glob_piece(pattern: str, at: int) -> tuple[str, int]:
    char = pattern[at]
    if char == "*":
        return "[^/]*", at + 1
    if char == "?":
        return "[^/]", at + 1
    if char == "\\":
        if at + 1 == len(pattern):
            raise InvalidArgument(f"syntax error in pattern '{pattern}'")
        return re.escape(pattern[at + 1]), at + 2
    if char == "[":
        return _character_class(pattern, at)
    return re.escape(char), at + 1


def _character_class(pattern: str, at: int) -> tuple[str, int]:
    end = at + 1
    negated = pattern.startswith("^", end)
    end += negated
    body = ""
    while end < len(pattern) and (pattern[end] != "]" or not body):
        if pattern[end] == "\\" and end + 1 < len(pattern):
            body += re.escape(pattern[end + 1])
            end += 2
            continue
        body += pattern[end] if pattern[end] == "-" else re.escape(pattern[end])
        end += 1
    if end >= len(pattern):
        raise InvalidArgument(f"syntax error in pattern '{pattern}': a ] was expected")
    return f"[{'^/' if negated else ''}{body}]", end + 1
