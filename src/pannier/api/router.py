"""Method and path -> handler, for a path without its version.

Written out because the paths defy aiohttp's dispatcher: every one exists with 27 version prefixes
and without, and an image's name contains slashes. Routes are grouped by method and first segment,
so that a look-up tries few patterns.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from aiohttp import web

from pannier.api.call import Call

Handler = Callable[[Call], Awaitable[web.StreamResponse]]
_PARAMETER = re.compile(r"\{(\w+)(\*?)\}")


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the API.

    Args:
        method: upper case.
        path: ``/containers/{id}/json``; a parameter with a star takes slashes too.
        handler: called with the `Call`.
        live: the caller's presence is part of the work (streams, waits): when the connection
            goes, the handler is cancelled. Other changes are completed.
    """

    method: str
    path: str
    handler: Handler
    live: bool = False


class Router:
    """All routes of the application."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._groups: dict[tuple[str, str], list[tuple[re.Pattern[str], Route]]]
        self._groups = defaultdict(list)
        for route in routes:
            self._groups[route.method, _first(route.path)].append((_pattern(route.path), route))

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """The first route declared that matches, with its parameters."""
        for pattern, route in self._groups.get((method, _first(path)), ()):
            if match := pattern.fullmatch(path):
                return route, match.groupdict()
        return None


def _first(path: str) -> str:
    return path.split("/", 2)[1] if path.startswith("/") else ""


def _pattern(path: str) -> re.Pattern[str]:
    parts = _PARAMETER.split(path)
    text = re.escape(parts[0])
    for name, star, literal in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        text += f"(?P<{name}>{'.+' if star else '[^/]+'})" + re.escape(literal)
    return re.compile(text)
