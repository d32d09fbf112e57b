"""Images in and out: pull, push, save, load, import, image bootstrap, login."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from pannier.base.errors import InvalidArgument, NotFound, PannierError
from pannier.cli.command import Command
from pannier.cli.flags import Flags, Option
from pannier.cli.progress import show
from pannier.cli.session import Session
from pannier.client.bare import Response

_BLOCK = 256 * 1024
_BOOTSTRAPPED = ("debian", "ubuntu")
_PLATFORM: Option = ("platform", "", "text", "OS/ARCH", "Of an image for several platforms")
_QUIET: Option = ("quiet", "q", "flag", "", "Don't show how it goes on")


def split_reference(text: str) -> tuple[str, str]:
    """``name:tag`` or ``name@digest`` -> name and tag ("latest" when there is none)."""
    name, at, digest = text.partition("@")
    if at:
        return (name, digest) if ":" in digest else (text, "")  # the engine refuses the latter
    head, slash, last = text.rpartition("/")
    last, colon, tag = last.partition(":")
    return head + slash + last, tag if colon else "latest"


def pull_for_run(session: Session, image: str, *, platform: str, quiet: bool) -> None:
    """Pull an image that is needed now; progress goes to stderr, as stdout is the container's.

    Raises:
        NotFound: with Docker's words and how images are had.
    """
    sys.stderr.write(f"Unable to find image '{image}' locally\n")
    sys.stderr.flush()
    name, tag = split_reference(image)
    try:
        messages = session.client.images.pull(name, tag, platform=platform)
        show(messages, quiet=quiet, out=sys.stderr)
    except PannierError as error:
        hint = error.hint or "pannier images shows what is here"
        if name.rpartition("/")[2] in _BOOTSTRAPPED:
            hint = f"make it from signed packages: pannier image bootstrap {_with_release(image)}"
        raise NotFound(
            f"No such image: {image} (pulling it failed: {error.message})", hint=hint
        ) from error


def _with_release(image: str) -> str:
    """Without a release and ``-os`` there is nothing to be made."""
    name, tag = split_reference(image)
    release = tag.removesuffix("-os") if tag != "latest" else "12"
    return f"{name}:{release}" + (" --init systemd" if tag.endswith("-os") else "")


def check_platform(session: Session, image: str, wanted: str) -> None:
    """An image that is here must be for the platform asked for.

    Raises:
        NotFound: it is for another one.
    """
    try:
        facts = session.client.images.inspect(image)
    except NotFound:
        return  # it will be pulled for that platform
    parts = [facts.get("Os"), facts.get("Architecture"), facts.get("Variant")]
    found = "/".join(part for part in parts if part)
    if not (found + "/").startswith(wanted.rstrip("/") + "/"):
        raise NotFound(
            f"image with reference {image} was found but its platform ({found}) does not match "
            f"the specified platform ({wanted})",
            hint="a container shares this host's kernel and cannot run programs for another one",
        )


def _pull(session: Session, flags: Flags, words: list[str]) -> int:
    name, tag = split_reference(words[0])
    if "@" not in words[0] and not words[0].endswith(":" + tag) and not flags.on("quiet"):
        sys.stdout.write("Using default tag: latest\n")
    show(
        session.client.images.pull(name, tag, platform=flags.text("platform")),
        quiet=flags.on("quiet"),
    )
    if flags.on("quiet"):
        sys.stdout.write(f"{name}:{tag}\n")
    return 0


def _push(session: Session, flags: Flags, words: list[str]) -> int:
    name, tag = split_reference(words[0])
    show(session.client.images.push(name, tag), quiet=flags.on("quiet"))
    return 0


def write_body(response: Response, path: str, *, what: str) -> None:
    """Write an answer's body to a file (in one step) or to stdout.

    Raises:
        InvalidArgument: stdout is a terminal.
    """
    if not path or path == "-":
        if sys.stdout.isatty():
            raise InvalidArgument(
                f"cowardly refusing to write {what} to a terminal",
                hint="use -o FILE, or redirect the output",
            )
        for piece in response.chunks():
            sys.stdout.buffer.write(piece)
        sys.stdout.flush()
        return
    temporary = f"{path}.part-{os.getpid()}"
    try:
        with open(temporary, "wb") as stream:
            for piece in response.chunks():
                stream.write(piece)
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def read_pieces(path: str) -> Iterator[bytes]:
    """A file, or stdin for ``-`` and "".

    Raises:
        NotFound: no such file.
        InvalidArgument: stdin is a terminal.
    """
    if path in {"", "-"}:
        if sys.stdin.isatty():
            raise InvalidArgument("there is nothing on stdin", hint="use -i FILE, or a pipe")
        while piece := os.read(0, _BLOCK):
            yield piece
        return
    try:
        stream = open(path, "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        raise NotFound(f"open {path}: no such file or directory") from None
    with stream:
        while piece := stream.read(_BLOCK):
            yield piece


def _save(session: Session, flags: Flags, words: list[str]) -> int:
    write_body(session.client.images.save(words), flags.text("output"), what="an image")
    return 0


def _load(session: Session, flags: Flags, words: list[str]) -> int:
    path = flags.text("input")
    if path and path != "-" and not os.path.exists(path):
        raise NotFound(f"open {path}: no such file or directory")
    show(session.client.images.load(read_pieces(path)), quiet=False)
    return 0


def _import(session: Session, flags: Flags, words: list[str]) -> int:
    name, tag = split_reference(words[1]) if len(words) > 1 else ("", "")
    if words[0] != "-" and not os.path.exists(words[0]):
        raise NotFound(f"open {words[0]}: no such file or directory")
    show(
        session.client.images.import_tar(
            read_pieces(words[0]),
            name,
            tag,
            message=flags.text("message"),
            changes=flags.list("change"),
        )
    )
    return 0


def _bootstrap(session: Session, flags: Flags, words: list[str]) -> int:
    messages = session.client.images.bootstrap(
        words[0], mirror=flags.text("mirror"), init=flags.text("init")
    )
    result = show(messages, quiet=flags.on("quiet"))
    if flags.on("quiet") and result.get("ID"):
        sys.stdout.write(f"{result['ID']}\n")
    return 0


def _login(session: Session, flags: Flags, words: list[str]) -> int:
    password = flags.text("password")
    if flags.on("password-stdin"):
        password = sys.stdin.read().rstrip("\r\n")
    if not (flags.text("username") and password):
        raise InvalidArgument(
            "a user name and a password are needed",
            hint="echo PASSWORD | pannier login -u NAME --password-stdin SERVER",
        )
    answer = session.client.images.login(
        flags.text("username"), password, words[0] if words else ""
    )
    sys.stdout.write(f"{answer.get('Status', 'Login Succeeded')}\n")
    return 0


COMMANDS = {
    "pull": Command(
        _pull,
        usage="NAME[:TAG|@DIGEST]",
        summary="Fetch an image from a registry",
        options=(_PLATFORM, _QUIET),
        least=1,
        most=1,
        complete="image",
        examples=(("pull 127.0.0.1:5000/shop/web:2", "from a registry on this host"),),
        see=("image bootstrap", "images", "push"),
    ),
    "push": Command(
        _push,
        usage="NAME[:TAG]",
        summary="Send an image to a registry",
        options=(_QUIET,),
        least=1,
        most=1,
        complete="image",
        examples=(("push 127.0.0.1:5000/shop/web:2", "name it so with `pannier tag` first"),),
        see=("pull", "tag"),
    ),
    "save": Command(
        _save,
        usage="IMAGE...",
        summary="Write images to a tar file",
        options=(("output", "o", "text", "FILE", "Write here instead of to stdout"),),
        least=1,
        complete="image",
        examples=(("save -o shop.tar web:2 db:1", "to carry them elsewhere"),),
        see=("load", "export"),
    ),
    "load": Command(
        _load,
        summary="Read images from a tar file",
        options=(("input", "i", "text", "FILE", "Read this instead of stdin"), _QUIET),
        most=0,
        complete="file",
        examples=(("load -i shop.tar", "of pannier save or docker save"),),
        see=("save", "import"),
    ),
    "import": Command(
        _import,
        usage="FILE|- [NAME[:TAG]]",
        summary="Make an image from a tar of a file system",
        options=(
            ("change", "c", "list", "INSTRUCTION", "Apply a Dockerfile instruction"),
            ("message", "m", "text", "TEXT", "Comment for the history"),
        ),
        least=1,
        most=2,
        complete="file",
        examples=(("import rootfs.tar mine:1", "one layer, no history"),),
        see=("export", "load", "build"),
    ),
    "image bootstrap": Command(
        _bootstrap,
        usage="DISTRIBUTION:RELEASE",
        summary="Make a base image from a distribution's signed packages",
        options=(
            ("init", "", "text", "INIT", "Add an init for OS containers: systemd"),
            ("mirror", "", "text", "URL", "Archive to use (default: this host's)"),
            _QUIET,
        ),
        least=1,
        most=1,
        examples=(
            ("image bootstrap debian:12", "for app containers"),
            ("image bootstrap debian:12 --init systemd", "debian:12-os, for `pannier boot`"),
        ),
        see=("boot", "images", "build"),
        notes="""Signatures are checked with the distribution's keys. Needs mmdebstrap. Without
        --mirror the archive of the host's own apt configuration is used.""",
    ),
    "login": Command(
        _login,
        usage="[SERVER]",
        summary="Check a user name and password with a registry",
        options=(
            ("password", "p", "text", "PASSWORD", "Visible to others on this host: prefer stdin"),
            ("password-stdin", "", "flag", "", "Read the password from stdin"),
            ("username", "u", "text", "NAME", "User name"),
        ),
        most=1,
        see=("pull", "push"),
    ),
}
