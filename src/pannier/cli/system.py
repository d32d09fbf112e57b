"""The engine as a whole: info, version, system df, system prune, system shutdown."""

from __future__ import annotations

import os
import sys
from typing import Any

from pannier.base.errors import PannierError
from pannier.base.units import format_binary_size, format_size
from pannier.cli.command import Command
from pannier.cli.each import confirm
from pannier.cli.flags import Flags
from pannier.cli.goeval import Template, to_json
from pannier.cli.images import by_name
from pannier.cli.list_containers import container_listing
from pannier.cli.session import Session
from pannier.cli.tables import Listing, parse_filters
from pannier.cli.volumes import volume_listing

Json = dict[str, Any]


def _own_version() -> str:
    """From the name of the installed metadata: importlib.metadata takes 60 ms to say the same."""
    for directory in sys.path:
        for name in os.listdir(directory) if os.path.isdir(directory) else ():
            if name.startswith("pannier-") and name.endswith(".dist-info"):
                return name.removeprefix("pannier-").removesuffix(".dist-info")
    return "unknown"


def _version(session: Session, flags: Flags, words: list[str]) -> int:
    own = _own_version()
    if flags.on("short"):
        sys.stdout.write(f"pannier version {own}\n")
        return 0
    server: Json | None = None
    failure: PannierError | None = None
    try:
        server = session.client.system.version()
    except PannierError as error:
        failure = error
    facts = {"Client": {"Version": own}, "Server": server}
    form = flags.text("format")
    if form:
        sys.stdout.write(
            (to_json(facts) if form == "json" else Template(form).render(facts)) + "\n"
        )
    else:
        _write_version(own, server)
    if failure:
        raise failure
    return 0


def _write_version(own: str, server: Json | None) -> None:
    sys.stdout.write(f"Client:\n Version:      {own}\n Python:       {sys.version.split()[0]}\n")
    if server:
        sys.stdout.write(
            f"\nEngine:\n Version:      {server.get('Version')}\n"
            f" API version:  {server.get('ApiVersion')} (minimum {server.get('MinAPIVersion')})\n"
            f" OS/Arch:      {server.get('Os')}/{server.get('Arch')}\n"
            f" Kernel:       {server.get('KernelVersion')}\n"
        )


def _info(session: Session, flags: Flags, words: list[str]) -> int:
    info = session.client.system.info()
    form = flags.text("format")
    if form:
        sys.stdout.write((to_json(info) if form == "json" else Template(form).render(info)) + "\n")
        return 0
    for line in info_lines(info):
        sys.stdout.write(line + "\n")
    for warning in info.get("Warnings") or []:
        sys.stderr.write(f"WARNING: {warning}\n")
    return 0


def info_lines(info: Json) -> list[str]:
    """The page of ``info``."""
    lines = [f"Client version: {_own_version()}", f"Engine version: {info.get('ServerVersion')}"]
    lines += [
        f"Containers: {info.get('Containers')}",
        f"  Running: {info.get('ContainersRunning')}",
        f"  Paused: {info.get('ContainersPaused')}",
        f"  Stopped: {info.get('ContainersStopped')}",
        f"Images: {info.get('Images')}",
        f"Storage: {info.get('Driver')}",
    ]
    lines += [f"  {name}: {value}" for name, value in info.get("DriverStatus") or []]
    lines += [f"Kinds: {', '.join(info.get('Runtimes') or {})} (default {info['DefaultRuntime']})"]
    mode = (info.get("Pannier") or {}).get("CgroupMode")
    lines.append(f"Cgroups: v{info.get('CgroupVersion')}{f' ({mode})' if mode else ''}")
    lines += [f"Security: {', '.join(info.get('SecurityOptions') or [])}"]
    lines += [
        f"Kernel: {info.get('KernelVersion')}",
        f"Operating system: {info.get('OperatingSystem')}",
        f"Architecture: {info.get('Architecture')}",
        f"CPUs: {info.get('NCPU')}",
        f"Memory: {format_binary_size(info.get('MemTotal') or 0)}",
        f"Host: {info.get('Name')}",
        f"Data directory: {info.get('DockerRootDir')}",
    ]
    return lines


