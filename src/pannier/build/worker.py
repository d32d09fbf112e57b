"""The builder's heavy file work, one job in a process: ``-m pannier.build.worker JOB FD JSON``.

How a worker answers is in ``images.worker``. A job mounts its root file system detached, so that it
is gone with the process, however that ends; the upper directory belongs to the builder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from pannier.base.errors import InvalidArgument
from pannier.base.ignore import read_ignore
from pannier.build.copying import Owner, Target, copy_selected
from pannier.build.selection import Digests, Selected, kind_of, select
from pannier.build.trees import DirectoryTree, Entry, TarTree, Tree
from pannier.images.compression import Decompressed
from pannier.images.extract import extract, split
from pannier.images.tarformat import TarReader
from pannier.images.worker import Answer, Arguments, serve
from pannier.kernel.overlay import Stack, mount_overlay

_INLINE = "\0"  # no file name has it


def copy(arguments: Arguments) -> Answer:
    """COPY and ADD; the arguments are the fields of ``files.CopyJob``.

    Answers with the digest of what was copied, for the cache.
    """
    with ExitStack() as stack:
        tree = stack.enter_context(_source(arguments["source"]))
        root = stack.enter_context(mounted(arguments["lowers"], arguments))
        owner = arguments["owner"]
        target = Target(root, Owner(*owner) if owner else None, arguments["mode"])
        what, place = arguments["what"], arguments["source"]["name"]
        selected = select(tree, arguments["sources"], what, place)
        if arguments["extract"]:
            selected = _extract_archives(tree, selected, arguments, root)
        selected += [_inline(document) for document in arguments["documents"]]
        everything = _Inline(tree, arguments["documents"])
        copy_selected(everything, selected, arguments["destination"], target, what)
        if arguments["hash"]:
            digest = Digests(everything).of(selected, owners=not owner)
            return {"digest": digest, "kind": kind_of(selected)}
    return {}


def make_directory(arguments: Arguments) -> Answer:
    """WORKDIR: the directory ``path`` and all above it."""
    with mounted(arguments["lowers"], arguments) as root, Target(root).directory(arguments["path"]):
        return {}


@contextmanager
def mounted(lowers: list[str], arguments: Arguments) -> Iterator[int]:
    """A descriptor of the root file system: *lowers* below ``upper``, or ``upper`` alone."""
    if lowers:
        # An upper that is lost in a power cut was no layer yet; not to sync saves 100 ms.
        stack = Stack(lowers, arguments["upper"], arguments["work"], volatile=True)
        root = mount_overlay(stack)
    else:
        root = os.open(arguments["upper"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield root
    finally:
        os.close(root)


@contextmanager
def _source(source: dict[str, Any]) -> Iterator[Tree]:
    ignore = read_ignore(source["ignore"])
    if source["kind"] == "tar":
        yield TarTree(0, ignore)
        return
    root = _open_layers(source["paths"])
    try:
        yield DirectoryTree(root, ignore)
    finally:
        os.close(root)


def _open_layers(paths: list[str]) -> int:
    if len(paths) > 1:
        return mount_overlay(Stack(paths))
    return os.open(paths[0], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _inline(document: list[str]) -> Selected:
    name, content = document
    return Selected(name, Entry(_INLINE + name, "file", 0o644, size=len(content.encode())))


class _Inline:
    """A tree with here-documents beside its files, under paths that no file can have."""

    def __init__(self, tree: Tree, documents: list[list[str]]) -> None:
        self._tree = tree
        self._documents = {_INLINE + name: content.encode() for name, content in documents}

    def get(self, path: str) -> Entry | None:
        return self._tree.get(path)

    def names(self, path: str) -> list[str]:
        return self._tree.names(path)

    def read(self, entry: Entry) -> Iterator[bytes]:
        content = self._documents.get(entry.path)
        return self._tree.read(entry) if content is None else iter([content])


def _extract_archives(
    tree: Tree, selected: list[Selected], arguments: Arguments, root: int
) -> list[Selected]:
    """ADD unpacks what is a tar archive by its content; returns the sources that are none."""
    plain = []
    for source in selected:
        if source.entry.kind == "file" and _is_archive(tree, source.entry):
            _extract(tree, source.entry, arguments, root)
        else:
            plain.append(source)
    return plain


def _is_archive(tree: Tree, entry: Entry) -> bool:
    """Whether it begins with a tar member, behind a compression if there is one."""
    try:
        next(iter(TarReader(Decompressed(_Chunks(tree.read(entry))))))
    except (InvalidArgument, StopIteration):
        return False
    return True


def _extract(tree: Tree, entry: Entry, arguments: Arguments, root: int) -> None:
    with Target(root).directory(arguments["destination"]) as directory:
        inside = f"/proc/self/fd/{directory}"
        extract(Decompressed(_Chunks(tree.read(entry))), inside, whiteouts="keep")
        if arguments["chown_members"]:
            _chown_members(tree, entry, directory, Owner(*arguments["owner"]))


def _chown_members(tree: Tree, entry: Entry, directory: int, owner: Owner) -> None:
    for member in TarReader(Decompressed(_Chunks(tree.read(entry)))):
        parent, name = split(member.name)
        if name:
            with Target(directory).directory(os.fsdecode(parent) or "/") as fd:
                os.chown(name, owner.uid, owner.gid, dir_fd=fd, follow_symlinks=False)


class _Chunks:
    """Pieces of bytes, read as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._at = 0

    def read(self, size: int, /) -> bytes:
        if self._at == len(self._chunk):
            self._chunk, self._at = next(self._chunks, b""), 0
        data = self._chunk[self._at : self._at + size]
        self._at += len(data)
        return data


if __name__ == "__main__":
    serve({"copy": copy, "directory": make_directory})
