"""Files of containers: cp, export, commit."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from pannier.base import jsonlite
from pannier.base.errors import InvalidArgument, NotFound
from pannier.base.units import format_size
from pannier.cli.command import Command
from pannier.cli.flags import Flags
from pannier.cli.session import Session
from pannier.cli.transfer import read_pieces, split_reference, write_body
from pannier.client import tarball
from pannier.client.bare import Response

_GO_DIRECTORY = 1 << 31  # os.ModeDir of Go's FileMode, which the API sends
_GO_SYMLINK = 1 << 27


def _split(text: str) -> tuple[str, str]:
    """``CONTAINER:PATH`` -> both; a local path gives "" first. As Docker: ./x:y is a file."""
    if os.path.isabs(text) or text.startswith("."):
        return "", text
    container, colon, path = text.partition(":")
    return (container, path) if colon else ("", text)


def _copy(session: Session, flags: Flags, words: list[str]) -> int:
    source, target = _split(words[0]), _split(words[1])
    if source[0] and target[0]:
        raise InvalidArgument(
            "copying between containers is not supported", hint="by way of a file"
        )
    if not source[0] and not target[0]:
        raise InvalidArgument(
            "must specify at least one container source", hint="pannier cp web:/etc/hosts ."
        )
    if source[0]:
        _copy_out(session, flags, source, words[1])
    else:
        _copy_in(session, flags, words[0], target)
    return 0


def _stat(header: str) -> dict[str, Any]:
    facts: dict[str, Any] = jsonlite.decode(base64.b64decode(header)) if header else {}
    return facts


def _copy_out(session: Session, flags: Flags, source: tuple[str, str], target: str) -> None:
    container, path = source
    path = "/" + path.lstrip("/")
    contents = path.endswith("/.")
    asked = path[:-1] if contents else path
    response = session.client.containers.get_archive(container, asked)
    facts = _stat(response.headers.get("x-docker-container-path-stat", ""))
    if flags.on("follow-link") and facts.get("mode", 0) & _GO_SYMLINK:
        response.connection.close()
        linked = os.path.join(os.path.dirname(path), facts["linkTarget"])
        response = session.client.containers.get_archive(container, linked)
        facts = _stat(response.headers.get("x-docker-container-path-stat", ""))
    if target == "-":
        write_body(response, "-", what="a tar")
        return
    directory = bool(facts.get("mode", 0) & _GO_DIRECTORY)
    base = os.path.basename(asked.rstrip("/"))
    place, rename = _local_place(target, base, directory=directory, contents=contents)
    pieces = _checked(response)
    written = tarball.unpack(pieces, place, rename, owner=flags.on("archive"))
    if not flags.on("quiet"):
        sys.stderr.write(f"Copied {format_size(written)} to {target}\n")


def _checked(response: Response) -> Iterator[bytes]:
    yield from response.chunks()


def _local_place(
    target: str, base: str, *, directory: bool, contents: bool
) -> tuple[str, Callable[[str], str | None]]:
    """Where to unpack, and what becomes of the entries' names; the rules of cp -r.

    Raises:
        NotFound: the directory to put it in is missing.
        InvalidArgument: a directory would replace a file.
    """
    if os.path.isdir(target):
        if directory and contents:
            return target, _without_top
        return target, lambda name: _renamed(name, base)
    if os.path.exists(target) and directory:
        raise InvalidArgument(f"cannot copy a directory over the file {target}")
    parent, name = os.path.split(target.rstrip("/"))
    if not os.path.isdir(parent or "."):
        raise NotFound(f"invalid output path: directory {parent} does not exist")
    if target.endswith("/") and not directory:
        raise NotFound(f"no such directory: {target}")
    return parent or ".", lambda entry: _renamed(entry, name)


def _without_top(name: str) -> str | None:
    return name.partition("/")[2] or None


def _renamed(name: str, top: str) -> str:
    _, slash, rest = name.rstrip("/").partition("/")
    return top + slash + rest


def _copy_in(session: Session, flags: Flags, source: str, target: tuple[str, str]) -> None:
    container, path = target
    path = "/" + path.lstrip("/")
    if source == "-":
        _put(session, flags, container, path, read_pieces("-"))
        return
    contents = source.endswith("/.") or source == "."
    if not os.path.lexists(source):
        raise NotFound(f"lstat {source}: no such file or directory")
    if flags.on("follow-link"):
        source = os.path.realpath(source)
    directory = os.path.isdir(source) and (contents or not os.path.islink(source))
    base = os.path.basename(os.path.abspath(source))
    place, name = _remote_place(
        session, container, path, base, directory=directory, contents=contents
    )
    pieces = tarball.tree(source, name, owner=flags.on("archive"), follow=contents)
    _put(session, flags, container, place, pieces)
    if not flags.on("quiet"):
        sys.stderr.write(f"Copied {source} to {container}:{target[1]}\n")


def _remote_place(
    session: Session, container: str, path: str, base: str, *, directory: bool, contents: bool
) -> tuple[str, str]:
    """The container's directory to unpack in, and the name of the top entry there."""
    facts = _remote_stat(session, container, path)
    if facts is not None and facts.get("mode", 0) & _GO_SYMLINK:
        path = os.path.normpath(os.path.join(os.path.dirname(path), facts["linkTarget"]))
        facts = _remote_stat(session, container, path)
    parent, name = os.path.split(path.rstrip("/"))
    if facts is None:
        if path.endswith("/") and not directory:
            raise NotFound(f"no such directory: {container}:{path}")
        return parent or "/", name
    if facts.get("mode", 0) & _GO_DIRECTORY:
        return path, "." if directory and contents else base
    if directory:
        raise InvalidArgument(f"cannot copy a directory over the file {container}:{path}")
    return parent or "/", name