def _df(session: Session, flags: Flags, words: list[str]) -> int:
    usage = session.client.system.disk_usage()
    if flags.on("verbose"):
        _write_verbose(usage)
        return 0
    listing = Listing(
        {
            "Type": ("TYPE", lambda r: r["Type"]),
            "TotalCount": ("TOTAL", lambda r: str(r["Total"])),
            "Active": ("ACTIVE", lambda r: str(r["Active"])),
            "Size": ("SIZE", lambda r: format_size(r["Size"])),
            "Reclaimable": ("RECLAIMABLE", _reclaimable),
        },
        ("Type", "TotalCount", "Active", "Size", "Reclaimable"),
    )
    listing.show(usage_rows(usage), flags.text("format"))
    return 0


def _reclaimable(row: Json) -> str:
    text = format_size(row["Free"])
    return f"{text} ({row['Free'] * 100 // row['Size']}%)" if row["Size"] else text


def usage_rows(usage: Json) -> list[Json]:
    """Count, use, size and what could be freed, of each kind of object."""
    images, containers = usage.get("Images") or [], usage.get("Containers") or []
    volumes, cache = usage.get("Volumes") or [], usage.get("BuildCache") or []
    idle = [item for item in images if not item.get("Containers", 0) > 0]
    running = [item for item in containers if item.get("State") in {"running", "paused"}]
    used = [item for item in volumes if _volume(item, "RefCount") > 0]
    return [
        {
            "Type": "Images",
            "Total": len(images),
            "Active": len(images) - len(idle),
            "Size": usage.get("LayersSize", 0),
            "Free": _free_layers(usage.get("LayersSize", 0), images, idle),
        },
        {
            "Type": "Containers",
            "Total": len(containers),
            "Active": len(running),
            "Size": sum(item.get("SizeRw") or 0 for item in containers),
            "Free": sum(item.get("SizeRw") or 0 for item in containers if item not in running),
        },
        {
            "Type": "Local Volumes",
            "Total": len(volumes),
            "Active": len(used),
            "Size": sum(_volume(item, "Size") for item in volumes),
            "Free": sum(_volume(item, "Size") for item in volumes if item not in used),
        },
        {
            "Type": "Build Cache",
            "Total": len(cache),
            "Active": sum(bool(item.get("InUse")) for item in cache),
            "Size": sum(item.get("Size", 0) for item in cache),
            "Free": sum(item.get("Size", 0) for item in cache if not item.get("InUse")),
        },
    ]


def _free_layers(total: int, images: list[Json], idle: list[Json]) -> int:
    """At least what idle images alone have; layers that no active image can have are free too."""
    own: int = sum(i.get("Size", 0) - max(i.get("SharedSize", 0), 0) for i in idle)
    active: int = sum(i.get("Size", 0) for i in images if i not in idle)
    return max(own, total - active)


def _volume(item: Json, key: str) -> int:
    return max(int((item.get("UsageData") or {}).get(key) or 0), 0)


def _write_verbose(usage: Json) -> None:
    sys.stdout.write("Images space usage:\n\n")
    images = Listing(
        {
            "Repository": ("REPOSITORY", lambda i: i["Repository"]),
            "Tag": ("TAG", lambda i: i["Tag"]),
            "Size": ("SIZE", lambda i: format_size(i.get("Size", 0))),
            "Shared": ("SHARED SIZE", lambda i: format_size(max(i.get("SharedSize", 0), 0))),
            "Containers": ("CONTAINERS", lambda i: str(max(i.get("Containers", 0), 0))),
        },
        ("Repository", "Tag", "Size", "Shared", "Containers"),
    )
    images.show(by_name(usage.get("Images") or []))
    sys.stdout.write("\nContainers space usage:\n\n")
    container_listing().show(
        usage.get("Containers") or [], columns=("ID", "Image", "Size", "Status", "Names")
    )
    sys.stdout.write("\nLocal Volumes space usage:\n\n")
    volume_listing().show(usage.get("Volumes") or [], columns=("Name", "Links", "Size"))
    total = format_size(sum(item.get("Size", 0) for item in usage.get("BuildCache") or []))
    sys.stdout.write(f"\nBuild cache usage: {total}\n")


