"""``build``: a Dockerfile and a directory -> an image; ``builder prune``."""

from __future__ import annotations

import os
import sys

from pannier.base.errors import Internal, InvalidArgument, Unsupported
from pannier.base.units import format_size, parse_size
from pannier.cli.command import Command
from pannier.cli.each import confirm
from pannier.cli.flags import Flags, Option
from pannier.cli.progress import show
from pannier.cli.run_values import pairs
from pannier.cli.session import Session
from pannier.client.context import Context, from_directory, from_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

_IGNORED = ("force-rm", "rm", "load", "compress", "squash", "disable-content-trust")
_TAR_MAGIC = b"ustar"
_MAGICS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd
_HEAD = 512

OPTIONS: tuple[Option, ...] = (
    ("add-host", "", "list", "NAME:IP", "Add a line to /etc/hosts of RUN steps"),
    ("build-arg", "", "list", "NAME[=VALUE]", "Value of an ARG; alone it takes the caller's"),
    ("file", "f", "text", "FILE", "Dockerfile (default: Dockerfile in the directory; - is stdin)"),
    ("host-ca", "", "flag", "", "Trust the host's certificate authorities in RUN steps"),
    ("iidfile", "", "text", "FILE", "Write the image's id to a file"),
    ("label", "", "list", "KEY=VALUE", "Attach a label to the image"),
    ("network", "", "text", "MODE", "Network of RUN steps: default, none or host"),
    ("no-cache", "", "flag", "", "Do every step again"),
    ("platform", "", "text", "OS/ARCH", "Must be this host's"),
    ("progress", "", "text", "MODE", "auto or plain"),
    ("pull", "", "flag", "", "Ask the registry for newer base images"),
    ("quiet", "q", "flag", "", "Print the image's id only"),
    ("shm-size", "", "text", "SIZE", "Size of /dev/shm in RUN steps"),
    ("tag", "t", "list", "NAME[:TAG]", "Name of the image; may be repeated"),
    ("target", "", "text", "STAGE", "Build up to this stage"),
    *((name, "", "flag", "", "Accepted for Docker's sake, no effect") for name in _IGNORED),
)


def build_arguments(values: list[str]) -> dict[str, str | None]:
    """``NAME`` alone takes the caller's value; the engine ignores it when there is none."""
    out: dict[str, str | None] = {}
    for value in values:
        name, equals, text = value.partition("=")
        out[name] = text if equals else os.environ.get(name)
    return out


def _build(session: Session, flags: Flags, words: list[str]) -> int:
    query: dict[str, Any] = {
        "t": flags.list("tag"),
        "buildargs": build_arguments(flags.list("build-arg")) or None,
        "labels": pairs(flags.list("label")) or None,
        "target": flags.text("target"),
        "networkmode": flags.text("network"),
        "nocache": flags.on("no-cache"),
        "pull": flags.on("pull"),
        "hostca": flags.on("host-ca"),
        "extrahosts": ",".join(flags.list("add-host")),
        "shmsize": parse_size(flags.text("shm-size")) if flags.given("shm-size") else None,
        "platform": flags.text("platform"),
        "q": flags.on("quiet"),
    }
    context = _context(words[0], flags.text("file"))
    image_id = run_build(session, context, query, quiet=flags.on("quiet"))
    if flags.given("iidfile"):
        with open(flags.text("iidfile"), "w", encoding="ascii") as stream:
            stream.write(image_id)
    if flags.on("quiet"):
        sys.stdout.write(f"{image_id}\n")
    return 0


def run_build(session: Session, context: Context, query: dict[str, Any], *, quiet: bool) -> str:
    """Send a context, show how the build goes on, return the image's id.

    Raises:
        PannierError: a step failed, or the Dockerfile cannot be used.
    """
    counted = _Counted(context.pieces)
    query = {**query, "dockerfile": context.dockerfile}
    messages = session.client.images.build(counted, query)
    result = show(_after_first(messages, counted, quiet=quiet), quiet=quiet)
    if not result.get("ID"):
        raise Internal("the build ended without an image")
    return str(result["ID"])


class _Counted:
    """Pieces, and how many bytes have gone by."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.size += len(piece)
            yield piece


def _after_first(
    messages: Iterator[dict[str, Any]], counted: _Counted, *, quiet: bool
) -> Iterator[dict[str, Any]]:
    """Say how much was sent, once the engine has it."""
    for number, message in enumerate(messages):
        if number == 0 and not quiet:
            sys.stdout.write(f"Sent build context of {format_size(counted.size)}\n")
        yield message


def _context(place: str, dockerfile: str) -> Context:
    """The build context that *place* names: a directory, or stdin.

    Raises:
        PannierError: it cannot be used.
    """
    if place.startswith(("http://", "https://", "git@", "git://", "github.com/")):
        raise Unsupported(
            f"a remote build context is not supported: {place}",
            hint="fetch it, and build from the directory",
        )
    if place != "-":
        text = sys.stdin.buffer.read() if dockerfile == "-" else None
        return from_directory(place, "" if text is not None else dockerfile, text)
    if dockerfile == "-":
        raise InvalidArgument("can't use stdin for both build context and dockerfile")
    if sys.stdin.isatty():
        raise InvalidArgument("there is nothing on stdin", hint="pannier build - < Dockerfile")
    head = sys.stdin.buffer.read(_HEAD)
    if head.startswith(_MAGICS) or head[257:262] == _TAR_MAGIC:
        return Context(_stdin(head), dockerfile or "Dockerfile")
    return from_text(head + sys.stdin.buffer.read())


def _stdin(head: bytes) -> Iterator[bytes]:
    yield head
    while piece := sys.stdin.buffer.read(256 * 1024):
        yield piece


def _prune(session: Session, flags: Flags, words: list[str]) -> int:
    question = "WARNING! This will remove all build cache that no image uses."
    if not flags.on("force") and not confirm(question):
        return 0
    from pannier.cli.tables import parse_filters  # noqa: PLC0415 - not for builds

    filters = parse_filters(flags.list("filter"))
    keep = parse_size(flags.text("keep-storage")) if flags.given("keep-storage") else 0
    answer = session.client.images.prune_builds(filters, all=flags.on("all"), keep=keep)
    for name in answer.get("CachesDeleted") or []:
        sys.stdout.write(f"{name}\n")
    sys.stdout.write(f"Total reclaimed space: {format_size(answer.get('SpaceReclaimed', 0))}\n")
    return 0


COMMANDS = {
    "build": Command(
        _build,
        usage="DIRECTORY|-",
        summary="Build an image from a Dockerfile",
        options=OPTIONS,
        least=1,
        most=1,
        complete="file",
        examples=(
            ("build -t web:1 .", "the Dockerfile in this directory"),
            ("build -t web:1 -f deploy/Dockerfile --build-arg VERSION=3 .", "another one"),
            ("build -t tool - < Dockerfile", "only a Dockerfile, no files"),
        ),
        see=("run", "images", "history", "builder prune"),
        notes="""Files named in .dockerignore are not sent. A step that was done before with the
        same files is taken from the cache.""",
    ),
    "builder prune": Command(
        _prune,
        summary="Remove what builds have cached",
        options=(
            ("all", "a", "flag", "", "What is in use as well"),
            ("filter", "", "list", "KEY=VALUE", "Accepted for Docker's sake"),
            ("force", "f", "flag", "", "Don't ask"),
            ("keep-storage", "", "text", "SIZE", "Keep so much"),
        ),
        most=0,
        see=("system df", "system prune"),
    ),
}
