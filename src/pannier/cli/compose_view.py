"""Looking at stacks: config, ps, ls, images, logs, top, port."""

from __future__ import annotations

import json
import sys
from typing import Any

from pannier.base.errors import InvalidArgument, NotFound
from pannier.base.ids import short
from pannier.base.units import format_size
from pannier.cli.command import Command
from pannier.cli.compose_logs import show_logs
from pannier.cli.compose_project import (
    NUMBER,
    SERVICE,
    container_name,
    containers_of,
    label_of,
    name_of,
    project_of,
)
from pannier.cli.flags import Flags
from pannier.cli.list_containers import container_fields
from pannier.cli.logs import OPTIONS as LOG_OPTIONS
from pannier.cli.logs import arguments as log_arguments
from pannier.cli.session import Session
from pannier.cli.tables import Listing, align
from pannier.cli.transfer import split_reference

Json = dict[str, Any]


def _config(session: Session, flags: Flags, words: list[str]) -> int:
    project = project_of(session)
    if flags.on("quiet"):
        return 0
    lists = {
        "services": sorted(project.services),
        "volumes": sorted(project.volumes),
        "networks": sorted(project.networks),
        "images": sorted({project.image_of(name) for name in project.services}),
    }
    for name, lines in lists.items():
        if flags.on(name):
            sys.stdout.write("".join(f"{line}\n" for line in lines))
            return 0
    from pannier.compose.render import as_tree, render  # noqa: PLC0415 - YAML is dear

    form = flags.text("format", "yaml")
    if form == "json":
        text = json.dumps(as_tree(project), indent=2, ensure_ascii=False) + "\n"
    elif form == "yaml":
        text = render(project)
    else:
        raise InvalidArgument(f"invalid format '{form}'", hint="yaml or json")
    if flags.given("output"):
        with open(flags.text("output"), "w", encoding="utf-8") as stream:
            stream.write(text)
    else:
        sys.stdout.write(text)
    return 0


def _ps(session: Session, flags: Flags, words: list[str]) -> int:
    statuses = flags.list("status")
    everything = flags.on("all") or bool(statuses)
    found = containers_of(session, name_of(session), all_=everything)
    found = [
        item
        for item in found
        if (not words or label_of(item, SERVICE) in words)
        and (not statuses or item.get("State") in statuses)
    ]
    if flags.on("services"):
        names = dict.fromkeys(label_of(item, SERVICE) for item in found)
        sys.stdout.write("".join(f"{name}\n" for name in names))
        return 0
    if flags.on("quiet"):
        sys.stdout.write("".join(f"{item['Id']}\n" for item in found))
        return 0
    fields = container_fields(full=flags.on("no-trunc"))
    fields["Name"] = ("NAME", container_name)
    fields["Service"] = ("SERVICE", lambda item: label_of(item, SERVICE))
    columns = ("Name", "Image", "Command", "Service", "RunningFor", "Status", "Ports")
    Listing(fields, columns).show(found, flags.text("format"))
    return 0


def _list(session: Session, flags: Flags, words: list[str]) -> int:
    listing = Listing(
        {
            "Name": ("NAME", lambda s: s["Name"]),
            "Status": ("STATUS", lambda s: s.get("Status") or "nothing running"),
            "ConfigFiles": ("CONFIG FILES", lambda s: s.get("ConfigFiles", "")),
        },
        ("Name", "Status", "ConfigFiles"),
    )
    found = session.client.stacks.list()
    if not flags.on("all"):
        found = [item for item in found if "running" in str(item.get("Status"))]
    form = flags.text("format") or ("{{.Name}}" if flags.on("quiet") else "")
    listing.show(found, form)
    return 0


def _images(session: Session, flags: Flags, words: list[str]) -> int:
    rows = []
    for item in containers_of(session, name_of(session), words, all_=True):
        try:
            size = session.client.images.inspect(item["ImageID"]).get("Size", 0)
        except NotFound:
            size = 0
        repository, tag = split_reference(item["Image"])
        rows.append({**item, "Repository": repository, "Tag": tag, "Bytes": size})
    listing = Listing(
        {
            "Container": ("CONTAINER", container_name),
            "Repository": ("REPOSITORY", lambda r: r["Repository"]),
            "Tag": ("TAG", lambda r: r["Tag"]),
            "ID": ("IMAGE ID", lambda r: short(r["ImageID"])),
            "Size": ("SIZE", lambda r: format_size(r["Bytes"])),
        },
        ("Container", "Repository", "Tag", "ID", "Size"),
    )
    listing.show(rows, "{{.ID}}" if flags.on("quiet") else flags.text("format"))
    return 0


