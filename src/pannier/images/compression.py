"""Compressed byte streams: which one it is is seen from its first bytes, never from a name.

Reading: gzip, zstd, xz, bzip2, none. Writing: gzip, zstd, none. Used by worker processes only;
a damaged or cut-off stream is an error, not a short read. A zstd stream that ends within a frame is
the exception (its library does not tell): there the digest or the archive's missing end shows it.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import zlib
from typing import Any, Literal, Protocol

from pannier.base.errors import InvalidArgument
from pannier.images.tarformat import Reader

Compression = Literal["none", "gzip", "zstd", "xz", "bzip2"]

_CHUNK = 1 << 18
_MAGIC: tuple[tuple[bytes, Compression], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
)
_LONGEST_MAGIC = 6


class Writer(Protocol):
    def write(self, data: bytes, /) -> object: ...


class HashingReader:
    """Counts and hashes what is read through it; can copy it to a second place.

    Args:
        source: where to read from.
        copy: every byte that is read is also written here.
    """

    def __init__(self, source: Reader, copy: Writer | None = None) -> None:
        self._source = source
        self._copy = copy
        self._hash = hashlib.sha256()
        self.count = 0

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self._hash.update(data)
        self.count += len(data)
        if self._copy is not None:
            self._copy.write(data)
        return data

    def drain(self) -> None:
        """Read to the end, so that the digest covers everything."""
        while self.read(_CHUNK):
            pass

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()


class HashingWriter:
    """Counts and hashes what is written through it.

    Args:
        target: where it goes on to; None only hashes.
    """

    def __init__(self, target: Writer | None = None) -> None:
        self._target = target
        self._hash = hashlib.sha256()
        self.count = 0

    def write(self, data: bytes, /) -> None:
        self._hash.update(data)
        self.count += len(data)
        if self._target is not None:
            self._target.write(data)

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()


class Decompressed:
    """The content of a compressed (or plain) stream, in bounded memory.

    Raises:
        InvalidArgument: from ``read``: damaged or cut off.
    """

    def __init__(self, source: Reader) -> None:
        start = b""
        while len(start) < _LONGEST_MAGIC and (more := source.read(_LONGEST_MAGIC - len(start))):
            start += more
        self.compression: Compression = next(
            (name for magic, name in _MAGIC if start.startswith(magic)), "none"
        )
        self._content, self._damage = _open(_Prefixed(start, source), self.compression)

    def read(self, size: int, /) -> bytes:
        try:
            return self._content.read(size)
        except self._damage as error:
            raise InvalidArgument(f"damaged {self.compression} data: {error}") from error


class _Prefixed:
    """A stream whose first bytes were read already."""

    def __init__(self, start: bytes, rest: Reader) -> None:
        self._start = start
        self._rest = rest

    def read(self, size: int = _CHUNK, /) -> bytes:
        if self._start:
            data, self._start = self._start[:size], self._start[size:]
            return data
        return self._rest.read(size)


def _open(
    source: _Prefixed, compression: Compression
) -> tuple[Reader, tuple[type[Exception], ...]]:
    """A reader of the content, and what it raises when the data is damaged."""
    wrapped: Any = source
    if compression == "gzip":
        return gzip.GzipFile(fileobj=wrapped, mode="rb"), (zlib.error, gzip.BadGzipFile, EOFError)
    if compression == "zstd":
        import zstandard  # noqa: PLC0415 - 10 ms that most jobs need not pay

        reader = zstandard.ZstdDecompressor().stream_reader(wrapped, read_across_frames=True)
        return reader, (zstandard.ZstdError,)
    if compression == "xz":
        return lzma.LZMAFile(wrapped), (lzma.LZMAError, EOFError)
    if compression == "bzip2":
        return bz2.BZ2File(wrapped), (OSError, EOFError)
    return source, ()


class Compressor:
    """Write compressed data to *target*; ``finish`` must be called at the end.

    Args:
        target: where the result goes.
        compression: ``none``, ``gzip`` or ``zstd``.
    """

    def __init__(self, target: Writer, compression: str) -> None:
        self._target = target
        self._engine: Any = None
        if compression == "gzip":
            # No name and time in the header: equal content gives an equal digest.
            self._engine = zlib.compressobj(4, zlib.DEFLATED, 31)
        elif compression == "zstd":
            import zstandard  # noqa: PLC0415

            self._engine = zstandard.ZstdCompressor(level=3).compressobj()
        elif compression != "none":
            raise InvalidArgument(f"cannot write compression '{compression}'")

    def write(self, data: bytes, /) -> None:
        self._target.write(self._engine.compress(data) if self._engine else data)

    def finish(self) -> None:
        if self._engine:
            self._target.write(self._engine.flush())
