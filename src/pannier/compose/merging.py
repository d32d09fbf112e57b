"""Several compose files into one tree, and ``extends`` (compose-spec, 13-merge and 05-services).

Mappings are merged key by key, lists are joined, scalars are replaced.  Values that have a list
and a mapping form are brought to the mapping first; entries with an identity (a port, a mount
target) replace their earlier twin; commands are replaced whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable

from pannier.compose.source import ComposeError, Map, Mark, Reset, Seq, Tree

_TABLES = re.compile(
    r"services\.[^.]+\.(environment|labels|annotations|sysctls|build\.args|build\.labels"
    r"|deploy\.labels)|(networks|volumes|secrets|configs)\.[^.]+\.labels"
)
_NAMED_LISTS = re.compile(r"services\.[^.]+\.(depends_on|networks)")
_REPLACED = re.compile(r"services\.[^.]+\.(command|entrypoint|healthcheck\.test)")
_BUILD = re.compile(r"services\.[^.]+\.build")
_IDENTIFIED = re.compile(r"services\.[^.]+\.(ports|volumes|secrets|configs|devices)")
_SETS = re.compile(
    r"services\.[^.]+\.(cap_add|cap_drop|expose|dns|dns_opt|dns_search|tmpfs|profiles|group_add"
    r"|security_opt|extra_hosts|networks\.[^.]+\.aliases)"
)


def merge(base: Map, over: Map) -> Map:
    """*over* on top of *base*; neither is changed."""
    return _maps(base, over, "")


def _maps(base: Map, over: Map, path: str) -> Map:
    if over.replaces:
        return over
    result = Map(base.mark, ((key, value, base.place(key)) for key, value in base.items()))
    for key, given in over.items():
        here = f"{path}.{key}" if path else key
        if isinstance(given, Reset):
            result.pop(key, None)
            continue
        mark = over.place(key)
        value = given
        if key in result:
            older = _mapped(result[key], here, result.place(key))
            value = _values(older, _mapped(given, here, mark), here)
        result.put(key, value, mark)
    return result


def _values(base: Tree, over: Tree, path: str) -> Tree:
    if _REPLACED.fullmatch(path) or getattr(over, "replaces", False):
        return over
    if isinstance(base, Map) and isinstance(over, Map):
        return _maps(base, over, path)
    if isinstance(base, Seq) and isinstance(over, Seq):
        return _lists(base, over, path)
    return base if over is None else over


def _mapped(value: Tree, path: str, mark: Mark) -> Tree:
    """The mapping form of a value that has one."""
    if isinstance(value, str) and _BUILD.fullmatch(path):
        return Map(mark, [("context", value, mark)])
    if isinstance(value, Seq) and _TABLES.fullmatch(path):
        pairs = ((str(item).partition("="), value.place(n)) for n, item in enumerate(value))
        return Map(value.mark, ((k, v if s else None, mark) for (k, s, v), mark in pairs))
    if isinstance(value, Seq) and _NAMED_LISTS.fullmatch(path):
        return _named(value, path)
    return value


def _named(value: Seq, path: str) -> Map:
    result = Map(value.mark)
    for index, name in enumerate(value):
        mark = value.place(index)
        entry: Tree = None
        if path.endswith(".depends_on"):
            entry = Map(mark, [("condition", "service_started", mark)])
        result.put(str(name), entry, mark)
    return result


def _lists(base: Seq, over: Seq, path: str) -> Seq:
    identity: Callable[[Tree], Hashable] | None = None
    if _IDENTIFIED.fullmatch(path):
        identity = _IDENTITIES[path.rsplit(".", 1)[1]]
    elif _SETS.fullmatch(path):
        identity = str
    items = [(item, base.place(n)) for n, item in enumerate(base)]
    for n, item in enumerate(over):
        if identity:
            key = identity(item)
            items = [(other, mark) for other, mark in items if identity(other) != key]
        items.append((item, over.place(n)))
    return Seq(base.mark, items)


def _port(item: Tree) -> Hashable:
    if isinstance(item, Map):
        keys = ("host_ip", "published", "target", "protocol")
        parts = [str(item.get(key) or "") for key in keys]
        return (*parts[:3], parts[3] or "tcp")
    rest, _, protocol = str(item).partition("/")
    parts = rest.rsplit(":", 2)
    return (*([""] * (3 - len(parts))), *parts, protocol or "tcp")


def _target(item: Tree) -> Hashable:
    if isinstance(item, Map):
        return str(item.get("target") or item.get("source"))
    parts = str(item).split(":")
    return parts[1] if len(parts) > 1 else parts[0]


_IDENTITIES: dict[str, Callable[[Tree], Hashable]] = {
    "ports": _port,
    "volumes": _target,
    "devices": _target,
    "secrets": _target,
    "configs": _target,
}

# What a service does not inherit by ``extends``: these name other services of its own file.
_NOT_INHERITED = ("depends_on", "links", "volumes_from")


def extend_services(tree: Map) -> Map:
    """Fill ``extends`` within one tree.

    Raises:
        ComposeError: the service extended is not there, lies in another file, or extends back.
    """
    services = tree.get("services")
    if not isinstance(services, Map):
        return tree
    done: dict[str, Map] = {}
    for name in services:
        _extended(name, services, done, ())
    filled = Map(services.mark, ((n, done[n], services.place(n)) for n in services))
    result = Map(tree.mark, ((key, value, tree.place(key)) for key, value in tree.items()))
    result.put("services", filled, tree.place("services"))
    return result


def _extended(name: str, services: Map, done: dict[str, Map], above: tuple[str, ...]) -> Map:
    if name in done:
        return done[name]
    service: Map = services[name]
    key, mark = f"services.{name}.extends", service.place("extends")
    if name in above:
        circle = " -> ".join((*above[above.index(name) :], name))
        raise ComposeError(mark, key, f"these services extend each other: {circle}")
    wish = service.get("extends")
    if wish is None:
        done[name] = service
        return service
    source = wish.get("service") if isinstance(wish, Map) else wish
    if isinstance(wish, Map) and wish.get("file"):
        raise ComposeError(
            mark,
            key,
            "extending a service of another file is not supported yet",
            hint="give both files with -f, or copy the service",
        )
    if source not in services:
        raise ComposeError(mark, key, f"there is no service '{source}'")
    base = _extended(str(source), services, done, (*above, name))
    inherited = Map(
        base.mark,
        ((k, v, base.place(k)) for k, v in base.items() if k not in _NOT_INHERITED),
    )
    own = Map(
        service.mark,
        ((k, v, service.place(k)) for k, v in service.items() if k != "extends"),
    )
    merged = _maps(inherited, own, f"services.{name}")
    done[name] = merged
    return merged
