"""Compose commands on containers of services: start, stop, restart, kill, rm, exec, pull."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pannier.base.errors import NotFound, NotModified, PannierError
from pannier.cli.command import Command
from pannier.cli.compose_project import (
    NUMBER,
    container_name,
    containers_of,
    label_of,
    name_of,
    project_of,
)
from pannier.cli.conversation import check_terminal
from pannier.cli.each import confirm
from pannier.cli.execute import talk
from pannier.cli.flags import Flags, Option
from pannier.cli.progress import Board, show
from pannier.cli.run_body import environment
from pannier.cli.session import Session
from pannier.cli.transfer import split_reference
from pannier.client.api import Client
from pannier.client.containers import Containers
from pannier.compose.model import Project

Json = dict[str, Any]
_TIMEOUT: Option = ("timeout", "t", "number", "SECONDS", "Wait so long before killing")
_INDEX: Option = ("index", "", "number", "N", "Which replica (default the first)")
_AT_ONCE = 8


def on_all(
    session: Session, items: list[Json], act: Callable[[Containers, str], None], done: str
) -> int:
    """Do something to several containers side by side; returns the exit status."""
    board = Board()
    failed = 0

    def one(item: Json) -> PannierError | None:
        client = Client(session.connect)
        try:
            act(client.containers, item["Id"])
        except NotModified:
            return None
        except PannierError as error:
            return error
        finally:
            client.close()
        return None

    if not items:
        return 0
    with ThreadPoolExecutor(min(_AT_ONCE, len(items))) as pool:
        for item, error in zip(items, pool.map(one, items), strict=True):
            name = container_name(item)
            if error:
                failed = 1
                sys.stderr.write(f"pannier: {name}: {error.message}\n")
            else:
                board.set(name, f" Container {name:<28} {done}")
    return failed


def stop_services(
    session: Session, name: str, services: list[str], timeout: float | None = None
) -> int:
    """Stop what runs of them; the last one started stops first only within a service."""
    seconds = None if timeout is None else int(timeout)
    items = containers_of(session, name, all_=False)
    if services:
        items = containers_of(session, name, services)
    return on_all(session, items, lambda c, ref: c.stop(ref, timeout=seconds), "Stopped")


def _stop(session: Session, flags: Flags, words: list[str]) -> int:
    timeout = float(flags.number("timeout")) if flags.given("timeout") else None
    return stop_services(session, name_of(session), words, timeout)


def _start(session: Session, flags: Flags, words: list[str]) -> int:
    items = containers_of(session, name_of(session), words, all_=True)
    return on_all(session, items, lambda c, ref: c.start(ref), "Started")


def _restart(session: Session, flags: Flags, words: list[str]) -> int:
    seconds = flags.number("timeout") if flags.given("timeout") else None
    items = containers_of(session, name_of(session), words, all_=True)
    return on_all(session, items, lambda c, ref: c.restart(ref, timeout=seconds), "Restarted")


def _kill(session: Session, flags: Flags, words: list[str]) -> int:
    signal = flags.text("signal", "KILL")
    items = containers_of(session, name_of(session), words)
    return on_all(session, items, lambda c, ref: c.kill(ref, signal=signal), "Killed")


def _pause(session: Session, flags: Flags, words: list[str]) -> int:
    items = containers_of(session, name_of(session), words)
    return on_all(session, items, lambda c, ref: c.pause(ref), "Paused")


def _unpause(session: Session, flags: Flags, words: list[str]) -> int:
    items = containers_of(session, name_of(session), words)
    return on_all(session, items, lambda c, ref: c.unpause(ref), "Unpaused")


def _remove(session: Session, flags: Flags, words: list[str]) -> int:
    name = name_of(session)
    if flags.on("stop"):
        stop_services(session, name, words)
    items = containers_of(session, name, words, all_=True)
    items = [item for item in items if item.get("State") not in {"running", "paused"}]
    if not items:
        sys.stdout.write("No stopped containers\n")
        return 0
    names = ", ".join(container_name(item) for item in items)
    if not flags.on("force") and not confirm(f"Going to remove {names}"):
        return 0
    volumes = flags.on("volumes")
    return on_all(session, items, lambda c, ref: c.remove(ref, volumes=volumes), "Removed")


def _exec(session: Session, flags: Flags, words: list[str]) -> int:
    items = containers_of(session, name_of(session), [words[0]])
    item = _replica(items, flags, words[0])
    tty = sys.stdin.isatty() and sys.stdout.isatty() and not flags.on("no-tty")
    config: Json = {
        "Cmd": words[1:],
        "Tty": tty,
        "User": flags.text("user"),
        "WorkingDir": flags.text("workdir"),
        "Privileged": flags.on("privileged"),
        "Env": environment(flags.list("env")),
    }
    if flags.on("detach"):
        exec_id = session.client.execs.create(item["Id"], config)
        session.client.execs.start(exec_id, detach=True, tty=False).read()
        return 0
    check_terminal(tty=tty, stdin=True)
    stdin = tty or flags.on("interactive", True)
    config |= {"AttachStdin": stdin, "AttachStdout": True, "AttachStderr": True}
    return talk(session, item["Id"], config, b"")


def _replica(items: list[Json], flags: Flags, service: str) -> Json:
    if not flags.given("index"):
        return items[0]
    wanted = str(flags.number("index"))
    for item in items:
        if label_of(item, NUMBER) == wanted:
            return item
    numbers = ", ".join(label_of(item, NUMBER) for item in items)
    raise NotFound(f"service '{service}' has no replica {wanted}", hint=f"there are: {numbers}")


def pull_services(session: Session, project: Project, names: Iterable[str]) -> None:
    """Pull the images of services that are not built here."""
    for name in names:
        if project.services[name].build is None:
            repository, tag = split_reference(project.image_of(name))
            show(session.client.images.pull(repository, tag))


def _pull(session: Session, flags: Flags, words: list[str]) -> int:
    project = project_of(session)
    pull_services(session, project, words or list(project.services))
    return 0


COMMANDS = {
    "compose start": Command(
        _start,
        usage="[SERVICE...]",
        summary="Start the containers that are there",
        complete="service",
        see=("compose up", "compose stop"),
    ),
    "compose stop": Command(
        _stop,
        usage="[SERVICE...]",
        summary="Stop containers, keep them",
        options=(_TIMEOUT,),
        complete="service",
        see=("compose start", "compose down"),
    ),
    "compose restart": Command(
        _restart,
        usage="[SERVICE...]",
        summary="Stop containers and start them again",
        options=(_TIMEOUT,),
        complete="service",
        see=("compose up",),
    ),
    "compose kill": Command(
        _kill,
        usage="[SERVICE...]",
        summary="Send a signal to containers",
        options=(("signal", "s", "text", "SIGNAL", "Signal to send (default KILL)"),),
        complete="service",
        see=("compose stop",),
    ),
    "compose pause": Command(
        _pause,
        usage="[SERVICE...]",
        summary="Freeze containers",
        complete="service",
        see=("compose unpause",),
    ),
    "compose unpause": Command(
        _unpause,
        usage="[SERVICE...]",
        summary="Let frozen containers go on",
        complete="service",
        see=("compose pause",),
    ),
    "compose rm": Command(
        _remove,
        usage="[SERVICE...]",
        summary="Remove stopped containers",
        options=(
            ("force", "f", "flag", "", "Don't ask"),
            ("stop", "s", "flag", "", "Stop them first"),
            ("volumes", "v", "flag", "", "Their unnamed volumes as well"),
        ),
        complete="service",
        see=("compose down",),
    ),
    "compose exec": Command(
        _exec,
        usage="SERVICE COMMAND [ARG...]",
        summary="Run a command in a container of a service",
        options=(
            ("detach", "d", "flag", "", "In the background"),
            ("env", "e", "list", "NAME[=VALUE]", "Set a variable"),
            _INDEX,
            ("interactive", "i", "flag", "", "Send it what is typed (default true)"),
            ("no-tty", "T", "flag", "", "No terminal (as when stdin is none)"),
            ("privileged", "", "flag", "", "With nearly all rights"),
            ("user", "u", "text", "USER", "Run as this user"),
            ("workdir", "w", "text", "PATH", "Working directory"),
        ),
        least=2,
        interspersed=False,
        complete="service",
        examples=(
            ("compose exec db psql -U postgres", "talk to the database"),
            ("compose exec --index 2 app cat /proc/1/status", "the second replica"),
        ),
        see=("exec", "compose logs"),
    ),
    "compose pull": Command(
        _pull,
        usage="[SERVICE...]",
        summary="Fetch the images of services",
        complete="service",
        see=("pull", "compose build"),
    ),
}
