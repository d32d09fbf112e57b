"""Where this host gets its packages: apt's own source lists, read as data.

One-line lists and deb822 files (sources.list(5)). Which of them fit a release is decided in
``releases``; fetching and checking signatures is apt's work.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_ROOT = Path("/etc/apt")
# apt takes no other file names (apt.conf(5): letters, digits, "_", "-", ".").
_FILE_NAME = re.compile(r"[A-Za-z0-9_.-]+\.(list|sources)")
_ONE_LINE = re.compile(r"deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)((?:\s+\S+)*)\s*")


@dataclass(frozen=True, slots=True)
class Source:
    """One archive: binary packages of one suite at one address."""

    uri: str
    suite: str
    components: tuple[str, ...]


def read_sources(root: Path = _ROOT) -> list[Source]:
    """All enabled binary sources in the order of their files.

    Args:
        root: apt's configuration directory.

    A source whose address carries a user name is left out: it would end up in images.
    """
    files = [root / "sources.list"]
    parts = root / "sources.list.d"
    if parts.is_dir():
        files += sorted(path for path in parts.iterdir() if _FILE_NAME.fullmatch(path.name))
    found: list[Source] = []
    for path in files:
        if path.is_file():
            text = path.read_text(errors="replace")
            parse = parse_deb822 if path.suffix == ".sources" else parse_one_line
            found.extend(source for source in parse(text) if not urlsplit(source.uri).username)
    return found


def parse_one_line(text: str) -> Iterator[Source]:
    """Sources of a file of lines ``deb [options] uri suite component...``."""
    for line in text.splitlines():
        match = _ONE_LINE.fullmatch(line.partition("#")[0].strip())
        if match:
            yield Source(match[1], match[2], tuple(match[3].split()))


def parse_deb822(text: str) -> Iterator[Source]:
    """Sources of a file of stanzas."""
    for stanza in _stanzas(text.splitlines()):
        if stanza.get("enabled", "yes").lower() in ("no", "false", "0", "off", "disable"):
            continue
        if "deb" not in stanza.get("types", "").split():
            continue
        components = tuple(stanza.get("components", "").split())
        for uri in stanza.get("uris", "").split():
            for suite in stanza.get("suites", "").split():
                yield Source(uri, suite, components)


def _stanzas(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """Fields by lower-case name; continuation lines are joined, comments dropped."""
    stanza: dict[str, str] = {}
    name = ""
    for line in lines:
        if line.startswith("#"):
            continue
        if not line.strip():
            if stanza:
                yield stanza
            stanza, name = {}, ""
        elif line[0] in " \t":
            if name:
                stanza[name] += "\n" + line.strip()
        else:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            stanza[name] = value.strip()
    if stanza:
        yield stanza
