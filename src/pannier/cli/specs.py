"""Docker's little languages for ports, volumes, mounts and devices -> the API's objects."""

from __future__ import annotations

import os

from pannier.base.errors import InvalidArgument
from pannier.base.units import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Body: TypeAlias = dict[str, Any]

_PROTOCOLS = {"tcp", "udp", "sctp"}
_LAST_PORT = 65535
_TRUE = {"", "1", "true"}
_BIND_RECURSION: dict[str, Body] = {
    "enabled": {},
    "disabled": {"NonRecursive": True},
    "writable": {"ReadOnlyNonRecursive": True},
    "readonly": {"ReadOnlyForceRecursive": True},
}


def ports(specs: list[str]) -> tuple[Body, Body]:
    """``[IP:][HOST:]PORT[/PROTOCOL]``, with ranges -> ExposedPorts and PortBindings.

    Raises:
        InvalidArgument: with Docker's wording.
    """
    exposed: Body = {}
    bindings: Body = {}
    for spec in specs:
        address, host, inside, protocol = _split_port(spec)
        first, last = _range(inside, "containerPort")
        host_ports = _host_ports(host, last - first + 1)
        for offset, host_port in enumerate(host_ports):
            key = f"{first + offset}/{protocol}"
            exposed[key] = {}
            bindings.setdefault(key, []).append({"HostIp": address, "HostPort": host_port})
    return exposed, bindings


def _split_port(spec: str) -> tuple[str, str, str, str]:
    rest, _, protocol = spec.partition("/")
    protocol = (protocol or "tcp").lower()
    if protocol not in _PROTOCOLS:
        raise InvalidArgument(f"Invalid proto: {protocol}", hint="tcp, udp or sctp")
    if rest.startswith("["):
        address, _, rest = rest[1:].partition("]:")
        host, _, inside = rest.rpartition(":")
        return _address(address), host, inside, protocol
    parts = rest.rsplit(":", 2)
    if len(parts) == 3:
        return _address(parts[0]), parts[1], parts[2], protocol
    return "", parts[0] if len(parts) == 2 else "", parts[-1], protocol


def _address(text: str) -> str:
    import _socket  # noqa: PLC0415 - only with an address

    if not text:
        return ""
    family = _socket.AF_INET6 if ":" in text else _socket.AF_INET
    try:
        _socket.inet_pton(family, text)
    except OSError:
        raise InvalidArgument(f"invalid IP address: {text}") from None
    return text


def _host_ports(host: str, count: int) -> list[str]:
    if not host:
        return [""] * count
    first, last = _range(host, "hostPort")
    if last - first + 1 == count:
        return [str(port) for port in range(first, last + 1)]
    if count == 1:
        return [host]  # the engine takes a free one out of the range
    raise InvalidArgument(f"Invalid ranges specified for container and host Ports: {host}")