def _logs(session: Session, flags: Flags, words: list[str]) -> int:
    show_logs(
        session,
        name_of(session),
        words,
        log_arguments(flags),
        prefix=not flags.on("no-log-prefix"),
        colour=not flags.on("no-color"),
    )
    return 0


def _top(session: Session, flags: Flags, words: list[str]) -> int:
    for item in containers_of(session, name_of(session), words):
        answer = session.client.containers.top(item["Id"])
        sys.stdout.write(f"{container_name(item)}\n")
        for line in align([answer["Titles"], *(answer["Processes"] or [])]):
            sys.stdout.write(f"  {line}\n")
        sys.stdout.write("\n")
    return 0


def _port(session: Session, flags: Flags, words: list[str]) -> int:
    service, wanted = words
    protocol = flags.text("protocol", "tcp")
    index = str(flags.number("index", 1))
    for item in containers_of(session, name_of(session), [service]):
        if flags.given("index") and label_of(item, NUMBER) != index:
            continue
        for port in item.get("Ports") or []:
            if str(port.get("PrivatePort")) == wanted and port.get("Type") == protocol:
                sys.stdout.write(f"{port.get('IP') or '0.0.0.0'}:{port.get('PublicPort')}\n")
                return 0
    raise NotFound(f"no port {wanted}/{protocol} of service '{service}' is published")


COMMANDS = {
    "compose config": Command(
        _config,
        summary="Check the compose file and show it with everything resolved",
        options=(
            ("format", "", "text", "FORMAT", "yaml (default) or json"),
            ("images", "", "flag", "", "Only the names of images"),
            ("networks", "", "flag", "", "Only the names of networks"),
            ("output", "o", "text", "FILE", "Write it to a file"),
            ("quiet", "q", "flag", "", "Only check"),
            ("services", "", "flag", "", "Only the names of services"),
            ("volumes", "", "flag", "", "Only the names of volumes"),
        ),
        most=0,
        examples=(("compose config -q && echo fine", "is the file all right?"),),
        see=("compose up",),
    ),
    "compose ps": Command(
        _ps,
        usage="[SERVICE...]",
        summary="List the containers of a stack",
        options=(
            ("all", "a", "flag", "", "Stopped ones too"),
            ("format", "", "text", "FORMAT", "table, json, or a template"),
            ("no-trunc", "", "flag", "", "Show everything in full"),
            ("quiet", "q", "flag", "", "Ids only"),
            ("services", "", "flag", "", "Names of services only"),
            ("status", "", "list", "STATE", "Only those in this state"),
        ),
        complete="service",
        see=("ps", "compose logs", "compose ls"),
    ),
    "compose ls": Command(
        _list,
        summary="List stacks",
        options=(
            ("all", "a", "flag", "", "Also those of which nothing runs"),
            ("format", "", "text", "FORMAT", "table, json, or a template"),
            ("quiet", "q", "flag", "", "Names only"),
        ),
        most=0,
        see=("compose ps",),
    ),
    "compose images": Command(
        _images,
        usage="[SERVICE...]",
        summary="List the images that a stack's containers run",
        options=(
            ("format", "", "text", "FORMAT", "table, json, or a template"),
            ("quiet", "q", "flag", "", "Ids only"),
        ),
        complete="service",
        see=("images", "compose rollback"),
    ),
    "compose logs": Command(
        _logs,
        usage="[SERVICE...]",
        summary="Show what the containers of a stack wrote",
        options=(
            *LOG_OPTIONS,
            ("no-color", "", "flag", "", "Don't colour names"),
            ("no-log-prefix", "", "flag", "", "Don't show names"),
        ),
        complete="service",
        examples=(("compose logs -f --tail 10 app", "the last lines of every replica, and on"),),
        see=("logs", "compose ps"),
    ),
    "compose top": Command(
        _top,
        usage="[SERVICE...]",
        summary="Show the processes of a stack",
        complete="service",
        see=("top",),
    ),
    "compose port": Command(
        _port,
        usage="SERVICE PORT",
        summary="Show where a service's port is published",
        options=(
            ("index", "", "number", "N", "Of this replica"),
            ("protocol", "", "text", "PROTOCOL", "tcp (default) or udp"),
        ),
        least=2,
        most=2,
        complete="service",
        see=("port", "compose ps"),
    ),
}
