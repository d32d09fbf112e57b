"""Looking at containers: ps, port, top, diff."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from pannier.base.errors import NotFound
from pannier.base.ids import short
from pannier.base.units import format_age, format_size
from pannier.cli.command import Command
from pannier.cli.flags import Flags
from pannier.cli.session import Session
from pannier.cli.tables import Listing, align, parse_filters

Json = dict[str, Any]
_COMMAND_WIDTH = 20
_CHANGES = "CAD"  # kind 0 changed, 1 added, 2 deleted


Fields = dict[str, tuple[str, Callable[[Any], Any]]]


def container_listing(*, full: bool = False) -> Listing:
    """Containers in Docker's columns."""
    columns = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
    return Listing(container_fields(full=full), columns)


def container_fields(*, full: bool = False) -> Fields:
    """Fields of one container, as `docker ps --format` names them, and Kind."""

    def command(item: Json) -> str:
        text = str(item.get("Command", ""))
        if not full and len(text) > _COMMAND_WIDTH:
            text = text[: _COMMAND_WIDTH - 1] + "…"
        return f'"{text}"'

    return {
        "ID": ("CONTAINER ID", lambda c: c["Id"] if full else short(c["Id"])),
        "Image": ("IMAGE", lambda c: _image(c, full=full)),
        "Command": ("COMMAND", command),
        "CreatedAt": ("CREATED AT", lambda c: _local_time(c.get("Created", 0))),
        "RunningFor": ("CREATED", lambda c: _age(c.get("Created", 0))),
        "Status": ("STATUS", lambda c: c.get("Status", "")),
        "State": ("STATE", lambda c: c.get("State", "")),
        "Ports": ("PORTS", lambda c: ports_text(c.get("Ports") or [])),
        "Names": ("NAMES", lambda c: ",".join(n.removeprefix("/") for n in c["Names"])),
        "Kind": ("KIND", lambda c: (c.get("HostConfig") or {}).get("Runtime", "")),
        "Size": ("SIZE", _size),
        "Labels": ("LABELS", lambda c: _joined(c.get("Labels"))),
        "Mounts": ("MOUNTS", lambda c: _mounts(c, full=full)),
        "LocalVolumes": ("LOCAL VOLUMES", lambda c: str(len(_volumes(c)))),
        "Networks": ("NETWORKS", lambda c: ",".join(_networks(c))),
    }


def _image(item: Json, *, full: bool) -> str:
    name = str(item.get("Image") or "<no image>")
    if name.startswith("sha256:") and not full:
        return short(name)
    return name


def _age(created: int) -> str:
    return format_age(time.time() - created) + " ago"


def _local_time(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(seconds))


def _size(item: Json) -> str:
    text = format_size(item.get("SizeRw") or 0)
    root = item.get("SizeRootFs") or 0
    return f"{text} (virtual {format_size(root)})" if root else text


def _joined(labels: dict[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items()))


def _mounts(item: Json, *, full: bool) -> str:
    names = [str(m.get("Name") or m.get("Source") or "") for m in item.get("Mounts") or []]
    return ",".join(n if full or len(n) <= 15 else n[:14] + "…" for n in names)


def _volumes(item: Json) -> list[Json]:
    return [m for m in item.get("Mounts") or [] if m.get("Type") == "volume"]


def _networks(item: Json) -> list[str]:
    return list(((item.get("NetworkSettings") or {}).get("Networks") or {}).keys())


def ports_text(ports: list[Json]) -> str:
    """``0.0.0.0:8080->80/tcp, 443/tcp``; ports in a row are drawn together."""
    groups: dict[tuple[str, str, bool], list[tuple[int, int]]] = {}
    for port in ports:
        public = int(port.get("PublicPort") or 0)
        key = (str(port.get("IP") or ""), str(port.get("Type") or "tcp"), public > 0)
        groups.setdefault(key, []).append((int(port["PrivatePort"]), public))
    texts = []
    for (address, protocol, published), pairs in groups.items():
        for first, last in _runs(sorted(set(pairs))):
            inside = _span(first[0], last[0])
            if published:
                shown = f"[{address}]" if ":" in address else address
                texts.append(f"{shown}:{_span(first[1], last[1])}->{inside}/{protocol}")
            else:
                texts.append(f"{inside}/{protocol}")
    return ", ".join(sorted(texts, key=lambda text: ("->" not in text, text)))