def _prune(session: Session, flags: Flags, words: list[str]) -> int:
    every, volumes = flags.on("all"), flags.on("volumes")
    what = ["all stopped app containers", "all networks that no container uses"]
    if volumes:
        what.append("all unnamed volumes that no container uses")
    what.append("all images that no container uses" if every else "all images without a name")
    what.append("unused build cache")
    warning = "WARNING! This will remove:\n" + "".join(f"  - {item}\n" for item in what)
    if not flags.on("force") and not confirm(warning):
        return 0
    filters = parse_filters(flags.list("filter"))
    client = session.client
    steps = [
        ("Containers", "ContainersDeleted", client.containers.prune(filters)),
        ("Networks", "NetworksDeleted", client.networks.prune(filters)),
    ]
    if volumes:
        labels = {key: value for key, value in filters.items() if key.startswith("label")}
        steps.append(("Volumes", "VolumesDeleted", client.volumes.prune(labels)))
    dangling = {**filters, "dangling": ["false" if every else "true"]}
    steps.append(("Images", "ImagesDeleted", client.images.prune(dangling)))
    if not filters.keys() & {"label", "label!"}:  # build steps have none
        pruned = client.images.prune_builds(filters, all=every)
        steps.append(("build cache", "CachesDeleted", pruned))
    freed = 0
    for title, key, answer in steps:
        freed += answer.get("SpaceReclaimed") or 0
        _write_deleted(title, answer.get(key) or [])
    sys.stdout.write(f"Total reclaimed space: {format_size(freed)}\n")
    return 0


def _write_deleted(title: str, deleted: list[Any]) -> None:
    if not deleted:
        return
    sys.stdout.write(f"Deleted {title}:\n")
    for item in deleted:
        if isinstance(item, dict):
            item = next((f"{k.lower()}: {v}" for k, v in item.items() if v), "")  # noqa: PLW2901
        sys.stdout.write(f"{item}\n")
    sys.stdout.write("\n")


def _shutdown(session: Session, flags: Flags, words: list[str]) -> int:
    session.client.system.shutdown(force=flags.on("force"))
    return 0


COMMANDS = {
    "system shutdown": Command(
        _shutdown,
        summary="End the engine: its processes, firewall rules and bridges; data stays",
        options=(("force", "f", "flag", "", "Stop the containers that run"),),
        most=0,
        examples=(("system shutdown", "the next command starts it again"),),
        see=("info", "stop"),
    ),
    "version": Command(
        _version,
        summary="Show the versions of this command and of the engine",
        options=(
            ("format", "f", "text", "FORMAT", "json, or a template such as '{{.Server.Version}}'"),
            ("short", "", "flag", "", "Only this command's, in one line"),
        ),
        most=0,
        see=("info",),
    ),
    "info": Command(
        _info,
        summary="Show facts about the engine and this host",
        options=(("format", "f", "text", "FORMAT", "json, or a template such as '{{.NCPU}}'"),),
        most=0,
        see=("version", "system df"),
    ),
    "system df": Command(
        _df,
        summary="Show what takes how much disk space",
        options=(
            ("format", "", "text", "FORMAT", "table, json, or a template"),
            ("verbose", "v", "flag", "", "Each image, container and volume"),
        ),
        most=0,
        see=("system prune", "images", "volume ls"),
    ),
    "system prune": Command(
        _prune,
        summary="Remove what is not used",
        options=(
            ("all", "a", "flag", "", "Images with a name as well"),
            ("filter", "", "list", "KEY=VALUE", "Only those: until=24h, label=KEY=VALUE"),
            ("force", "f", "flag", "", "Don't ask"),
            ("volumes", "", "flag", "", "Unnamed volumes as well"),
        ),
        most=0,
        examples=(("system prune", "asks before it removes anything"),),
        see=("system df", "container prune", "image prune", "volume prune"),
    ),
}
