"""``volume``: ls, create, rm, prune."""

from __future__ import annotations

import sys
from typing import Any

from pannier.base.units import format_size
from pannier.cli.command import Command
from pannier.cli.each import confirm, each
from pannier.cli.flags import Flags
from pannier.cli.run_values import pairs
from pannier.cli.session import Session
from pannier.cli.tables import Listing, parse_filters

Json = dict[str, Any]


def _usage(volume: Json, key: str) -> Any:
    return (volume.get("UsageData") or {}).get(key)


def volume_listing() -> Listing:
    """Fields of one volume, as `docker volume ls --format` names them."""
    return Listing(
        {
            "Driver": ("DRIVER", lambda v: v.get("Driver", "")),
            "Name": ("VOLUME NAME", lambda v: v["Name"]),
            "Scope": ("SCOPE", lambda v: v.get("Scope", "")),
            "Mountpoint": ("MOUNTPOINT", lambda v: v.get("Mountpoint", "")),
            "Labels": (
                "LABELS",
                lambda v: ",".join(f"{k}={x}" for k, x in (v.get("Labels") or {}).items()),
            ),
            "Links": ("LINKS", lambda v: str(_usage(v, "RefCount") or 0)),
            "Size": ("SIZE", lambda v: format_size(max(_usage(v, "Size") or 0, 0))),
            "Status": ("STATUS", lambda v: v.get("Status") or "N/A"),
        },
        ("Driver", "Name"),
    )


def _list(session: Session, flags: Flags, words: list[str]) -> int:
    found = session.client.volumes.list(filters=parse_filters(flags.list("filter")))
    form = flags.text("format") or ("{{.Name}}" if flags.on("quiet") else "")
    volume_listing().show(sorted(found, key=lambda v: str(v["Name"])), form)
    return 0


def _create(session: Session, flags: Flags, words: list[str]) -> int:
    body: Json = {
        "Name": words[0] if words else flags.text("name"),
        "Driver": flags.text("driver", "local"),
        "DriverOpts": pairs(flags.list("opt")),
        "Labels": pairs(flags.list("label")),
    }
    sys.stdout.write(f"{session.client.volumes.create(body)['Name']}\n")
    return 0


def _remove(session: Session, flags: Flags, words: list[str]) -> int:
    return each(words, lambda name: session.client.volumes.remove(name, force=flags.on("force")))


def _prune(session: Session, flags: Flags, words: list[str]) -> int:
    every = flags.on("all")
    which = "all volumes" if every else "unnamed volumes"
    question = f"WARNING! This will remove {which} that no container uses."
    if not flags.on("force") and not confirm(question):
        return 0
    filters = parse_filters(flags.list("filter"))
    if every:
        filters["all"] = ["true"]
    answer = session.client.volumes.prune(filters)
    deleted = answer.get("VolumesDeleted") or []
    if deleted:
        sys.stdout.write("Deleted Volumes:\n" + "".join(f"{name}\n" for name in deleted) + "\n")
    sys.stdout.write(f"Total reclaimed space: {format_size(answer.get('SpaceReclaimed', 0))}\n")
    return 0


COMMANDS = {
    "volume ls": Command(
        _list,
        summary="List volumes",
        options=(
            ("filter", "f", "list", "KEY=VALUE", "Only those: name, label, dangling"),
            ("format", "", "text", "FORMAT", "table, json, or a template such as '{{.Name}}'"),
            ("quiet", "q", "flag", "", "Names only"),
        ),
        most=0,
        examples=(("volume ls -f dangling=true", "those that no container uses"),),
        see=("volume create", "inspect", "system df"),
    ),
    "volume create": Command(
        _create,
        usage="[NAME]",
        summary="Create a volume",
        options=(
            ("driver", "d", "text", "NAME", "local"),
            ("label", "", "list", "KEY=VALUE", "Attach a label"),
            ("name", "", "text", "NAME", "Same as the argument"),
            ("opt", "o", "list", "KEY=VALUE", "Option of the driver"),
        ),
        most=1,
        examples=(
            ("volume create data", "use it with: pannier run -v data:/var/lib/postgresql ..."),
        ),
        see=("run", "volume ls"),
        notes="""A volume is also made by its first use. Then it gets a copy of what the image has
        at that place.""",
    ),
    "volume rm": Command(
        _remove,
        usage="VOLUME...",
        summary="Remove volumes and the data in them",
        options=(("force", "f", "flag", "", "No error if there is none"),),
        least=1,
        complete="volume",
        see=("volume prune",),
    ),
    "volume prune": Command(
        _prune,
        summary="Remove volumes that nothing uses",
        options=(
            ("all", "a", "flag", "", "Those with a name as well"),
            ("filter", "", "list", "KEY=VALUE", "Only those: label=KEY=VALUE"),
            ("force", "f", "flag", "", "Don't ask"),
        ),
        most=0,
        see=("system prune",),
    ),
}