def _runs(pairs: list[tuple[int, int]]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    runs: list[tuple[tuple[int, int], tuple[int, int]]] = []
    for pair in pairs:
        if runs:
            first, last = runs[-1]
            step = 1 if pair[1] else 0
            if pair == (last[0] + 1, last[1] + step):
                runs[-1] = (first, pair)
                continue
        runs.append((pair, pair))
    return runs


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _ps(session: Session, flags: Flags, words: list[str]) -> int:
    limit = 1 if flags.on("latest") else max(flags.number("last", 0), 0)
    form = flags.text("format")
    size = flags.on("size") or ".Size" in form
    found = session.client.containers.list(
        all=flags.on("all"), filters=parse_filters(flags.list("filter")), limit=limit, size=size
    )
    full = flags.on("no-trunc")
    if flags.on("quiet") and not form:
        form = "{{.ID}}"
    columns = ["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"]
    if size:
        columns.append("Size")
    container_listing(full=full).show(found, form, columns)
    return 0


def _port(session: Session, flags: Flags, words: list[str]) -> int:
    settings = session.client.containers.inspect(words[0])["NetworkSettings"]
    ports: dict[str, Any] = settings.get("Ports") or {}
    if len(words) > 1:
        wanted = words[1] if "/" in words[1] else f"{words[1]}/tcp"
        bindings = ports.get(wanted)
        if not bindings:
            raise NotFound(f"no public port '{wanted}' published for {words[0]}")
        for binding in bindings:
            sys.stdout.write(_binding(binding) + "\n")
        return 0
    for inside, bindings in sorted(ports.items()):
        for binding in bindings or []:
            sys.stdout.write(f"{inside} -> {_binding(binding)}\n")
    return 0


def _binding(binding: dict[str, str]) -> str:
    address = binding.get("HostIp") or "0.0.0.0"
    return (
        f"[{address}]:{binding['HostPort']}"
        if ":" in address
        else (f"{address}:{binding['HostPort']}")
    )


def _top(session: Session, flags: Flags, words: list[str]) -> int:
    answer = session.client.containers.top(words[0], " ".join(words[1:]))
    for line in align([answer["Titles"], *(answer["Processes"] or [])]):
        sys.stdout.write(line + "\n")
    return 0


def _diff(session: Session, flags: Flags, words: list[str]) -> int:
    for change in session.client.containers.changes(words[0]):
        sys.stdout.write(f"{_CHANGES[change['Kind']]} {change['Path']}\n")
    return 0


COMMANDS = {
    "ps": Command(
        _ps,
        summary="List containers",
        options=(
            ("all", "a", "flag", "", "Stopped ones too"),
            ("filter", "f", "list", "KEY=VALUE", "Only those: name, status, label, ancestor, ..."),
            ("format", "", "text", "FORMAT", "table, json, or a template such as '{{.Names}}'"),
            ("last", "n", "number", "N", "The N newest, in any state"),
            ("latest", "l", "flag", "", "The newest, in any state"),
            ("no-trunc", "", "flag", "", "Show everything in full"),
            ("quiet", "q", "flag", "", "Ids only"),
            ("size", "s", "flag", "", "Show how much each has written"),
        ),
        most=0,
        examples=(
            ("ps -a", "all, running or not"),
            ("ps --filter status=exited --filter ancestor=debian:12", "a choice of them"),
            ("ps --format 'table {{.Names}}\\t{{.Kind}}\\t{{.Status}}'", "columns of your own"),
            ("stop $(pannier ps -q)", "stop them all"),
        ),
        see=("inspect", "logs", "top", "compose ps"),
        notes="""Fields for --format: .ID .Image .Command .CreatedAt .RunningFor .Status .State
        .Ports .Names .Kind .Size .Labels .Mounts .LocalVolumes .Networks""",
    ),
    "port": Command(
        _port,
        usage="CONTAINER [PORT[/PROTOCOL]]",
        summary="Show where a container's ports are published",
        least=1,
        most=2,
        complete="running",
        examples=(("port web 80", "prints 0.0.0.0:8080"),),
        see=("ps", "run"),
    ),
    "top": Command(
        _top,
        usage="CONTAINER [PS_OPTION...]",
        summary="Show the processes of a container",
        least=1,
        interspersed=False,
        complete="running",
        examples=(("top web", "all"), ("top web -o pid,rss,args", "columns of ps")),
        see=("stats", "exec"),
    ),
    "diff": Command(
        _diff,
        usage="CONTAINER",
        summary="Show what changed in a container's file system",
        least=1,
        most=1,
        complete="container",
        examples=(("diff job", "A added, C changed, D deleted"),),
        see=("commit", "cp"),
    ),
}
