"""Headers: ours against Python's tarfile both ways, and everything malformed refused."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.base.errors import InvalidArgument, Unsupported
from pannier.images import tarformat
from pannier.images.tarformat import BLOCK, END, Entry, TarReader, header, padding

_segment = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=60
).filter(lambda text: text not in (".", ".."))
_name = st.lists(_segment, min_size=1, max_size=5).map(lambda parts: "/".join(parts).encode())
_entries = st.builds(
    Entry,
    name=_name,
    kind=st.just(tarformat.REGULAR),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 0xFFFFFFFE),
    gid=st.integers(0, 0xFFFFFFFE),
    mtime_ns=st.integers(-(2**33), 2**36).map(lambda seconds: seconds * 10**9),
    xattrs=st.dictionaries(
        st.sampled_from([b"user.a", b"security.capability"]), st.binary(max_size=40)
    ),
)


def _archive(*members: tuple[Entry, bytes]) -> bytes:
    out = b""
    for entry, data in members:
        entry.size = len(data)
        out += header(entry) + data + padding(len(data))
    return out + END


def _read(data: bytes) -> list[tuple[Entry, bytes]]:
    reader = TarReader(io.BytesIO(data))
    return [(entry, b"".join(reader.data())) for entry in reader]


@given(st.lists(st.tuples(_entries, st.binary(max_size=1500)), max_size=4))
def test_what_is_written_is_read_back(members: list[tuple[Entry, bytes]]) -> None:
    assert _read(_archive(*members)) == members


@given(_entries, st.binary(max_size=1500))
def test_tarfile_reads_what_is_written(entry: Entry, data: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(_archive((entry, data)))) as tar:
        (info,) = tar.getmembers()
        content = tar.extractfile(info)
        assert content is not None
        assert content.read() == data
    assert info.name.encode(errors="surrogateescape") == entry.name
    assert (info.mode, info.uid, info.gid) == (entry.mode, entry.uid, entry.gid)
    assert info.mtime == entry.mtime_ns // 10**9


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_of_tarfile_is_read(form: int) -> None:
    long = form != tarfile.USTAR_FORMAT
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        info = tarfile.TarInfo("d/" * 60 + "file" if long else "dir/" + "n" * 90)
        info.size, info.mtime, info.uid = 700, 1700000000, 1000
        tar.addfile(info, io.BytesIO(b"x" * 700))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "t" * (300 if long else 90)
        tar.addfile(link)
        huge = tarfile.TarInfo("ids")
        huge.uid = 2_000_000_000 if long else 7
        tar.addfile(huge)
    (file, data), (symlink, _), (ids, _) = _read(out.getvalue())
    assert file.name.decode() == info.name
    assert data == b"x" * 700
    assert (file.uid, file.mtime_ns) == (1000, 1700000000 * 10**9)
    assert (symlink.kind, symlink.link.decode()) == (tarformat.SYMLINK, link.linkname)
    assert ids.uid == huge.uid


def test_every_cut_is_an_error() -> None:
    whole = _archive(
        (Entry(name=b"a" * 150, kind=tarformat.REGULAR), b"x" * 600),
        (Entry(name=b"b", kind=tarformat.REGULAR), b""),
    )
    assert len(_read(whole)) == 2
    # One zero block ends an archive; so anything shorter than that is cut off.
    for length in range(len(whole) - BLOCK):
        with pytest.raises(InvalidArgument, match="unexpected end of file"):
            _read(whole[:length])


@given(
    st.integers(0, BLOCK - 1).filter(lambda position: not 148 <= position < 156),
    st.integers(1, 255),
)
def test_a_damaged_header_is_an_error_not_the_end(position: int, change: int) -> None:
    first = _archive((Entry(name=b"a", kind=tarformat.REGULAR), b"x"))[: -len(END)]
    data = bytearray(first + _archive((Entry(name=b"b", kind=tarformat.REGULAR), b"")))
    at = len(first) + position
    data[at] = (data[at] + change) % 256
    with pytest.raises(InvalidArgument, match="bad header checksum"):
        _read(bytes(data))


@pytest.mark.parametrize(
    "pax",
    [
        b"x path=a\n",
        b"99 path=a\n",
        b"8 path=a\n",
        b"10 pathaa\n",
        b"12 size=-1xx",
        b"11 mtime=x\n",
    ],
)
def test_bad_extended_headers(pax: bytes) -> None:
    carrier = Entry(name=b"p", kind=b"x", size=len(pax))
    data = header(carrier) + pax + padding(len(pax))
    data += header(Entry(name=b"f", kind=tarformat.REGULAR)) + END
    with pytest.raises(InvalidArgument, match="invalid tar archive"):
        _read(data)


def test_an_extended_header_cannot_fill_the_memory() -> None:
    with pytest.raises(InvalidArgument, match="extended header of"):
        _read(header(Entry(name=b"p", kind=b"x", size=1 << 30)))


def test_sparse_files_are_refused_clearly() -> None:
    with pytest.raises(Unsupported, match="sparse"):
        _read(header(Entry(name=b"s", kind=b"S")) + END)


def test_equal_entries_give_equal_bytes_whatever_the_order_of_attributes() -> None:
    first = Entry(name=b"f", kind=tarformat.REGULAR, xattrs={b"user.a": b"1", b"user.b": b"2"})
    second = Entry(name=b"f", kind=tarformat.REGULAR, xattrs={b"user.b": b"2", b"user.a": b"1"})
    assert header(first) == header(second)
