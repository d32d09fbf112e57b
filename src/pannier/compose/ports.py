"""Published ports in the short form: ``[[HOST_IP:]PUBLISHED:]TARGET[/PROTOCOL]``, with ranges."""

from __future__ import annotations

import ipaddress
import re
from typing import cast

from pannier.base.errors import InvalidArgument
from pannier.compose.convert import Reader, integer, text
from pannier.compose.model import Port
from pannier.compose.source import ComposeError, Map, Seq

_SHORT = re.compile(
    r"(?:(?P<ip>\[[0-9a-fA-F:.]+\]|[0-9]+(?:\.[0-9]+)+|[0-9a-fA-F]*:[0-9a-fA-F:.]+):)?"
    r"(?:(?P<published>\d*(?:-\d+)?):)?(?P<target>\d+(?:-\d+)?)(?:/(?P<protocol>[a-z]+))?"
)
_HIGHEST = 65535


def read_ports(reader: Reader, key: str) -> list[Port]:
    """All published ports of a service."""
    result: list[Port] = []
    items = reader.get(key)
    for index, item in enumerate(items if isinstance(items, Seq) else ()):
        try:
            if isinstance(item, Map):
                result.append(_long(Reader(item, f"{reader.path}.{key}.{index}")))
            else:
                result += parse_port(text(item))
        except ComposeError:
            raise
        except InvalidArgument as error:
            path = f"{reader.path}.{key}.{index}"
            raise ComposeError(items.place(index), path, error.message, hint=error.hint) from error
    return result


def parse_port(spec: str) -> list[Port]:
    """The ports of one short form; a range gives several.

    Raises:
        InvalidArgument: no such form, a port outside 1..65535, or ranges of different length.
    """
    match = _SHORT.fullmatch(spec)
    if not match:
        raise InvalidArgument(
            f"'{spec}' is not a port", hint="write 80, 8080:80 or 127.0.0.1:8080:80/tcp"
        )
    targets = _range(match["target"])
    published = _range(match["published"]) if match["published"] else []
    pairs: list[tuple[int, str]]
    if len(targets) == 1 and len(published) > 1:
        pairs = [(targets[0], cast(str, match["published"]))]  # the engine takes a free one of them
    elif published and len(published) != len(targets):
        raise InvalidArgument(f"'{spec}': the two ranges have different lengths")
    else:
        hosts = [str(port) for port in published] or [""] * len(targets)
        pairs = list(zip(targets, hosts, strict=True))
    address = _address(match["ip"])
    protocol = match["protocol"] or "tcp"
    return [
        Port(target=target, published=host, protocol=protocol, host_ip=address)
        for target, host in pairs
    ]


def _long(reader: Reader) -> Port:
    if not reader.has("target"):
        raise reader.error("", "the key 'target' is missing")
    target = integer(reader.get("target"))
    _range(str(target))
    published = reader.text("published")
    if published:
        _range(published)
    return Port(
        target=target,
        published=published,
        protocol=reader.text("protocol", "tcp"),
        host_ip=_address(reader.text("host_ip")),
    )


def _range(spec: str) -> list[int]:
    first, _, last = spec.partition("-")
    if not first.isdigit() or (last and not last.isdigit()):
        raise InvalidArgument(f"'{spec}' is not a port")
    low, high = int(first), int(last or first)
    if not 0 < low <= high <= _HIGHEST:
        raise InvalidArgument(f"'{spec}' is not a port: ports go from 1 to {_HIGHEST}")
    return list(range(low, high + 1))


def _address(spec: str | None) -> str:
    if not spec:
        return ""
    try:
        return str(ipaddress.ip_address(spec.strip("[]")))
    except ValueError:
        raise InvalidArgument(f"'{spec}' is not an IP address") from None
