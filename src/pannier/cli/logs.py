"""``logs``: what a container wrote."""

from __future__ import annotations

from collections.abc import Iterator

from pannier.base.errors import InvalidArgument
from pannier.cli.command import Command
from pannier.cli.flags import Flags, Option
from pannier.cli.session import Session
from pannier.client.bare import Response
from pannier.client.relay import write_all

_HEADER = 8
OPTIONS: tuple[Option, ...] = (
    ("details", "", "flag", "", "Accepted for Docker's sake, no effect"),
    ("follow", "f", "flag", "", "Go on as more is written"),
    ("since", "", "text", "TIME", "From then on: 10m, 2026-01-02T15:04:05Z"),
    ("tail", "n", "text", "N", "Only the last N lines (default all)"),
    ("timestamps", "t", "flag", "", "Show when each line was written"),
    ("until", "", "text", "TIME", "Up to then"),
)


def arguments(flags: Flags) -> dict[str, object]:
    """The query of ``GET /containers/{id}/logs``.

    Raises:
        InvalidArgument: --tail is no number.
    """
    tail = flags.text("tail", "all")
    if tail != "all" and not tail.lstrip("-").isdigit():
        raise InvalidArgument(f"invalid value for --tail: {tail}", hint="a number, or all")
    return {
        "stdout": True,
        "stderr": True,
        "follow": flags.on("follow"),
        "timestamps": flags.on("timestamps"),
        "tail": "all" if tail.startswith("-") else tail,
        "since": flags.text("since"),
        "until": flags.text("until"),
    }


def frames(response: Response) -> Iterator[tuple[int, bytes]]:
    """Pieces with their stream; a terminal's output is not framed and all stdout."""
    if "raw-stream" in response.headers.get("content-type", ""):
        for piece in response.chunks():
            yield 1, piece
        return
    buffer = bytearray()
    for piece in response.chunks():
        buffer += piece
        while len(buffer) >= _HEADER:
            end = _HEADER + int.from_bytes(buffer[4:8], "big")
            if len(buffer) < end:
                break
            yield buffer[0], bytes(buffer[_HEADER:end])
            del buffer[:end]


def _logs(session: Session, flags: Flags, words: list[str]) -> int:
    response = session.client.containers.logs(words[0], arguments(flags))
    for stream, data in frames(response):
        write_all(2 if stream == 2 else 1, data)
    return 0


COMMANDS = {
    "logs": Command(
        _logs,
        usage="CONTAINER",
        summary="Show what a container wrote",
        options=OPTIONS,
        least=1,
        most=1,
        complete="container",
        examples=(
            ("logs -f web", "everything, and then what comes"),
            ("logs --since 10m --tail 100 web", "the last lines of the last ten minutes"),
            ("logs web 2>/dev/null", "only its standard output"),
        ),
        see=("attach", "compose logs", "events"),
        notes="""Standard output and error come out where they went in. Logs are kept within limits
        (10 MB, three files, unless --log-opt says otherwise).""",
    )
}
