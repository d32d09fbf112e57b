"""Images that are here: images, tag, rmi, history, image prune."""

from __future__ import annotations

import sys
import time
from typing import Any

from pannier.base.errors import NotFound, PannierError
from pannier.base.ids import short
from pannier.base.units import format_age, format_size
from pannier.cli.command import Command
from pannier.cli.each import confirm
from pannier.cli.flags import Flags
from pannier.cli.session import Session
from pannier.cli.tables import Listing, parse_filters
from pannier.cli.transfer import split_reference

Json = dict[str, Any]
_NONE = "<none>"
_CREATED_BY = 45


def _listing(*, full: bool) -> Listing:
    return Listing(
        {
            "Repository": ("REPOSITORY", lambda i: i["Repository"]),
            "Tag": ("TAG", lambda i: i["Tag"]),
            "Digest": ("DIGEST", lambda i: i["Digest"]),
            "ID": ("IMAGE ID", lambda i: i["Id"] if full else short(i["Id"])),
            "CreatedSince": ("CREATED", lambda i: _since(i["Created"])),
            "CreatedAt": ("CREATED AT", lambda i: _local(i["Created"])),
            "Size": ("SIZE", lambda i: format_size(i.get("Size", 0))),
            "VirtualSize": ("SIZE", lambda i: format_size(i.get("Size", 0))),
            "SharedSize": ("SHARED SIZE", lambda i: _size_or_none(i.get("SharedSize", -1))),
            "UniqueSize": ("UNIQUE SIZE", _unique),
            "Containers": ("CONTAINERS", lambda i: _count(i.get("Containers", -1))),
        },
        ("Repository", "Tag", "ID", "CreatedSince", "Size"),
    )


def _since(seconds: int) -> str:
    return format_age(time.time() - seconds) + " ago" if seconds > 0 else "N/A"


def _local(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(seconds))


def _size_or_none(size: int) -> str:
    return format_size(size) if size >= 0 else "N/A"


def _unique(item: Json) -> str:
    shared = item.get("SharedSize", -1)
    return format_size(item.get("Size", 0) - shared) if shared >= 0 else "N/A"


def _count(number: int) -> str:
    return str(number) if number >= 0 else "N/A"


def by_name(items: list[Json]) -> list[Json]:
    """One row for each name of an image; an image without one has ``<none>``."""
    rows: list[Json] = []
    for item in items:
        digests = {
            name: digest
            for name, _, digest in (text.partition("@") for text in item.get("RepoDigests") or [])
        }
        names = [
            split_reference(tag) for tag in item.get("RepoTags") or [] if tag != "<none>:<none>"
        ]
        if not names:
            names = [(name, _NONE) for name in digests] or [(_NONE, _NONE)]
        for name, tag in names:
            digest = digests.get(name, _NONE)
            rows.append({**item, "Repository": name, "Tag": tag, "Digest": digest})
    return rows


def _images(session: Session, flags: Flags, words: list[str]) -> int:
    filters = parse_filters(flags.list("filter"))
    if words:
        filters.setdefault("reference", []).append(words[0])
    full = flags.on("no-trunc")
    found = session.client.images.list(
        all=flags.on("all"), filters=filters, digests=flags.on("digests")
    )
    rows = by_name(found)
    form = flags.text("format")
    if flags.on("quiet") and not form:
        for identifier in dict.fromkeys(item["Id"] for item in found):
            sys.stdout.write((identifier if full else short(identifier)) + "\n")
        return 0
    columns = ["Repository", "Tag", "ID", "CreatedSince", "Size"]
    if flags.on("digests"):
        columns.insert(2, "Digest")
    _listing(full=full).show(rows, form, columns)
    return 0


def _tag(session: Session, flags: Flags, words: list[str]) -> int:
    name, tag = split_reference(words[1])
    session.client.images.tag(words[0], name, tag)
    return 0


def _remove(session: Session, flags: Flags, words: list[str]) -> int:
    failed = 0
    for word in words:
        try:
            steps = session.client.images.remove(
                word, force=flags.on("force"), noprune=flags.on("no-prune")
            )
        except PannierError as error:
            if isinstance(error, NotFound) and flags.on("force"):
                continue
            failed = 1
            sys.stderr.write(f"pannier: {error.message}\n")
            if error.hint:
                sys.stderr.write(f"hint: {error.hint}\n")
            continue
        _write_steps(steps)
    return failed


def _write_steps(steps: list[Json]) -> None:
    for step in steps:
        for word in ("Untagged", "Deleted"):
            if step.get(word):
                sys.stdout.write(f"{word}: {step[word]}\n")


