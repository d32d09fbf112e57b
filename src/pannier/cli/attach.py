"""Joining a container that exists: start, attach, console."""

from __future__ import annotations

import sys
from contextlib import suppress

from pannier.base import jsonlite
from pannier.base.errors import Conflict, InvalidArgument, NotModified, Unavailable
from pannier.cli.command import Command
from pannier.cli.conversation import Remote, check_terminal, converse, detach_keys
from pannier.cli.each import each
from pannier.cli.flags import Flags, Option
from pannier.cli.session import Session
from pannier.client.bare import Response
from pannier.client.relay import Relay, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_KEYS: Option = ("detach-keys", "", "text", "KEYS", "Keys that let go (default ctrl-p,ctrl-q)")
_PROXY: Option = ("sig-proxy", "", "flag", "", "Pass signals on to the process (default true)")
_NO_STDIN: Option = ("no-stdin", "", "flag", "", "Only watch")


def _start(session: Session, flags: Flags, words: list[str]) -> int:
    attach = flags.on("attach") or flags.on("interactive")
    if not attach:
        return each(words, session.client.containers.start)
    if len(words) > 1:
        raise InvalidArgument("you cannot start and attach multiple containers at once")
    facts = session.client.containers.inspect(words[0])
    stdin = flags.on("interactive") and bool(facts["Config"].get("OpenStdin"))
    return join(session, flags, facts, stdin=stdin, start=True)


def _attach(session: Session, flags: Flags, words: list[str]) -> int:
    facts = session.client.containers.inspect(words[0])
    _check_running(facts, words[0])
    stdin = not flags.on("no-stdin") and bool(facts["Config"].get("OpenStdin"))
    return join(session, flags, facts, stdin=stdin)


def _console(session: Session, flags: Flags, words: list[str]) -> int:
    facts = session.client.containers.inspect(words[0])
    _check_running(facts, words[0])
    if not facts["Config"].get("Tty"):
        raise Conflict(
            f"container {words[0]} has no console",
            hint=f"look at its output with: pannier logs -f {words[0]}",
        )
    name = facts["Name"].removeprefix("/")
    sys.stderr.write(f"The console of {name}; leave it with ctrl-p ctrl-q.\n")
    sys.stderr.flush()
    _show_prompt(session, str(facts["Id"]))
    return join(session, flags, facts, stdin=True)


def _show_prompt(session: Session, container_id: str) -> None:
    """The line that the console stands on: its ``login:`` was written before we came."""
    from pannier.cli.logs import frames  # noqa: PLC0415 - a small part of it

    response = session.client.containers.logs(container_id, {"stdout": True, "tail": "1"})
    line = b"".join(data for _, data in frames(response))
    if not line.endswith(b"\n"):
        write_all(1, line)


def _check_running(facts: dict[str, Any], name: str) -> None:
    if not facts["State"]["Running"]:
        verb = "boot" if facts["HostConfig"]["Runtime"] == "os" else "start -ai"
        raise Conflict(
            "You cannot attach to a stopped container, start it first",
            hint=f"pannier {verb} {name}",
        )
    if facts["State"].get("Paused"):
        raise Conflict(
            "You cannot attach to a paused container, unpause it first",
            hint=f"pannier unpause {name}",
        )


def join(
    session: Session, flags: Flags, facts: dict[str, Any], *, stdin: bool, start: bool = False
) -> int:
    """Attach, start if asked, relay until the end; returns the container's exit status."""
    containers, container_id = session.client.containers, str(facts["Id"])
    tty = bool(facts["Config"].get("Tty"))
    check_terminal(tty=tty, stdin=stdin)
    response = containers.attach(container_id, stdin=stdin, keys=flags.text("detach-keys"))
    # Asked before the start: an exit in between is then not missed.
    waiting = containers.begin_wait(container_id, condition="next-exit" if start else "")
    remote = Remote(session, f"/containers/{container_id}")
    if start:
        with suppress(NotModified):  # it runs already: its next exit is what we wait for
            containers.start(container_id)
    if tty:
        remote.resize(redraw=not start)
    relay = converse(
        response.connection,
        remote,
        framed=not tty,
        tty=tty,
        stdin=stdin,
        signals=flags.on("sig-proxy", True),
        keys=detach_keys(flags),
    )
    return _outcome(relay, waiting)


def _outcome(relay: Relay, waiting: Response) -> int:
    if relay.detached:
        sys.stderr.write("read escape sequence\n")
        return 0
    try:
        return int(jsonlite.decode(waiting.read())["StatusCode"])
    except ConnectionError as error:
        raise Unavailable(
            "the connection to the engine was lost; the container goes on without us",
        ) from error


COMMANDS = {
    "start": Command(
        _start,
        usage="CONTAINER...",
        summary="Start containers that are there",
        options=(
            ("attach", "a", "flag", "", "Show its output and end with its exit status"),
            ("interactive", "i", "flag", "", "Send it what is typed"),
            _KEYS,
            _PROXY,
        ),
        least=1,
        complete="container",
        examples=(("start web db", "in the background"), ("start -ai job", "and talk to it")),
        see=("run", "stop", "attach"),
    ),
    "attach": Command(
        _attach,
        usage="CONTAINER",
        summary="Join the streams of a running container",
        options=(_KEYS, _PROXY, _NO_STDIN),
        least=1,
        most=1,
        complete="running",
        examples=(("attach job", "ctrl-p ctrl-q leaves it running if it has a terminal"),),
        see=("logs", "exec", "console"),
    ),
    "console": Command(
        _console,
        usage="CONTAINER",
        summary="Join the console of an OS container",
        options=(_KEYS,),
        least=1,
        most=1,
        complete="running",
        examples=(("console vm1", "log in as on a machine; ctrl-p ctrl-q leaves it"),),
        see=("shell", "boot", "attach"),
        notes="""The console is the terminal that the init and its login prompt use. For a shell
        without logging in there is `pannier shell`.""",
    ),
}
