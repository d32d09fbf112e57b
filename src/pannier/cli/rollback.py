"""``rollback``: a container or a service of a stack goes back to its previous image."""

from __future__ import annotations

import sys

from pannier.base.errors import NotFound
from pannier.cli.command import Command
from pannier.cli.flags import Flags
from pannier.cli.progress import Board
from pannier.cli.session import Session
from pannier.cli.stack_events import follow


def _rollback(session: Session, flags: Flags, words: list[str]) -> int:
    undo = flags.on("undo")
    for word in words:
        stack, service = _service(session, word)
        if stack:
            body = {"Services": [service], "Undo": undo}
            follow(session.client.stacks.act(stack, "rollback", body), Board())
            continue
        result = session.client.containers.rollback(word, undo=undo)
        sys.stdout.write(f"{word}: now {result.get('Image', 'rolled back')}\n")
    return 0


def _service(session: Session, word: str) -> tuple[str, str]:
    """Stack and service that *word* names; ("", "") when it is a container.

    Raises:
        NotFound: neither.
    """
    try:
        session.client.containers.inspect(word)
        return "", ""
    except NotFound:
        pass
    stack, _, name = word.rpartition("/")
    found = [
        (str(status["Name"]), name)
        for status in session.client.stacks.list()
        if stack in {"", status["Name"]}
        and any(service["Name"] == name for service in status.get("Services") or [])
    ]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"{stack}/{name}" for stack, name in found)
        raise NotFound(f"several stacks have a service '{name}'", hint=f"say which: {names}")
    raise NotFound(f"No such container or service: {word}", hint="pannier ps, pannier compose ls")


COMMANDS = {
    "rollback": Command(
        _rollback,
        usage="CONTAINER|SERVICE...",
        summary="Go back to the previous image; name, address, ports and volumes stay",
        options=(("undo", "", "flag", "", "Go forth again"),),
        least=1,
        complete="container",
        examples=(
            ("rollback app", "a service: its replicas are replaced one after the other"),
            ("rollback shop/app", "when several stacks have a service of that name"),
            ("rollback web", "a container"),
            ("rollback --undo web", "it was not that bad after all"),
        ),
        see=("compose rollback", "compose up", "history"),
        notes="""What it costs does not depend on the size of the image: nothing is copied.""",
    )
}