def _history(session: Session, flags: Flags, words: list[str]) -> int:
    full, human = flags.on("no-trunc"), flags.on("human", True)

    def created_by(item: Json) -> str:
        text = str(item.get("CreatedBy", "")).replace("\t", " ").replace("\n", " ")
        return text if full or len(text) <= _CREATED_BY else text[: _CREATED_BY - 1] + "…"

    listing = Listing(
        {
            "ID": (
                "IMAGE",
                lambda i: i["Id"] if full or i["Id"] == "<missing>" else short(i["Id"]),
            ),
            "CreatedSince": (
                "CREATED",
                lambda i: _since(i["Created"]) if human else _local(i["Created"]),
            ),
            "CreatedAt": ("CREATED AT", lambda i: _local(i["Created"])),
            "CreatedBy": ("CREATED BY", created_by),
            "Size": ("SIZE", lambda i: format_size(i["Size"]) if human else str(i["Size"])),
            "Comment": ("COMMENT", lambda i: i.get("Comment", "")),
        },
        ("ID", "CreatedSince", "CreatedBy", "Size", "Comment"),
    )
    form = flags.text("format") or ("{{.ID}}" if flags.on("quiet") else "")
    listing.show(session.client.images.history(words[0]), form)
    return 0


def _prune(session: Session, flags: Flags, words: list[str]) -> int:
    every = flags.on("all")
    question = "all images that no container uses" if every else "all images without a name"
    if not flags.on("force") and not confirm(f"WARNING! This will remove {question}."):
        return 0
    filters = parse_filters(flags.list("filter"))
    filters["dangling"] = ["false" if every else "true"]
    answer = session.client.images.prune(filters)
    deleted = answer.get("ImagesDeleted") or []
    if deleted:
        sys.stdout.write("Deleted Images:\n")
        _write_steps(deleted)
        sys.stdout.write("\n")
    sys.stdout.write(f"Total reclaimed space: {format_size(answer.get('SpaceReclaimed', 0))}\n")
    return 0


COMMANDS = {
    "images": Command(
        _images,
        usage="[NAME[:TAG]]",
        summary="List images",
        options=(
            ("all", "a", "flag", "", "Intermediate ones too"),
            ("digests", "", "flag", "", "Show digests"),
            ("filter", "f", "list", "KEY=VALUE", "Only those: dangling, label, reference, before"),
            (
                "format",
                "",
                "text",
                "FORMAT",
                "table, json, or a template: '{{.Repository}}'",
            ),
            ("no-trunc", "", "flag", "", "Show ids in full"),
            ("quiet", "q", "flag", "", "Ids only"),
        ),
        most=1,
        complete="image",
        examples=(
            ("images", "all"),
            ("images -f dangling=true -q", "ids of those without a name"),
        ),
        see=("history", "rmi", "image prune", "system df"),
    ),
    "tag": Command(
        _tag,
        usage="IMAGE NAME[:TAG]",
        summary="Give an image a further name",
        least=2,
        most=2,
        complete="image",
        examples=(("tag web:2 web:latest", "both names mean the same image now"),),
        see=("images", "rmi"),
    ),
    "rmi": Command(
        _remove,
        usage="IMAGE...",
        summary="Remove images, or names of images",
        options=(
            ("force", "f", "flag", "", "Also when stopped containers use it"),
            ("no-prune", "", "flag", "", "Keep parents that have no name"),
        ),
        least=1,
        complete="image",
        examples=(("rmi web:1", "the image goes with its last name"),),
        see=("images", "image prune", "rm"),
    ),
    "history": Command(
        _history,
        usage="IMAGE",
        summary="Show how an image was made, step by step",
        options=(
            ("format", "", "text", "FORMAT", "table, json, or a template"),
            ("human", "H", "flag", "", "Sizes and dates for people (default true)"),
            ("no-trunc", "", "flag", "", "Show everything in full"),
            ("quiet", "q", "flag", "", "Ids only"),
        ),
        least=1,
        most=1,
        complete="image",
        examples=(("history web:2", "which step took how much"),),
        see=("images", "build"),
    ),
    "image prune": Command(
        _prune,
        summary="Remove images that nothing uses",
        options=(
            ("all", "a", "flag", "", "Those with a name as well"),
            ("filter", "", "list", "KEY=VALUE", "Only those: until=24h, label=KEY=VALUE"),
            ("force", "f", "flag", "", "Don't ask"),
        ),
        most=0,
        examples=(("image prune", "what builds left without a name"),),
        see=("system prune", "rmi", "builder prune"),
    ),
}
