"""What every compose command begins with: the project, its containers, its images."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pannier.base.errors import InvalidArgument, NotFound, PannierError
from pannier.cli.build import build_arguments, run_build
from pannier.cli.flags import Flags
from pannier.cli.session import Session
from pannier.client.context import from_directory
from pannier.compose.load import Wish, load
from pannier.compose.model import Build, Project

Json = dict[str, Any]
PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
NUMBER = "com.docker.compose.container-number"
ONEOFF = "com.docker.compose.oneoff"


def _wish(flags: Flags) -> Wish:
    directory = flags.text("project-directory")
    return Wish(
        directory=Path.cwd(),
        environment=dict(os.environ),
        files=[Path(name) for name in flags.list("file")],
        env_files=[Path(name) for name in flags.list("env-file")],
        project_directory=Path(directory) if directory else None,
        name=flags.text("project-name"),
        profiles=flags.list("profile"),
    )


def project_of(session: Session, *, warn: bool = True) -> Project:
    """The project that the group's flags and this directory mean; warnings go to stderr.

    Raises:
        PannierError: no compose file, or one that cannot be used.
    """
    loaded = load(_wish(session.group or Flags()))
    for warning in loaded.warnings if warn else ():
        sys.stderr.write(f"Warning: {warning}\n")
    return loaded.project


def name_of(session: Session) -> str:
    """The project's name alone: with ``-p`` no file is needed.

    Raises:
        PannierError: no name, and no usable compose file.
    """
    given = (session.group or Flags()).text("project-name")
    if given or (given := os.environ.get("COMPOSE_PROJECT_NAME", "")):
        return given
    return project_of(session, warn=False).name  # `up` has warned


def check_services(project: Project, names: Iterable[str]) -> None:
    """Raises:
    NotFound: the project has no such service.
    """
    for name in names:
        if name not in project.services:
            known = ", ".join(project.services)
            raise NotFound(f"no such service: {name}", hint=f"{project.name} has: {known}")


def containers_of(
    session: Session, name: str, services: Sequence[str] = (), *, all_: bool = False
) -> list[Json]:
    """The project's containers by service and number.

    Raises:
        NotFound: a service has none.
    """
    found = session.client.containers.list(all=all_, filters={"label": [f"{PROJECT}={name}"]})
    found = [item for item in found if (item.get("Labels") or {}).get(ONEOFF) != "True"]
    if services:
        present = {label_of(item, SERVICE) for item in found}
        for service in services:
            if service not in present:
                _check_known(session, name, service)
                raise NotFound(
                    f"service '{service}' of '{name}' has no {'' if all_ else 'running '}container",
                    hint="bring it up: pannier compose up -d",
                )
        found = [item for item in found if label_of(item, SERVICE) in services]
    return sorted(
        found, key=lambda item: (label_of(item, SERVICE), int(label_of(item, NUMBER) or 0))
    )


def _check_known(session: Session, name: str, service: str) -> None:
    """Tell a mistyped name from a service that is down, where the compose file is at hand."""
    try:
        project = project_of(session, warn=False)
    except PannierError:
        return
    if project.name == name:
        check_services(project, [service])


def label_of(item: Json, label: str) -> str:
    return str((item.get("Labels") or {}).get(label, ""))


def container_name(item: Json) -> str:
    return str(item["Names"][0]).removeprefix("/")


def counts(values: Iterable[str]) -> dict[str, int]:
    """``app=3`` of --scale.

    Raises:
        InvalidArgument: not a service and a number.
    """
    out: dict[str, int] = {}
    for value in values:
        name, _, number = value.partition("=")
        if not number.isdigit():
            raise InvalidArgument(f"invalid scale '{value}'", hint="write SERVICE=NUMBER")
        out[name] = int(number)
    return out


def build_services(
    session: Session, project: Project, names: Iterable[str], flags: Flags, *, missing_only: bool
) -> None:
    """Build the images of services that have a build section.

    Args:
        missing_only: leave those alone whose image is there.
    """
    done: set[str] = set()
    for name in names:
        build, image = project.services[name].build, project.image_of(name)
        if build is None or image in done:
            continue
        done.add(image)
        if missing_only and _exists(session, image):
            continue
        if not flags.on("quiet"):
            sys.stdout.write(f"Building {name} ({image})\n")
            sys.stdout.flush()
        _build(session, build, image, flags)


def _exists(session: Session, image: str) -> bool:
    try:
        session.client.images.inspect(image)
    except NotFound:
        return False
    return True


def _build(session: Session, build: Build, image: str, flags: Flags) -> None:
    text = build.dockerfile_inline.encode() if build.dockerfile_inline else None
    dockerfile = os.path.join(build.context, build.dockerfile) if build.dockerfile else ""
    context = from_directory(build.context, dockerfile, text)
    arguments: dict[str, str | None] = {**build.args}
    arguments |= build_arguments(flags.list("build-arg"))
    query = {
        "t": [image, *build.tags],
        "buildargs": arguments or None,
        "labels": build.labels or None,
        "target": build.target,
        "nocache": flags.on("no-cache") or build.no_cache,
        "pull": build.pull,
        "hostca": flags.on("host-ca"),
    }
    run_build(session, context, query, quiet=flags.on("quiet"))
