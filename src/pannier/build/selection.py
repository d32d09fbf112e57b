"""Which files the sources of COPY and ADD name, and the digest of them for cache keys.

Reading only; how they get to their destination is in `copying`.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pannier.base.errors import InvalidArgument, NotFound
from pannier.base.ignore import glob_to_regex
from pannier.build.trees import Entry, Tree, resolve, walk

_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Selected:
    """One source: the name it was called by, and the file that it leads to."""

    name: str
    entry: Entry


def select(tree: Tree, sources: Sequence[str], what: str, place: str) -> list[Selected]:
    """Find the sources; a pattern stands for everything it matches, in order of names.

    Args:
        tree: where to look.
        sources: paths or patterns; a leading slash means the tree's root.
        what: ``COPY`` or ``ADD``, for messages.
        place: what the tree is, for messages.

    Raises:
        NotFound: nothing there, or nothing matches.
        InvalidArgument: a path that leads out, or a malformed pattern.
    """
    selected = []
    for source in sources:
        path = _cleaned(source, what)
        if _WILDCARD.search(path):
            matches = list(_matching(tree, path))
            if not matches:
                raise NotFound(f"{what} failed: no source files were specified: {source}")
            selected += matches
        else:
            selected.append(_one(tree, path, f"{what} failed: {source}: file not found in {place}"))
    return selected


def _cleaned(source: str, what: str) -> str:
    path = posixpath.normpath(source.lstrip("/") or ".")
    if path == ".." or path.startswith("../"):
        raise InvalidArgument(
            f"{what} failed: forbidden path outside the build context: {source}",
            hint="only what is below the context directory is sent to the engine",
        )
    return "" if path == "." else path


def _one(tree: Tree, path: str, message: str) -> Selected:
    entry = resolve(tree, path)
    if entry is None:
        raise NotFound(message, hint="check the path, and .dockerignore")
    return Selected(posixpath.basename(path), entry)


def _matching(tree: Tree, pattern: str) -> Iterator[Selected]:
    """Go part by part, so that only directories on the pattern's way are listed."""
    paths = [""]
    for part in pattern.split("/"):
        regex = re.compile(glob_to_regex(part), re.DOTALL)
        paths = [
            posixpath.join(path, name)
            for path in paths
            for name in _names(tree, path)
            if regex.fullmatch(name)
        ]
    for path in paths:
        entry = resolve(tree, path)
        if entry is not None:
            yield Selected(posixpath.basename(path), entry)


def _names(tree: Tree, path: str) -> list[str]:
    entry = resolve(tree, path)
    return tree.names(entry.path) if entry is not None and entry.kind == "dir" else []


def kind_of(selected: Sequence[Selected]) -> str:
    """How the history calls the sources: ``file``, ``dir`` or ``multi``."""
    if len(selected) != 1:
        return "multi"
    return "dir" if selected[0].entry.kind == "dir" else "file"


class Digests:
    """Content digests of a tree's files, each computed once."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._known: dict[str, str] = {}

    def of(self, selected: Sequence[Selected], *, owners: bool) -> str:
        """One digest of everything that was selected: names, kinds, modes, content; not times.

        Args:
            selected: files and directories, with all below them.
            owners: whether numeric owners count.
        """
        total = hashlib.sha256()
        for source in selected:
            prefix = source.entry.path
            self._note(total, source.entry, source.name, owners=owners)
            if source.entry.kind == "dir":
                for entry in walk(self._tree, prefix):
                    self._note(total, entry, entry.path[len(prefix) :], owners=owners)
        return total.hexdigest()

    def _note(self, total: hashlib._Hash, entry: Entry, name: str, *, owners: bool) -> None:
        parts: list[object] = [name, entry.kind, entry.mode, entry.target, entry.xattrs]
        if entry.kind in ("char", "block"):
            parts.append(entry.device)
        if owners:
            parts += [entry.uid, entry.gid]
        if entry.kind == "file":
            parts.append(self._content(entry))
        total.update(repr(parts).encode(errors="surrogateescape"))

    def _content(self, entry: Entry) -> str:
        known = self._known.get(entry.path)
        if known is None:
            digest = hashlib.sha256()
            for chunk in self._tree.read(entry):
                digest.update(chunk)
            known = self._known[entry.path] = digest.hexdigest()
        return known