def _remote_stat(session: Session, container: str, path: str) -> dict[str, Any] | None:
    try:
        return _stat(session.client.containers.stat_archive(container, path))
    except NotFound:
        session.client.containers.inspect(container)  # a missing container is an error
        return None


def _put(
    session: Session, flags: Flags, container: str, path: str, pieces: Iterator[bytes]
) -> None:
    session.client.containers.put_archive(
        container, path, pieces, keep_kind=True, copy_ids=flags.on("archive")
    )


def _export(session: Session, flags: Flags, words: list[str]) -> int:
    response = session.client.containers.export(words[0])
    write_body(response, flags.text("output"), what="a file system")
    return 0


def _commit(session: Session, flags: Flags, words: list[str]) -> int:
    name, tag = split_reference(words[1]) if len(words) > 1 else ("", "")
    arguments = {
        "repo": name,
        "tag": tag,
        "comment": flags.text("message"),
        "author": flags.text("author"),
        "changes": flags.list("change"),
        "pause": "1" if flags.on("pause", True) else "0",
    }
    sys.stdout.write(session.client.containers.commit(words[0], arguments) + "\n")
    return 0


COMMANDS = {
    "cp": Command(
        _copy,
        usage="CONTAINER:PATH|PATH|- PATH|CONTAINER:PATH|-",
        summary="Copy files between a container and this host",
        options=(
            ("archive", "a", "flag", "", "Keep owner and group"),
            ("follow-link", "L", "flag", "", "Copy what a link points to"),
            ("quiet", "q", "flag", "", "Don't say what was copied"),
        ),
        least=2,
        most=2,
        complete="container",
        examples=(
            ("cp web:/etc/nginx/nginx.conf .", "out of it; it need not run"),
            ("cp site/. web:/var/www/html", "the contents of a directory, into it"),
            ("cp web:/var/log - | tar t", "as a tar on stdout"),
        ),
        see=("diff", "export", "exec"),
    ),
    "export": Command(
        _export,
        usage="CONTAINER",
        summary="Write a container's file system as a tar",
        options=(("output", "o", "text", "FILE", "Write here instead of to stdout"),),
        least=1,
        most=1,
        complete="container",
        examples=(("export job -o job.tar", "without volumes"),),
        see=("import", "cp", "commit"),
    ),
    "commit": Command(
        _commit,
        usage="CONTAINER [NAME[:TAG]]",
        summary="Make an image of what changed in a container",
        options=(
            ("author", "a", "text", "NAME", "Who made it"),
            ("change", "c", "list", "INSTRUCTION", "Apply a Dockerfile instruction"),
            ("message", "m", "text", "TEXT", "Comment for the history"),
            ("pause", "p", "flag", "", "Pause it meanwhile (default true)"),
        ),
        least=1,
        most=2,
        complete="container",
        examples=(("commit -c 'CMD [\"nginx\"]' trial web:trial", "what was tried by hand"),),
        see=("build", "diff", "history"),
    ),
}
