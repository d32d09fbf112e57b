"""``inspect``: everything the engine knows about an object."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pannier.base.errors import InvalidArgument, NotFound, PannierError
from pannier.cli.command import Command
from pannier.cli.flags import Flags
from pannier.cli.goeval import Template
from pannier.cli.session import Session

Json = dict[str, Any]


def _inspect(session: Session, flags: Flags, words: list[str]) -> int:
    kinds = _kinds(session, flags.text("type"), size=flags.on("size"))
    form = flags.text("format")
    template = None if form in {"", "json"} else Template(form)
    found: list[Json] = []
    failed = 0
    for word in words:
        try:
            found.append(_find(kinds, word))
        except PannierError as error:
            sys.stderr.write(f"pannier: {error.message}\n")
            failed = 1
    if template:
        for item in found:
            sys.stdout.write(template.render(item) + "\n")
    elif form == "json":
        for item in found:
            sys.stdout.write(json.dumps(item, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(json.dumps(found, indent=4, ensure_ascii=False) + "\n")
    return failed


def _kinds(session: Session, kind: str, *, size: bool) -> dict[str, Callable[[str], Json]]:
    client = session.client
    kinds: dict[str, Callable[[str], Json]] = {
        "container": lambda ref: client.containers.inspect(ref, size=size),
        "image": client.images.inspect,
        "network": client.networks.inspect,
        "volume": client.volumes.inspect,
    }
    if not kind:
        return kinds
    if kind not in kinds:
        raise InvalidArgument(
            f'"{kind}" is not a valid value for --type', hint="one of: " + ", ".join(kinds)
        )
    return {kind: kinds[kind]}


def _find(kinds: dict[str, Callable[[str], Json]], word: str) -> Json:
    """The first kind that has such an object, in Docker's order.

    Raises:
        NotFound: none has.
    """
    if len(kinds) == 1:
        return next(iter(kinds.values()))(word)
    for inspect in kinds.values():
        with suppress(NotFound):
            return inspect(word)
    raise NotFound(f"No such object: {word}")


COMMANDS = {
    "inspect": Command(
        _inspect,
        usage="NAME|ID...",
        summary="Show all facts about containers, images, networks or volumes",
        options=(
            ("format", "f", "text", "FORMAT", "json, or a template such as '{{.State.Status}}'"),
            ("size", "s", "flag", "", "Sizes of containers as well"),
            ("type", "", "text", "KIND", "Only look for: container, image, network, volume"),
        ),
        least=1,
        complete="container",
        examples=(
            ("inspect web", "everything, as JSON"),
            ("inspect -f '{{.State.Status}} {{.State.ExitCode}}' job", "two facts"),
            (
                "inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' db",
                "its address",
            ),
            ("inspect --type image debian:12", "an image, even if a container has that name"),
        ),
        see=("ps", "images", "network ls", "volume ls"),
    )
}
