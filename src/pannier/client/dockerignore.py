"""``.dockerignore``: which files of a build context are not sent.

Rules (docs.docker.com, "Dockerignore files"): Go's filepath.Match plus ``**``; a match of a parent
directory counts; lines starting with ``!`` bring files back; the last match wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator


class IgnoreRules:
    """The patterns of one file.

    Args:
        lines: the file's lines.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._rules: list[tuple[re.Pattern[str], bool]] = []
        for line in lines:
            pattern = line.strip()
            if not pattern or pattern.startswith("#"):
                continue
            keep = pattern.startswith("!")
            cleaned = _clean(pattern[1:].strip() if keep else pattern)
            if cleaned:
                self._rules.append((re.compile(_regex(cleaned)), keep))
        self.has_exceptions = any(keep for _, keep in self._rules)

    def ignores(self, path: str) -> bool:
        """Whether *path* (relative, with slashes) is left out."""
        ignored = False
        candidates = list(_with_parents(path))
        for pattern, keep in self._rules:
            if keep == ignored and any(pattern.fullmatch(each) for each in candidates):
                ignored = not keep
        return ignored


def _with_parents(path: str) -> Iterator[str]:
    yield path
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _clean(pattern: str) -> str:
    """Without a leading slash, ``.`` and ``..`` (as filepath.Clean)."""
    parts: list[str] = []
    for part in pattern.split("/"):
        if part in {"", "."}:
            continue
        if part == ".." and parts:
            parts.pop()
        elif part != "..":
            parts.append(part)
    return "/".join(parts)


def _regex(pattern: str) -> str:
    out: list[str] = []
    position = 0
    while position < len(pattern):
        if pattern.startswith("**/", position):
            out.append("(?:.*/)?")
            position += 3
        elif pattern.startswith("**", position):
            out.append(".*")
            position += 2
        else:
            text, position = _one(pattern, position)
            out.append(text)
    return "".join(out)


def _one(pattern: str, position: int) -> tuple[str, int]:
    letter = pattern[position]
    if letter == "*":
        return "[^/]*", position + 1
    if letter == "?":
        return "[^/]", position + 1
    if letter == "\\" and position + 1 < len(pattern):
        return re.escape(pattern[position + 1]), position + 2
    if letter == "[":
        end = pattern.find("]", position + 2)
        if end > 0:
            inner = pattern[position + 1 : end].replace("\\", "\\\\")
            if inner.startswith("!"):
                inner = "^" + inner[1:]
            return f"[{inner}]", end + 1
    return re.escape(letter), position + 1
