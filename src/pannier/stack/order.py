"""Which service waits for which: the dependency graph of a project, and its circles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from pannier.base.errors import InvalidArgument
from pannier.compose.model import Project, Service

_Graph: TypeAlias = Mapping[str, list[str]]


def peer_of(service: Service) -> str | None:
    """The service whose network, ipc or pid namespace this one shares."""
    for mode in (service.network_mode, service.ipc, service.pid):
        kind, _, name = mode.partition(":")
        if kind == "service":
            return name
    return None


def needs_of(service: Service) -> list[str]:
    """All services that must be there before this one."""
    peer = peer_of(service)
    return [*service.depends_on, *([peer] if peer and peer not in service.depends_on else [])]


def start_order(project: Project) -> list[str]:
    """The project's services, each after those it needs.

    Raises:
        InvalidArgument: they need each other in a circle, which is named.
    """
    graph = {name: needs_of(service) for name, service in project.services.items()}
    done: list[str] = []
    for name in graph:
        _visit(name, graph, done, [])
    return done


def _visit(name: str, graph: _Graph, done: list[str], above: list[str]) -> None:
    if name in done or name not in graph:
        return
    if name in above:
        circle = " -> ".join([*above[above.index(name) :], name])
        raise InvalidArgument(
            f"dependency cycle detected: {circle}", hint="remove one of these depends_on entries"
        )
    for needed in graph[name]:
        _visit(needed, graph, done, [*above, name])
    done.append(name)


def with_needs(project: Project, names: Iterable[str]) -> set[str]:
    """*names* and everything they need.

    Raises:
        InvalidArgument: a name is no service of the project.
    """
    result: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in project.services:
            raise InvalidArgument(
                f"no such service: {name}", hint=f"there are: {', '.join(project.services)}"
            )
        if name not in result:
            result.add(name)
            waiting += needs_of(project.services[name])
    return result
