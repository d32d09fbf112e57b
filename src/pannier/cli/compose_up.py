"""Compose commands that change the stack as a whole: up, create, build, scale, down, rollback."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from pannier.base.errors import InvalidArgument
from pannier.cli.command import Command
from pannier.cli.compose_project import build_services, check_services, counts, name_of, project_of
from pannier.cli.flags import Flags, Option
from pannier.cli.progress import Board
from pannier.cli.session import Session
from pannier.cli.stack_events import follow
from pannier.compose.model import Project

Json = dict[str, Any]
_TIMEOUT: Option = ("timeout", "t", "number", "SECONDS", "Wait so long before killing")
_HOST_CA: Option = ("host-ca", "", "flag", "", "Trust the host's certificate authorities in builds")
_QUIET: Option = ("quiet", "q", "flag", "", "Don't show builds")
_UP: tuple[Option, ...] = (
    ("build", "", "flag", "", "Build images even if they are there"),
    ("force-recreate", "", "flag", "", "Replace containers even if nothing changed"),
    _HOST_CA,
    ("no-build", "", "flag", "", "Don't build images that are missing"),
    ("no-deps", "", "flag", "", "Leave the services it depends on alone"),
    ("no-recreate", "", "flag", "", "Leave containers alone even if something changed"),
    ("pull", "", "text", "WHEN", "Pull images: missing (default), always, never"),
    _QUIET,
    ("quiet-pull", "", "flag", "", "Accepted for Docker's sake, no effect"),
    ("remove-orphans", "", "flag", "", "Remove containers of services that are gone"),
    ("scale", "", "list", "SERVICE=N", "So many replicas"),
    _TIMEOUT,
)


def _board(session: Session) -> Board:
    flags = session.group or Flags()
    plain = flags.text("ansi") == "never" or flags.text("progress") in {"plain", "quiet"}
    return Board(live=False if plain else None)


def _seconds(flags: Flags, name: str) -> float | None:
    return float(flags.number(name)) if flags.given(name) else None


def _prepare(session: Session, flags: Flags, services: list[str]) -> Project:
    """Load the project and build what is needed."""
    project = project_of(session)
    check_services(project, [*services, *counts(flags.list("scale"))])
    if flags.on("no-deps"):
        if not services:
            raise InvalidArgument("--no-deps needs the names of services")
        alone = {
            name: msgspec.structs.replace(project.services[name], depends_on={})
            for name in services
        }
        project = msgspec.structs.replace(project, services={**project.services, **alone})
    if not flags.on("no-build"):
        needed = _with_dependencies(project, services) if services else list(project.services)
        build_services(session, project, needed, flags, missing_only=not flags.on("build"))
    return project


def _with_dependencies(project: Project, services: Sequence[str]) -> list[str]:
    found: list[str] = []
    queue = list(services)
    while queue:
        name = queue.pop()
        if name not in found and name in project.services:
            found.append(name)
            queue += project.services[name].depends_on
    return [name for name in project.services if name in found]


def _body(project: Project, services: list[str], flags: Flags) -> Json:
    return {
        "Project": msgspec.to_builtins(project),
        "Services": services,
        "Scale": counts(flags.list("scale")),
        "ForceRecreate": flags.on("force-recreate"),
        "NoRecreate": flags.on("no-recreate"),
        "NoStart": flags.on("no-start"),
        "RemoveOrphans": flags.on("remove-orphans"),
        "Wait": flags.on("wait"),
        "WaitTimeout": _seconds(flags, "wait-timeout"),
        "Timeout": _seconds(flags, "timeout"),
    }


def _up(session: Session, flags: Flags, words: list[str]) -> int:
    project = _prepare(session, flags, words)
    if flags.text("pull") == "always":
        from pannier.cli.compose_act import pull_services  # noqa: PLC0415 - rare

        pull_services(session, project, words or list(project.services))
    body = _body(project, words, flags)
    began = time.time()
    follow(session.client.stacks.act(project.name, "up", body), _board(session))
    if flags.on("detach") or flags.on("wait") or flags.on("no-start"):
        return 0
    return _watch(session, project, words, flags, began)


def _watch(
    session: Session, project: Project, services: list[str], flags: Flags, began: float
) -> int:
    """Show what the services write since *began*; ctrl-c and SIGTERM stop them, as in Docker."""
    from pannier.cli.compose_logs import show_logs  # noqa: PLC0415 - not with -d

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    arguments = {"follow": True, "since": f"{began:.6f}"}
    try:
        show_logs(session, project.name, services, arguments)
    except KeyboardInterrupt:
        sys.stderr.write("\nStopping; once more to leave them running\n")
        from pannier.cli.compose_act import stop_services  # noqa: PLC0415

        stop_services(session, project.name, services, _seconds(flags, "timeout"))
        return 130
    return 0


def _create(session: Session, flags: Flags, words: list[str]) -> int:
    project = _prepare(session, flags, words)
    body = {**_body(project, words, flags), "NoStart": True}
    follow(session.client.stacks.act(project.name, "up", body), _board(session))
    return 0


def _build(session: Session, flags: Flags, words: list[str]) -> int:
    project = project_of(session)
    check_services(project, words)
    names = words or list(project.services)
    build_services(session, project, names, flags, missing_only=False)
    return 0


def _scale(session: Session, flags: Flags, words: list[str]) -> int:
    wanted = counts(words)
    body = {"Scale": wanted, "Timeout": _seconds(flags, "timeout")}
    follow(session.client.stacks.act(name_of(session), "scale", body), _board(session))
    return 0


def _down(session: Session, flags: Flags, words: list[str]) -> int:
    images = flags.text("rmi")
    if images not in {"", "local", "all"}:
        raise InvalidArgument(f"invalid value for --rmi: {images}", hint="local or all")
    body: Json = {
        "Services": words,
        "Volumes": flags.on("volumes"),
        "Images": images,
        "RemoveOrphans": flags.on("remove-orphans"),
        "Timeout": _seconds(flags, "timeout"),
    }
    given = session.group.text("project-name") if session.group else ""
    if given and not (session.group and session.group.list("file")):
        name = given
    else:
        project = project_of(session, warn=False)
        name = project.name
        body["Project"] = msgspec.to_builtins(project)
    follow(session.client.stacks.act(name, "down", body), _board(session))
    return 0


def _rollback(session: Session, flags: Flags, words: list[str]) -> int:
    body = {
        "Services": words, "Undo": flags.on("undo"), "Timeout": _seconds(flags, "timeout"),
    }  # fmt: skip
    follow(session.client.stacks.act(name_of(session), "rollback", body), _board(session))
    return 0


COMMANDS = {
    "compose up": Command(
        _up,
        usage="[SERVICE...]",
        summary="Bring a stack up, or make it as the compose file says now",
        options=(
            *_UP,
            ("detach", "d", "flag", "", "Leave it in the background"),
            ("no-start", "", "flag", "", "Create, but don't start"),
            ("wait", "", "flag", "", "Wait until all are healthy"),
            ("wait-timeout", "", "number", "SECONDS", "At most so long"),
        ),
        complete="service",
        examples=(
            ("compose up -d", "in the background"),
            ("compose up -d --build app", "build again, then replace only what changed"),
            ("compose up -d --scale app=5", "five replicas of app"),
        ),
        see=("compose ps", "compose logs", "compose rollback", "compose down"),
        notes="""Only services that changed are touched. A service with several replicas is replaced
        one by one: the new one is ready before an old one goes, so no request fails.""",
    ),
    "compose create": Command(
        _create,
        usage="[SERVICE...]",
        summary="Create containers without starting them",
        options=_UP,
        complete="service",
        see=("compose up", "compose start"),
    ),
    "compose build": Command(
        _build,
        usage="[SERVICE...]",
        summary="Build the images of services",
        options=(
            ("build-arg", "", "list", "NAME[=VALUE]", "Value of an ARG"),
            _HOST_CA,
            ("no-cache", "", "flag", "", "Do every step again"),
            ("pull", "", "flag", "", "Ask the registry for newer base images"),
            _QUIET,
        ),
        complete="service",
        see=("build", "compose up"),
    ),
    "compose scale": Command(
        _scale,
        usage="SERVICE=N...",
        summary="Change how many replicas run",
        options=(_TIMEOUT,),
        least=1,
        complete="service",
        examples=(("compose scale app=5", "up at once; down without failing requests"),),
        see=("compose up", "compose ps"),
    ),
    "compose down": Command(
        _down,
        usage="[SERVICE...]",
        summary="Stop a stack and remove its containers and networks",
        options=(
            ("remove-orphans", "", "flag", "", "Containers of services that are gone as well"),
            ("rmi", "", "text", "WHICH", "Images too: local (built here) or all"),
            _TIMEOUT,
            ("volumes", "v", "flag", "", "Volumes too: their data is lost"),
        ),
        complete="service",
        examples=(("compose down", "volumes stay"), ("compose down -v", "nothing stays")),
        see=("compose stop", "compose up"),
    ),
    "compose rollback": Command(
        _rollback,
        usage="[SERVICE...]",
        summary="Go back to the images that ran before",
        options=(_TIMEOUT, ("undo", "", "flag", "", "Go forth again")),
        complete="service",
        examples=(("compose rollback app", "replaced one by one: no request fails"),),
        see=("rollback", "compose up"),
    ),
}
