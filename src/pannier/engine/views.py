"""Containers as clients see them: list line, ``inspect``, filters. Pure functions over records."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pannier.base.errors import InvalidArgument
from pannier.base.ids import short
from pannier.base.units import format_age, parse_time, rfc3339
from pannier.engine.kinds.base import merge_env
from pannier.engine.model import Container, Health, MountPoint, Record, State
from pannier.wire import states
from pannier.wire.codec import to_plain
from pannier.wire.containers import EndpointSettings, PortBinding
from pannier.wire.filters import labels_pass

Networks = Mapping[str, EndpointSettings]


def summary(
    container: Container, networks: Networks, *, sizes: tuple[int, int] | None = None
) -> states.ContainerSummary:
    """One line of ``ps``.

    Args:
        networks: live facts of each endpoint.
        sizes: bytes of upper and of the whole root file system, when asked for.
    """
    record = container.record
    return states.ContainerSummary(
        id=record.id,
        names=[f"/{record.name}"],
        image=record.root.image_ref,
        image_id=record.root.image_id,
        command=" ".join(record.argv),
        created=record.created_ns // 10**9,
        ports=ports(container),
        labels=record.config.labels,
        state=record.state.status,
        status=status_text(record.state),
        host_config={"NetworkMode": network_mode(container), "Runtime": record.kind},
        network_settings=states.NetworkSummary(networks=dict(networks)),
        mounts=[mount_view(point) for point in record.mounts if point.type != "tmpfs"],
        size_rw=sizes[0] if sizes else None,
        size_root_fs=sizes[1] if sizes else None,
    )


def status_text(state: State) -> str:
    """``Up 3 minutes (healthy)``, ``Exited (0) 2 hours ago`` and so on, as ``docker ps``."""
    now = time.time_ns()
    match state.status:
        case "created":
            return "Created"
        case "running" | "paused":
            text = f"Up {format_age((now - state.started_ns) / 1e9)}"
            if state.status == "paused":
                return f"{text} (Paused)"
            return f"{text} ({_health_word(state.health)})" if state.health else text
        case "restarting":
            ago = format_age((now - state.finished_ns) / 1e9)
            return f"Restarting ({state.exit_code}) {ago} ago"
        case _:
            ago = format_age((now - state.finished_ns) / 1e9)
            return f"Exited ({state.exit_code}) {ago} ago"


def _health_word(health: Health) -> str:
    return "health: starting" if health.status == "starting" else health.status


def network_mode(container: Container) -> str:
    mode = container.host_config.network_mode
    return "bridge" if mode in {"", "default"} else mode


def ports(container: Container) -> list[states.Port]:
    """Published ports while it runs, and exposed ones that are not published."""
    if not container.running:
        return []
    published = container.record.published
    result = []
    for key in [*published, *(k for k in container.config.exposed_ports if k not in published)]:
        number, _, protocol = key.partition("/")
        for binding in published.get(key) or [PortBinding()]:
            port = states.Port(
                ip=binding.host_ip,
                private_port=int(number),
                public_port=int(binding.host_port or 0),
                type=protocol or "tcp",
            )
            result.append(port)
    return result


def mount_view(point: MountPoint) -> states.MountPoint:
    return states.MountPoint(
        type=point.type,
        name=point.name,
        source=point.source,
        destination=point.destination,
        driver="local" if point.type == "volume" else "",
        mode="" if point.writable else "ro",
        rw=point.writable,
        propagation=point.propagation,
    )


def _effective(record: Record) -> dict[str, Any]:
    """The caller's process settings over the image's.

    Docker merges them once, at create; here a rollback may change the image below a container.
    """
    config, image = record.config, record.root.defaults
    cmd = image.cmd if config.cmd is None and config.entrypoint is None else config.cmd
    return {
        "Env": merge_env(image.env or [], config.env),
        "Entrypoint": image.entrypoint if config.entrypoint is None else config.entrypoint,
        "Cmd": cmd,
        "WorkingDir": config.working_dir or image.working_dir or "",
        "User": config.user or image.user or "",
        "Volumes": {**(image.volumes or {}), **config.volumes},
    }


def inspect(container: Container, networks: Networks, directory: Path) -> dict[str, Any]:
    """``docker inspect``'s document, with pannier's own facts under ``Pannier``."""
    record = container.record
    argv = record.argv or [""]
    config = to_plain(record.config) | _effective(record)
    config["Image"] = record.root.image_ref
    config["Hostname"] = record.hostname
    host = to_plain(record.host_config)
    host["Runtime"] = record.kind
    host["NetworkMode"] = network_mode(container)
    # docker-py reads no output of a container whose driver has no name it knows
    host["LogConfig"]["Type"] = record.host_config.log_config.type or "json-file"
    return {
        "Id": record.id,
        "Created": rfc3339(record.created_ns),
        "Path": argv[0],
        "Args": argv[1:],
        "State": _state(record.state),
        "Image": record.root.image_id,
        "ResolvConfPath": str(directory / "resolv.conf"),
        "HostnamePath": str(directory / "hostname"),
        "HostsPath": str(directory / "hosts"),
        "LogPath": str(directory / "container.log"),
        "Name": f"/{record.name}",
        "RestartCount": record.state.restart_count,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": host,
        "GraphDriver": {"Name": "overlay2", "Data": None},
        "Mounts": [to_plain(mount_view(point)) for point in record.mounts],
        "Config": config,
        "NetworkSettings": _network_settings(container, networks),
        "Pannier": _own_facts(container),
    }


def _own_facts(container: Container) -> dict[str, Any]:
    record = container.record
    return {
        "Kind": record.kind,
        "UserNamespace": "host" if not record.id_base else "own",
        "FirstHostId": record.id_base,
        "Layers": list(record.root.layers),
        "Previous": [root.image_ref for root in record.previous],
    }


def _state(state: State) -> dict[str, Any]:
    view: dict[str, Any] = {
        "Status": state.status,
        "Running": state.status in {"running", "paused"},
        "Paused": state.status == "paused",
        "Restarting": state.status == "restarting",
        "OOMKilled": state.oom_killed,
        "Dead": state.status == "dead",
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": rfc3339(state.started_ns),
        "FinishedAt": rfc3339(state.finished_ns),
    }
    if state.health:
        view["Health"] = {
            "Status": state.health.status,
            "FailingStreak": state.health.failing_streak,
            "Log": [
                {
                    "Start": rfc3339(probe.start_ns),
                    "End": rfc3339(probe.end_ns),
                    "ExitCode": probe.exit_code,
                    "Output": probe.output,
                }
                for probe in state.health.log
            ],
        }
    return view


def _network_settings(container: Container, networks: Networks) -> dict[str, Any]:
    first = next(iter(networks.values()), EndpointSettings())
    bindings: dict[str, Any] = {
        key: [to_plain(binding) for binding in where]
        for key, where in container.record.published.items()
    }
    for key in container.config.exposed_ports if container.running else ():
        bindings.setdefault(key, None)
    return {
        "Bridge": "",
        "SandboxID": container.id,
        "SandboxKey": f"/proc/{container.state.pid}/ns/net" if container.state.pid else "",
        "Ports": bindings,
        "EndpointID": first.endpoint_id,
        "Gateway": first.gateway,
        "IPAddress": first.ip_address,
        "IPPrefixLen": first.ip_prefix_len,
        "MacAddress": first.mac_address,
        "Networks": {name: to_plain(settings) for name, settings in networks.items()},
    }


def matches(container: Container, filters: Mapping[str, list[str]]) -> bool:
    """Whether ``ps --filter`` keeps this container; all keys must match, any value of each.

    Raises:
        InvalidArgument: an unknown filter.
    """
    for key, values in filters.items():
        if key in {"label", "label!"}:
            kept = labels_pass({key: values}, container.labels)
        elif key == "until":
            kept = container.record.created_ns < min(parse_time(value) for value in values)
        elif key in {"id", "name"}:
            facts = _FACTS[key](container)
            kept = any(value.removeprefix("/") in fact for value in values for fact in facts)
        elif key in _FACTS:
            kept = bool(set(values) & _FACTS[key](container))
        else:
            raise InvalidArgument(f"invalid filter '{key}'")
        if not kept:
            return False
    return True


def _ancestors(container: Container) -> set[str]:
    root = container.record.root
    bare = root.image_ref.removesuffix(":latest")
    return {root.image_ref, bare, root.image_id, short(root.image_id)}


def _port_numbers(container: Container) -> set[str]:
    numbers = {str(port.public_port or port.private_port) for port in ports(container)}
    return numbers | {f"{number}/tcp" for number in numbers}


def _exit_codes(container: Container) -> set[str]:
    state = container.state
    return {str(state.exit_code)} if state.status == "exited" else set()


_FACTS: dict[str, Callable[[Container], set[str]]] = {
    "id": lambda c: {c.id},
    "name": lambda c: {c.name},
    "status": lambda c: {c.state.status},
    "ancestor": _ancestors,
    "exited": _exit_codes,
    "network": lambda c: {*c.record.networks, network_mode(c)},
    "volume": lambda c: {x for p in c.record.mounts for x in (p.name, p.destination)},
    "health": lambda c: {c.state.health.status if c.state.health else "none"},
    "kind": lambda c: {c.kind},
    "publish": _port_numbers,
    "expose": _port_numbers,
    "is-task": lambda _: {"false"},
}
