"""The engine itself: ping, version, info, events, disk usage, and what pannier has no part in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from aiohttp import web

from pannier.api.backend import Event, Events, System
from pannier.api.call import JSON, Call
from pannier.api.router import Route
from pannier.base.errors import Unavailable, Unsupported
from pannier.wire import codec
from pannier.wire.filters import match_labels
from pannier.wire.system import Actor, EventMessage

_EVENT_FILTERS = frozenset(
    {
        "config", "container", "daemon", "event", "id", "image", "label", "network", "node",
        "plugin", "scope", "secret", "service", "type", "volume",
    }
)  # fmt: skip
_SWARM = ("swarm", "nodes", "services", "tasks", "secrets", "configs")
_NO_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect '
    "this node to swarm and try again."
)
# What Docker's clients look for in /info and what is the same for every pannier.
_INFO: dict[str, Any] = {
    "Plugins": {
        "Volume": ["local"],
        "Network": ["bridge", "host", "none"],
        "Authorization": None,
        "Log": ["json-file"],
    },
    "OSType": "linux",
    "IndexServerAddress": "",
    "RegistryConfig": {"IndexConfigs": {}, "InsecureRegistryCIDRs": [], "Mirrors": []},
    "DefaultRuntime": "app",
    "Runtimes": {"app": {"path": "pannier"}, "os": {"path": "pannier"}},
    "Swarm": {
        "NodeID": "",
        "NodeAddr": "",
        "LocalNodeState": "inactive",
        "ControlAvailable": False,
        "Error": "",
        "RemoteManagers": None,
    },
    "LiveRestoreEnabled": True,
    "ExperimentalBuild": False,
    "Labels": [],
    "Warnings": [],
}


def routes(system: System, events: Events) -> Iterable[Route]:
    handlers = _System(system, events)
    yield Route("POST", "/pannier/shutdown", handlers.shutdown)
    yield Route("GET", "/_ping", handlers.ping)
    yield Route("HEAD", "/_ping", handlers.ping)
    yield Route("GET", "/version", handlers.version)
    yield Route("GET", "/info", handlers.info)
    yield Route("GET", "/events", handlers.events)
    yield Route("GET", "/system/df", handlers.disk_usage)
    yield Route("POST", "/auth", handlers.auth)
    yield Route("GET", "/plugins", handlers.plugins)
    yield Route("GET", "/plugins/{rest*}", handlers.no_plugins)
    yield Route("POST", "/plugins/{rest*}", handlers.no_plugins)
    for method in ("GET", "POST", "DELETE"):
        for word in _SWARM:
            yield Route(method, f"/{word}", handlers.no_swarm)
            yield Route(method, f"/{word}/{{rest*}}", handlers.no_swarm)


class _System:
    def __init__(self, system: System, events: Events) -> None:
        self._system = system
        self._events = events

    async def shutdown(self, call: Call) -> web.StreamResponse:
        await self._system.shutdown(force=call.flag("force"))
        return call.empty(204)

    async def ping(self, call: Call) -> web.StreamResponse:
        """Builder-Version 1 makes Docker's CLI use the classic builder; 2 would be BuildKit."""
        headers = call.headers("text/plain; charset=utf-8") | {
            "Builder-Version": "1",
            "Swarm": "inactive",
            "Cache-Control": "no-cache, no-store, must-revalidate",
            "Pragma": "no-cache",
        }
        return web.Response(body=b"" if call.request.method == "HEAD" else b"OK", headers=headers)

    async def version(self, call: Call) -> web.StreamResponse:
        return call.json(self._system.version())

    async def info(self, call: Call) -> web.StreamResponse:
        return call.json(_INFO | dict(await self._system.info()))

    async def disk_usage(self, call: Call) -> web.StreamResponse:
        return call.json(await self._system.disk_usage())

    async def events(self, call: Call) -> web.StreamResponse:
        filters = call.filters(_EVENT_FILTERS)
        events = self._events.subscribe(call.time_ns("since"), call.time_ns("until"))
        response = await call.open(JSON)
        async for line in _lines(events, filters):
            await response.write(line)
        return response

    async def auth(self, call: Call) -> web.StreamResponse:
        raise Unsupported(
            "logging in to a registry is not supported",
            hint="credentials are taken from each pull request",
        )

    async def plugins(self, call: Call) -> web.StreamResponse:
        return call.json([])

    async def no_plugins(self, call: Call) -> web.StreamResponse:
        raise Unsupported("plugins are not supported")

    async def no_swarm(self, call: Call) -> web.StreamResponse:
        raise Unavailable(_NO_SWARM)


async def _lines(
    events: AsyncIterator[Event], filters: Mapping[str, list[str]]
) -> AsyncIterator[bytes]:
    async for event in events:
        if matches(event, filters):
            yield codec.encode(message_of(event)) + b"\n"


def message_of(event: Event) -> EventMessage:
    """An event in Docker's form; containers and images also in the old one."""
    old = event.type in ("container", "image")
    return EventMessage(
        type=event.type,
        action=event.action,
        actor=Actor(event.actor, dict(event.attributes)),
        scope="local",
        time=event.time_ns // 10**9,
        time_nano=event.time_ns,
        status=event.action if old else "",
        id=event.actor if old else "",
        from_=event.attributes.get("image", "") if event.type == "container" else "",
    )


def matches(event: Event, filters: Mapping[str, list[str]]) -> bool:
    """Whether an event passes: every filter given must agree, one of its values suffices."""
    return all(_passes(event, key, values) for key, values in filters.items() if values)


def _passes(event: Event, key: str, values: list[str]) -> bool:
    match key:
        case "type":
            return event.type in values
        case "event":
            return event.action in values or event.action.partition(":")[0] in values
        case "label":
            return match_labels(values, event.attributes)
        case "scope":
            return "local" in values
        case "id":
            return event.actor in values
        case "image":
            names = {event.attributes.get("image", ""), event.attributes.get("name", "")}
            return _names_image(event, names, values)
        case _:
            return event.type == key and _names_actor(event, values)


def _names_image(event: Event, names: set[str], values: list[str]) -> bool:
    """A container's events carry its image; a name without a tag means any tag."""
    if event.type == "image":
        names.add(event.actor)
    names |= {name.rpartition(":")[0] for name in names}
    return any(value in names for value in values)


def _names_actor(event: Event, values: list[str]) -> bool:
    name = event.attributes.get("name", "")
    return any(value == name or event.actor.startswith(value) for value in values)