def _range(text: str, what: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    try:
        start = int(first)
        end = int(last) if dash else start
    except ValueError:
        start, end = 0, -1
    if not (0 < start <= end <= _LAST_PORT):
        raise InvalidArgument(
            f"Invalid {what}: {text}", hint="write -p 8080:80, or -p 127.0.0.1:8080:80"
        )
    return start, end


def exposed_ports(specs: list[str]) -> Body:
    """``80``, ``80/udp`` and ``8000-8010`` of --expose."""
    out: Body = {}
    for spec in specs:
        _, _, inside, protocol = _split_port(spec)
        first, last = _range(inside, "containerPort")
        for port in range(first, last + 1):
            out[f"{port}/{protocol}"] = {}
    return out


def volumes(specs: list[str]) -> tuple[list[str], Body]:
    """``[SOURCE:]PATH[:OPTIONS]`` -> Binds and (for paths alone) Volumes."""
    binds: list[str] = []
    anonymous: Body = {}
    for spec in specs:
        parts = spec.split(":")
        if len(parts) > 3 or not all(parts):
            raise InvalidArgument(
                f"invalid volume specification: '{spec}'",
                hint="write NAME:/path, /host/path:/path or /host/path:/path:ro",
            )
        target = parts[1] if len(parts) > 1 else parts[0]
        if not target.startswith("/"):
            raise InvalidArgument(
                f"invalid volume specification: '{spec}': "
                f"invalid mount config for type \"volume\": mount path '{target}' must be absolute"
            )
        if len(parts) == 1:
            anonymous[target] = {}
            continue
        if parts[0].startswith("."):
            parts[0] = os.path.abspath(parts[0])
        binds.append(":".join(parts))
    return binds, anonymous


def mount(spec: str) -> Body:
    """``type=bind,source=/a,target=/b,readonly`` -> a Mount object (docker run --mount)."""
    out: Body = {"Type": "volume"}
    options: dict[str, Body] = {"bind": {}, "volume": {}, "tmpfs": {}}
    for item in spec.split(","):
        key, _, value = item.strip().partition("=")
        if not _common_key(out, key.lower(), value):
            _type_key(options, key.lower(), value, spec)
    if not out.get("Target"):
        raise InvalidArgument(f"invalid mount '{spec}': target is required")
    kind = out["Type"]
    if kind == "bind" and out.get("Source", "").startswith("."):
        out["Source"] = os.path.abspath(out["Source"])
    for name, values in options.items():
        if values and name != kind:
            raise InvalidArgument(f"cannot mix '{name}-*' options with mount type '{kind}'")
        if values:
            out[name.capitalize() + "Options"] = values
    return out


def _common_key(out: Body, key: str, value: str) -> bool:
    if key == "type":
        out["Type"] = value.lower()
    elif key in {"source", "src"}:
        out["Source"] = value
    elif key in {"target", "dst", "destination"}:
        out["Target"] = value
    elif key in {"readonly", "ro"}:
        out["ReadOnly"] = value.lower() in _TRUE
    elif key == "consistency":
        out["Consistency"] = value
    else:
        return False
    return True


def _type_key(options: dict[str, Body], key: str, value: str, spec: str) -> None:
    bind, volume, tmpfs = options["bind"], options["volume"], options["tmpfs"]
    if key == "bind-propagation":
        bind["Propagation"] = value
    elif key == "bind-recursive" and value in _BIND_RECURSION:
        bind.update(_BIND_RECURSION[value])
    elif key == "volume-nocopy":
        volume["NoCopy"] = value.lower() in _TRUE
    elif key == "volume-subpath":
        volume["Subpath"] = value
    elif key == "volume-label":
        name, _, text = value.partition("=")
        volume.setdefault("Labels", {})[name] = text
    elif key == "tmpfs-size":
        tmpfs["SizeBytes"] = parse_size(value)
    elif key == "tmpfs-mode":
        tmpfs["Mode"] = int(value, 8)
    else:
        raise InvalidArgument(f"unexpected key '{key}' in '{spec}'")


def device(spec: str) -> Body:
    """``/dev/x[:/dev/y][:rwm]``."""
    parts = spec.split(":")
    permissions = "rwm"
    if len(parts) > 1 and parts[-1] and set(parts[-1]) <= set("rwm"):
        permissions = parts.pop()
    source, target = parts[0], parts[-1]
    if len(parts) > 2 or not source.startswith("/"):
        raise InvalidArgument(f"invalid device specification: {spec}", hint="/dev/x:/dev/y:rwm")
    return {
        "PathOnHost": source, "PathInContainer": target, "CgroupPermissions": permissions,
    }  # fmt: skip


def throttle(spec: str, *, size: bool) -> Body:
    """``/dev/sda:10mb`` or ``/dev/sda:1000``."""
    path, _, rate = spec.rpartition(":")
    if not path.startswith("/"):
        raise InvalidArgument(f"bad format for device path: {spec}")
    return {"Path": path, "Rate": parse_size(rate) if size else int(rate)}
