"""Streams of every kind are recognised, damage is an error, output is reproducible."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import random
from collections.abc import Callable

import pytest
import zstandard

from pannier.base.errors import InvalidArgument
from pannier.images.compression import Compressor, Decompressed, HashingReader, HashingWriter

_DATA = random.Random(7).randbytes(70_000) + bytes(300_000)
_PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": gzip.compress,
    # With a checksum, as the zstd program writes it: without one some damage cannot be seen.
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


def _all(reader: Decompressed, size: int = 7000) -> bytes:
    return b"".join(iter(lambda: reader.read(size), b""))


@pytest.mark.parametrize("kind", _PACKERS)
def test_recognised_by_content(kind: str) -> None:
    reader = Decompressed(io.BytesIO(_PACKERS[kind](_DATA)))
    assert reader.compression == kind
    assert _all(reader) == _DATA


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_several_members_are_one_stream(kind: str) -> None:
    data = _PACKERS[kind](b"one") + _PACKERS[kind](b"two")
    assert _all(Decompressed(io.BytesIO(data))) == b"onetwo"


@pytest.mark.parametrize("kind", ["gzip", "xz", "bzip2"])
def test_a_cut_off_stream_is_an_error(kind: str) -> None:
    packed = _PACKERS[kind](_DATA)
    with pytest.raises(InvalidArgument, match=f"damaged {kind}"):
        _all(Decompressed(io.BytesIO(packed[: len(packed) // 2])))


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bzip2"])
def test_damage_is_an_error(kind: str) -> None:
    packed = bytearray(_PACKERS[kind](_DATA))
    packed[8:40] = bytes(32)
    with pytest.raises(InvalidArgument, match=f"damaged {kind}"):
        _all(Decompressed(io.BytesIO(bytes(packed))))


@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
def test_written_streams_are_read_back_and_reproducible(kind: str) -> None:
    results = []
    for _ in range(2):
        out = io.BytesIO()
        compressor = Compressor(out, kind)
        compressor.write(_DATA)
        compressor.finish()
        results.append(out.getvalue())
    assert results[0] == results[1]
    assert _all(Decompressed(io.BytesIO(results[0]))) == _DATA


def test_short_reads_at_the_start_do_not_hide_the_kind() -> None:
    class Slow:
        def __init__(self, data: bytes) -> None:
            self._left = data

        def read(self, size: int, /) -> bytes:
            data, self._left = self._left[:1], self._left[1:]
            return data

    reader = Decompressed(Slow(gzip.compress(b"slow")))
    assert _all(reader) == b"slow"


def test_hashing_counts_and_copies() -> None:
    copy = io.BytesIO()
    reader = HashingReader(io.BytesIO(_DATA), copy)
    reader.read(10)
    reader.drain()
    writer = HashingWriter()
    writer.write(_DATA)
    digest = "sha256:" + hashlib.sha256(_DATA).hexdigest()
    assert (reader.digest, reader.count, copy.getvalue()) == (digest, len(_DATA), _DATA)
    assert (writer.digest, writer.count) == (digest, len(_DATA))


def test_an_unknown_compression_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="cannot write"):
        Compressor(io.BytesIO(), "lzip")
