"""A Dockerfile's text into logical lines: directives, comments, continuations, here-documents.

What the lines mean belongs to `parser`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pannier.build.errors import DockerfileError
from pannier.build.model import Heredoc
from pannier.build.words import split_words

_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*")
_KNOWN_DIRECTIVES = ("escape", "syntax", "check")
_HEREDOC = re.compile(r"\d*<<(-?)(['\"]?)([^<'\"\s]+)\2")
_TAKES_HEREDOC = ("RUN", "COPY", "ADD")


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """One instruction before it is read.

    Args:
        number: its first line, counted from 1.
        text: continuation lines joined, without surrounding blanks.
        heredocs: what follows it, with the raw lines of all of them in ``raw_heredocs``.
        raw_heredocs: as written, end words included; a shell reads these.
    """

    number: int
    text: str
    heredocs: tuple[Heredoc, ...] = ()
    raw_heredocs: str = ""


def read_lines(source: str, file: str) -> tuple[str, list[LogicalLine]]:
    """
    Returns:
        The escape character and the instructions' lines.

    Raises:
        DockerfileError: a malformed directive or a here-document without end.
    """
    lines = re.split(r"\r?\n", source.removeprefix("\ufeff"))
    escape, start = _directives(lines, file)
    reader = _Reader(lines, start, escape, file)
    return escape, reader.read()


def _directives(lines: list[str], file: str) -> tuple[str, int]:
    """Directives stand before everything else; the first other line ends them."""
    seen: dict[str, str] = {}
    for index, line in enumerate(lines):
        match = _DIRECTIVE.fullmatch(line.strip())
        name = match[1].lower() if match else ""
        if match is None or name not in _KNOWN_DIRECTIVES:
            return seen.get("escape", "\\"), index
        if name in seen:
            raise DockerfileError(file, index + 1, f"only one {name} parser directive can be used")
        if name == "escape" and match[2] not in ("\\", "`"):
            problem = f"invalid escape token '{match[2]}': expected \\ or `"
            raise DockerfileError(file, index + 1, problem)
        seen[name] = match[2]
    return seen.get("escape", "\\"), len(lines)


class _Reader:
    def __init__(self, lines: list[str], start: int, escape: str, file: str) -> None:
        self._lines = lines
        self._at = start
        self._escape = escape
        self._file = file
        token = re.escape(escape)
        # A doubled escape character at the end of a line is a literal one.
        self._continued = re.compile(rf"(^|[^{token}]){token}[ \t]*$")

    def read(self) -> list[LogicalLine]:
        result = []
        while self._at < len(self._lines):
            number = self._at + 1
            line = self._lines[self._at]
            self._at += 1
            if _is_comment(line) or not line.strip():
                continue
            text = self._joined(line.lstrip())
            if text:
                result.append(self._with_heredocs(number, text))
        return result

    def _joined(self, line: str) -> str:
        """Append continuation lines; comments and empty lines between them do not count."""
        text = ""
        while True:
            match = self._continued.search(line)
            if not match:
                return (text + line).strip()
            text += line[: match.start()] + match[1]
            while self._at < len(self._lines) and _is_skipped(self._lines[self._at]):
                self._at += 1
            if self._at >= len(self._lines):
                return text.strip()
            line = self._lines[self._at]
            self._at += 1

    def _with_heredocs(self, number: int, text: str) -> LogicalLine:
        if "<<" not in text or text.split(None, 1)[0].upper() not in _TAKES_HEREDOC:
            return LogicalLine(number, text)
        openings = [m for m in map(_HEREDOC.fullmatch, split_words(text, self._escape)) if m]
        heredocs = []
        first = self._at
        for opening in openings:
            content = self._heredoc(number, opening[3], strip_tabs=bool(opening[1]))
            heredocs.append(Heredoc(opening[3], content, expand=not opening[2]))
        raw = "".join(line + "\n" for line in self._lines[first : self._at])
        return LogicalLine(number, text, tuple(heredocs), raw)

    def _heredoc(self, number: int, name: str, *, strip_tabs: bool) -> str:
        content = ""
        while self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            if strip_tabs:
                line = line.lstrip("\t")
            if line == name:
                return content
            content += line + "\n"
        problem = f"unterminated heredoc: a line with only '{name}' was expected"
        raise DockerfileError(self._file, number, problem)


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _is_skipped(line: str) -> bool:
    return _is_comment(line) or not line.strip()
