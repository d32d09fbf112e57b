"""A build context: the files of a directory that a Dockerfile may use, as a tar."""

from __future__ import annotations

import os

from pannier.base.errors import InvalidArgument, NotFound
from pannier.base.ignore import Ignore, read_ignore
from pannier.client import tarball

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_DOCKERFILE = "Dockerfile"
_ADDED = ".pannier.Dockerfile"  # name in the tar for a Dockerfile that is not in the directory


class Context:
    """What is sent: pieces of a tar, and the Dockerfile's path in it."""

    __slots__ = ("dockerfile", "pieces")

    def __init__(self, pieces: Iterator[bytes], dockerfile: str) -> None:
        self.pieces = pieces
        self.dockerfile = dockerfile


def from_text(dockerfile: bytes) -> Context:
    """A context of nothing but a Dockerfile."""
    return Context(_only(dockerfile), _DOCKERFILE)


def _only(dockerfile: bytes) -> Iterator[bytes]:
    yield from tarball.add_bytes(_DOCKERFILE, dockerfile)
    yield tarball.end()


def from_directory(directory: str, dockerfile: str = "", text: bytes | None = None) -> Context:
    """The files of *directory* without those that .dockerignore names.

    Args:
        dockerfile: path of the Dockerfile, relative to the current directory or absolute;
            "" is ``Dockerfile`` in *directory*.
        text: the Dockerfile itself, instead of a path.

    Raises:
        NotFound: no such directory or Dockerfile.
    """
    if not os.path.isdir(directory):
        if os.path.exists(directory):
            raise InvalidArgument(
                f"the build context must be a directory: {directory}",
                hint="name the Dockerfile with -f, and its directory last: pannier build -f X .",
            )
        raise NotFound(f"unable to prepare context: path '{directory}' not found")
    inside, text = _locate(directory, dockerfile, text)
    rules = _rules(directory, inside)
    return Context(_pieces(directory, rules, inside, text), inside or _ADDED)


def _locate(directory: str, dockerfile: str, text: bytes | None) -> tuple[str, bytes | None]:
    """Path of the Dockerfile within the context, or "" and its text."""
    if text is not None:
        return "", text
    path = dockerfile or os.path.join(directory, _DOCKERFILE)
    if not os.path.isfile(path) and dockerfile and not os.path.isabs(dockerfile):
        path = os.path.join(directory, dockerfile)
    if not os.path.isfile(path):
        raise NotFound(
            f"no Dockerfile at {os.path.abspath(dockerfile or path)}",
            hint="name it with -f FILE, or name the directory that holds it",
        )
    inside = os.path.relpath(os.path.realpath(path), os.path.realpath(directory))
    if inside == ".." or inside.startswith("../"):
        with open(path, "rb") as stream:
            return "", stream.read()
    return inside, None


def _rules(directory: str, dockerfile: str) -> Ignore:
    """Those beside the Dockerfile go before the directory's."""
    for name in (f"{dockerfile}.dockerignore", ".dockerignore"):
        path = os.path.join(directory, name)
        if os.path.isfile(path):
            with open(path, encoding="utf-8-sig") as stream:
                return read_ignore(stream.read(), os.path.basename(path))
    return Ignore(())


def _pieces(directory: str, rules: Ignore, dockerfile: str, text: bytes | None) -> Iterator[bytes]:
    needed = {dockerfile, ".dockerignore"}
    for path in _walk(directory, "", rules, needed):
        yield from tarball.add_path(os.path.join(directory, path), path, owner=False)
    if text is not None:
        yield from tarball.add_bytes(_ADDED, text)
    yield tarball.end()


def _walk(directory: str, prefix: str, rules: Ignore, needed: set[str]) -> Iterator[str]:
    """Paths that are sent, parents before children, in a stable order."""
    with os.scandir(os.path.join(directory, prefix)) as entries:
        found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_directory in found:
        path = f"{prefix}/{name}" if prefix else name
        ignored = rules.matches(path)
        wanted_below = is_directory and any(need.startswith(path + "/") for need in needed)
        if not ignored or path in needed or wanted_below:
            yield path
        if is_directory and (not ignored or rules.has_exceptions or wanted_below):
            yield from _walk(directory, path, rules, needed)
