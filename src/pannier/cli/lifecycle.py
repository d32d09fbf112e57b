"""What happens to containers: stop, kill, restart, pause, unpause, rename, rm, wait, prune."""

from __future__ import annotations

import sys

from pannier.base.errors import NotFound
from pannier.base.units import format_size
from pannier.cli.command import Command
from pannier.cli.each import confirm, each
from pannier.cli.flags import Flags, Option
from pannier.cli.session import Session
from pannier.cli.tables import parse_filters

_FORCE: Option = ("force", "f", "flag", "", "Don't ask")
_FILTER: Option = ("filter", "", "list", "KEY=VALUE", "Only those: until=24h, label=KEY=VALUE")
_WARNING = "WARNING! This will remove all stopped app containers."
_STOPPING: tuple[Option, ...] = (
    ("signal", "s", "text", "SIGNAL", "Signal that asks it to stop"),
    ("time", "t", "number", "SECONDS", "Wait so long before killing (-1: for ever)"),
    ("timeout", "", "number", "SECONDS", "Same as --time"),
)


def _timeout(flags: Flags) -> int | None:
    for name in ("time", "timeout"):
        if flags.given(name):
            return flags.number(name)
    return None


def _stop(session: Session, flags: Flags, words: list[str]) -> int:
    stop, timeout, signal = session.client.containers.stop, _timeout(flags), flags.text("signal")
    return each(words, lambda name: stop(name, timeout=timeout, signal=signal))


def _restart(session: Session, flags: Flags, words: list[str]) -> int:
    restart = session.client.containers.restart
    timeout, signal = _timeout(flags), flags.text("signal")
    return each(words, lambda name: restart(name, timeout=timeout, signal=signal))


def _kill(session: Session, flags: Flags, words: list[str]) -> int:
    kill, signal = session.client.containers.kill, flags.text("signal", "KILL")
    return each(words, lambda name: kill(name, signal=signal))


def _pause(session: Session, flags: Flags, words: list[str]) -> int:
    return each(words, session.client.containers.pause)


def _unpause(session: Session, flags: Flags, words: list[str]) -> int:
    return each(words, session.client.containers.unpause)


def _rename(session: Session, flags: Flags, words: list[str]) -> int:
    session.client.containers.rename(words[0], words[1])
    return 0


def _remove(session: Session, flags: Flags, words: list[str]) -> int:
    containers, force = session.client.containers, flags.on("force")

    def remove(name: str) -> None:
        try:
            containers.remove(name, force=force, volumes=flags.on("volumes"))
        except NotFound:
            if not force:  # with --force, gone is gone
                raise

    return each(words, remove)


def _wait(session: Session, flags: Flags, words: list[str]) -> int:
    return each(words, lambda name: str(session.client.containers.wait(name)))


def _prune(session: Session, flags: Flags, words: list[str]) -> int:
    if not flags.on("force") and not confirm(_WARNING):
        return 0
    answer = session.client.containers.prune(parse_filters(flags.list("filter")))
    deleted = answer.get("ContainersDeleted") or []
    if deleted:
        sys.stdout.write("Deleted Containers:\n" + "".join(f"{name}\n" for name in deleted) + "\n")
    freed = format_size(answer.get("SpaceReclaimed", 0))
    sys.stdout.write(f"Total reclaimed space: {freed}\n")
    return 0


COMMANDS = {
    "stop": Command(
        _stop,
        usage="CONTAINER...",
        summary="Stop containers: ask, wait, then kill",
        options=_STOPPING,
        least=1,
        complete="running",
        examples=(
            ("stop web db", "both, each with its own stop signal and time"),
            ("stop -t 60 db", "give it a minute to finish"),
        ),
        see=("kill", "start", "restart", "rm"),
        notes="""An OS container is asked to power off. An app container gets its stop signal (TERM
        unless the image says otherwise) and 10 seconds.""",
    ),
    "restart": Command(
        _restart,
        usage="CONTAINER...",
        summary="Stop containers and start them again",
        options=_STOPPING,
        least=1,
        complete="container",
        examples=(("restart web", "with the same address, ports and volumes"),),
        see=("stop", "start"),
    ),
    "kill": Command(
        _kill,
        usage="CONTAINER...",
        summary="Send a signal to the first process of containers",
        options=(("signal", "s", "text", "SIGNAL", "Signal to send (default KILL)"),),
        least=1,
        complete="running",
        examples=(
            ("kill -s HUP web", "many servers read their configuration again on HUP"),
            ("kill job", "end it at once"),
        ),
        see=("stop",),
    ),
    "pause": Command(
        _pause,
        usage="CONTAINER...",
        summary="Freeze all processes of containers",
        least=1,
        complete="running",
        examples=(("pause job", "it uses no CPU until: pannier unpause job"),),
        see=("unpause",),
    ),
    "unpause": Command(
        _unpause,
        usage="CONTAINER...",
        summary="Let paused containers go on",
        least=1,
        complete="running",
        examples=(("unpause job", "go on where it was"),),
        see=("pause",),
    ),
    "rename": Command(
        _rename,
        usage="CONTAINER NEW_NAME",
        summary="Give a container another name",
        least=2,
        most=2,
        complete="container",
        examples=(("rename web web-old", "the new name is known on its networks at once"),),
        see=("ps",),
    ),
    "rm": Command(
        _remove,
        usage="CONTAINER...",
        summary="Remove containers",
        options=(
            ("force", "f", "flag", "", "Kill it first if it runs; no error if there is none"),
            ("volumes", "v", "flag", "", "Remove its unnamed volumes as well"),
        ),
        least=1,
        complete="container",
        examples=(
            ("rm job", "a stopped one"),
            ("rm -f web", "also when it runs"),
            ("rm -f $(pannier ps -aq)", "all of them"),
        ),
        see=("stop", "container prune", "volume rm"),
        notes="Named volumes are never removed with a container.",
    ),
    "wait": Command(
        _wait,
        usage="CONTAINER...",
        summary="Wait until containers have ended and print their exit status",
        least=1,
        complete="running",
        examples=(("wait job", "prints 0 when all went well"),),
        see=("run", "logs"),
    ),
    "container prune": Command(
        _prune,
        summary="Remove all stopped app containers",
        options=(_FORCE, _FILTER),
        most=0,
        examples=(
            ("container prune -f --filter until=24h", "older than a day, no question"),
            ("container prune --filter kind=os", "systems that are powered off, with all in them"),
        ),
        see=("system prune", "rm"),
        notes="OS containers are kept: what changed in them is lost only by `pannier rm`.",
    ),
}
