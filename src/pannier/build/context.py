"""The build context: received once, read where it lies, gone when the build ends.

A context sent as a tar stays one, in a file without a name, so that nothing is left of it after a
crash; a directory on this host is read in place. Neither is unpacked.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar

from pannier.base.errors import InvalidArgument, NotFound
from pannier.base.ignore import read_ignore
from pannier.build.selection import Digests, kind_of, select
from pannier.build.trees import DirectoryTree, TarTree, resolve
from pannier.images.compression import Decompressed

P = ParamSpec("P")
T = TypeVar("T")

_CHUNK = 1 << 18
_LARGEST_TEXT = 4 << 20
PLACE = "build context or excluded by .dockerignore"


class Context:
    """An open context.

    Args:
        tree: its files.
        fd: of the tar or the directory; closed by ``close``.
        path: the directory, or "" for a tar.
    """

    def __init__(self, tree: TarTree | DirectoryTree, fd: int, path: str = "") -> None:
        self._tree = tree
        self._path = path
        self._digests = Digests(tree)
        self._ignore = ""
        self.fd = fd

    def close(self) -> None:
        os.close(self.fd)

    def read_text(self, path: str) -> str | None:
        """A file's text; None if there is no such file.

        Raises:
            InvalidArgument: it is too large, or no text.
        """
        entry = resolve(self._tree, path)
        if entry is None or entry.kind != "file":
            return None
        if entry.size > _LARGEST_TEXT:
            raise InvalidArgument(f"{path} has {entry.size} bytes: that is no text file")
        try:
            return b"".join(self._tree.read(entry)).decode()
        except UnicodeDecodeError as error:
            raise InvalidArgument(f"{path} is not UTF-8 text: {error}") from error

    def apply_ignore(self, dockerfile: str) -> None:
        """Leave out what the ignore file says: the Dockerfile's own one, or the common one."""
        for file in (f"{dockerfile}.dockerignore", ".dockerignore"):
            text = self.read_text(file)
            if text is not None:
                self._ignore = text
                self._tree.ignore(read_ignore(text, file))
                return

    async def digest(
        self, sources: Sequence[str], what: str, documents: Sequence[tuple[str, str]]
    ) -> tuple[str, str]:
        """Digest and kind (``file``, ``dir``, ``multi``) of what COPY or ADD copies from here.

        Raises:
            NotFound, InvalidArgument: see `selection.select`.
        """
        return await in_thread(self._digest, sources, what, documents)

    def _digest(
        self, sources: Sequence[str], what: str, documents: Sequence[tuple[str, str]]
    ) -> tuple[str, str]:
        selected = select(self._tree, sources, what, PLACE)
        digest = self._digests.of(selected, owners=False)
        if not documents:
            return digest, kind_of(selected)
        text = repr([digest, documents]).encode()
        single = not selected and len(documents) == 1
        return hashlib.sha256(text).hexdigest(), "file" if single else "multi"

    @property
    def worker_input(self) -> int | None:
        """What a worker gets as its standard input to read from this context."""
        return None if self._path else self.fd

    def job_source(self) -> dict[str, Any]:
        """How a worker opens it; a tar comes as its standard input."""
        kind = {"kind": "layers", "paths": [self._path]} if self._path else {"kind": "tar"}
        return {**kind, "name": PLACE, "ignore": self._ignore}


async def receive(stream: AsyncIterator[bytes], tmp: Path) -> Context:
    """Take a tar archive, compressed or not, from a stream.

    Args:
        stream: its bytes.
        tmp: a directory on the file system that takes them.

    Raises:
        InvalidArgument: malformed or cut off.
    """
    # Unbuffered: the tree reads by descriptor, behind the file object's back.
    with tempfile.TemporaryFile(dir=tmp, buffering=0) as spool:
        async for chunk in stream:
            _write(spool.fileno(), chunk)
        return await in_thread(_from_spool, spool, tmp)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _from_spool(spool: IO[bytes], tmp: Path) -> Context:
    spool.seek(0)
    content = Decompressed(spool)
    if content.compression == "none":
        return _from_tar(spool.fileno())
    with tempfile.TemporaryFile(dir=tmp, buffering=0) as plain:
        while data := content.read(_CHUNK):
            _write(plain.fileno(), data)
        return _from_tar(plain.fileno())


def _from_tar(borrowed: int) -> Context:
    fd = os.dup(borrowed)
    try:
        return Context(TarTree(fd), fd)
    except BaseException:
        os.close(fd)
        raise


def open_directory(path: Path) -> Context:
    """A directory of this host as context.

    Raises:
        NotFound: there is no such directory.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"build context {path} is not a directory") from error
    return Context(DirectoryTree(fd), fd, str(path))


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run *function* in a thread; a cancelled caller still waits for its end.

    A thread that outlives its caller would use descriptors that were closed, and given to others.
    """
    work = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
