"""Tar archives, one header at a time: reading strictly, writing reproducibly.

Reading takes ustar, PAX and GNU long names (pax(1); Go's archive/tar writes all of them); what is
malformed or cut off is an error, never a silent end, because Python's ``tarfile`` stops quietly at
the first bad header. Writing gives equal bytes for equal entries. Names are bytes: an archive has
no character set. Where entries come from or go to does not belong here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from pannier.base.errors import InvalidArgument, Unsupported

BLOCK = 512
REGULAR, HARDLINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = (
    b"0", b"1", b"2", b"3", b"4", b"5", b"6",
)  # fmt: skip

_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK, _GNU_SPARSE = b"x", b"g", b"L", b"K", b"S"
_REGULAR_TYPES = (b"0", b"\0", b"7")
_XATTR = b"SCHILY.xattr."
_ZEROS = bytes(BLOCK)
_CHUNK = 1 << 20
# An extended header holds paths and attributes of one file; more than this is an attack.
_LONGEST_EXTENDED = 1 << 20
_NAME_LENGTH = 100
_LARGEST_SIZE = 0o77777777777
_LARGEST_ID = 0o7777777
END = bytes(2 * BLOCK)


class Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(slots=True, kw_only=True)
class Entry:
    """One member. ``kind`` is one of the type constants; ``mtime_ns`` since the epoch."""

    name: bytes
    kind: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)


def malformed(what: str) -> InvalidArgument:
    return InvalidArgument(f"invalid tar archive: {what}")


def read_exactly(source: Reader, size: int) -> bytes:
    """*size* bytes.

    Raises:
        InvalidArgument: the archive ends before.
    """
    data = source.read(size)
    while len(data) < size:
        more = source.read(size - len(data))
        if not more:
            raise malformed("unexpected end of file")
        data += more
    return data


class TarReader:
    """The entries of an uncompressed archive; read each one's data or let it be skipped.

    Raises:
        InvalidArgument: malformed or cut off.
        Unsupported: sparse members.
    """

    def __init__(self, source: Reader) -> None:
        self._source = source
        self._left = 0
        self._padding = 0
        self._globals: dict[bytes, bytes] = {}

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self._next()) is not None:
            self._left = entry.size
            self._padding = -entry.size % BLOCK
            yield entry
            for _ in self.data():
                pass
            read_exactly(self._source, self._padding)

    def data(self) -> Iterator[bytes]:
        """The current entry's bytes, in pieces of up to 1 MiB."""
        while self._left:
            chunk = self._source.read(min(self._left, _CHUNK))
            if not chunk:
                raise malformed("unexpected end of file")
            self._left -= len(chunk)
            yield chunk

    def _next(self) -> Entry | None:
        extended: dict[bytes, bytes] = {}
        while True:
            block = read_exactly(self._source, BLOCK)
            if block == _ZEROS:
                self._end(extended)
                return None
            entry = _parse_header(block)
            if entry.kind == _GNU_SPARSE:
                raise Unsupported("sparse members in tar archives are not supported")
            if entry.kind not in (_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK):
                return _apply(entry, {**self._globals, **extended})
            self._extend(entry, extended)

    def _extend(self, entry: Entry, extended: dict[bytes, bytes]) -> None:
        if entry.size > _LONGEST_EXTENDED:
            raise malformed(f"extended header of {entry.size} bytes")
        data = read_exactly(self._source, entry.size + -entry.size % BLOCK)[: entry.size]
        if entry.kind == _GNU_NAME:
            extended[b"path"] = data.rstrip(b"\0")
        elif entry.kind == _GNU_LINK:
            extended[b"linkpath"] = data.rstrip(b"\0")
        else:
            target = extended if entry.kind == _PAX else self._globals
            target.update(_parse_pax(data))

    def _end(self, extended: dict[bytes, bytes]) -> None:
        if extended:
            raise malformed("extended header without a member")
        while self._source.read(_CHUNK):  # record padding still counts for the digest
            pass


def _parse_header(block: bytes) -> Entry:
    stored = _number(block[148:156])
    if stored != sum(block) - sum(block[148:156]) + 8 * 0x20:
        raise malformed("bad header checksum")
    name = block[:100].partition(b"\0")[0]
    prefix = block[345:500].partition(b"\0")[0]
    if prefix and block[257:263] == b"ustar\0":
        name = prefix + b"/" + name
    kind = block[156:157]
    if kind in _REGULAR_TYPES:
        # Before POSIX.1-1988 a directory was a file whose name ends in a slash.
        kind = DIRECTORY if kind == b"\0" and name.endswith(b"/") else REGULAR
    size = _number(block[124:136])
    has_data = kind not in (HARDLINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO)
    if size < 0:
        raise malformed("negative size")
    return Entry(
        name=name,
        kind=kind,
        mode=_number(block[100:108]) & 0o7777,
        uid=_number(block[108:116]),
        gid=_number(block[116:124]),
        size=size if has_data else 0,
        mtime_ns=_number(block[136:148]) * 10**9,
        link=block[157:257].partition(b"\0")[0],
        major=_number(block[329:337]),
        minor=_number(block[337:345]),
    )


def _number(raw: bytes) -> int:
    """Octal digits, or GNU's base 256 for what does not fit."""
    if raw[0] & 0x80:
        value = int.from_bytes(raw, "big") & ((1 << (8 * len(raw) - 1)) - 1)
        if raw[0] & 0x40:
            value -= 1 << (8 * len(raw) - 1)
        return value
    text = raw.partition(b"\0")[0].strip()
    if not text:
        return 0
    if not set(text) <= set(b"01234567"):
        raise malformed(f"bad number in header: {text!r}")
    return int(text, 8)


def _parse_pax(data: bytes) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    while data:
        digits, space, _ = data.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) < 8 else 0
        record = data[len(digits) + 1 : length]
        key, equals, value = record.partition(b"=")
        if not space or not equals or length > len(data) or not value.endswith(b"\n"):
            raise malformed("bad extended header")
        records[key] = value[:-1]
        data = data[length:]
    return records


def _apply(entry: Entry, records: dict[bytes, bytes]) -> Entry:
    """Let the extended records override the header's fields."""
    for key, value in records.items():
        if key == b"path":
            entry.name = value
        elif key == b"linkpath":
            entry.link = value
        elif key in (b"uid", b"gid", b"size"):
            _set_number(entry, key.decode(), value)
        elif key == b"mtime":
            entry.mtime_ns = _parse_seconds(value)
        elif key.startswith(_XATTR):
            entry.xattrs[key.removeprefix(_XATTR)] = value
        elif key.startswith(b"GNU.sparse."):
            raise Unsupported("sparse members in tar archives are not supported")
    if not entry.name or b"\0" in entry.name or b"\0" in entry.link:
        raise malformed("bad member name")
    return entry


def _set_number(entry: Entry, name: str, value: bytes) -> None:
    if not value.isdigit():
        raise malformed(f"bad {name}: {value!r}")
    if name != "size" or entry.kind == REGULAR:
        setattr(entry, name, int(value))


def _parse_seconds(value: bytes) -> int:
    """Nanoseconds from ``1700000000.123``."""
    sign = -1 if value.startswith(b"-") else 1
    whole, _, fraction = value.lstrip(b"-").partition(b".")
    if not whole.isdigit() or not (fraction.isdigit() or not fraction):
        raise malformed(f"bad mtime: {value!r}")
    return sign * (int(whole) * 10**9 + int(fraction[:9].ljust(9, b"0")))


def header(entry: Entry) -> bytes:
    """The header blocks of *entry*: ustar, with a PAX header before it only for what does not fit.

    Times are cut to seconds and owner names left out, so that equal trees give equal archives.
    """
    seconds = entry.mtime_ns // 10**9
    records = {_XATTR + key: value for key, value in entry.xattrs.items()}
    if len(entry.name) > _NAME_LENGTH:
        records[b"path"] = entry.name
    if len(entry.link) > _NAME_LENGTH:
        records[b"linkpath"] = entry.link
    for key, value, largest in (
        (b"size", entry.size, _LARGEST_SIZE),
        (b"uid", entry.uid, _LARGEST_ID),
        (b"gid", entry.gid, _LARGEST_ID),
        (b"mtime", seconds, _LARGEST_SIZE),
    ):
        if not 0 <= value <= largest:
            records[key] = b"%d" % value
    return _pax_header(entry, records) + _ustar(entry, seconds)


def padding(size: int) -> bytes:
    """The zeros that follow *size* bytes of data."""
    return bytes(-size % BLOCK)


def _pax_header(entry: Entry, records: dict[bytes, bytes]) -> bytes:
    if not records:
        return b""
    data = b"".join(_record(key, records[key]) for key in sorted(records))
    base = entry.name.rstrip(b"/").rpartition(b"/")[2][:80]
    carrier = Entry(name=b"PaxHeaders.0/" + base, kind=_PAX, size=len(data))
    return _ustar(carrier, 0) + data + padding(len(data))


def _record(key: bytes, value: bytes) -> bytes:
    """``<length> key=value\\n`` where the length counts its own digits."""
    length = len(key) + len(value) + 3
    digits = len(str(length))
    if len(str(length + digits)) != digits:
        digits += 1
    return b"%d %s=%s\n" % (length + digits, key, value)


def _ustar(entry: Entry, seconds: int) -> bytes:
    fields = b"%s%s%s%s%s%s        %s%s%s%s%s%s%s" % (
        entry.name[:100].ljust(100, b"\0"),
        b"%07o\0" % entry.mode,
        _octal(entry.uid, _LARGEST_ID, 7),
        _octal(entry.gid, _LARGEST_ID, 7),
        _octal(entry.size, _LARGEST_SIZE, 11),
        _octal(seconds, _LARGEST_SIZE, 11),
        entry.kind,
        entry.link[:100].ljust(100, b"\0"),
        b"ustar\x0000",
        bytes(64),
        b"%07o\0" % entry.major,
        b"%07o\0" % entry.minor,
        bytes(167),
    )
    return fields[:148] + b"%06o\0 " % sum(fields) + fields[156:]


def _octal(value: int, largest: int, width: int) -> bytes:
    """What does not fit is 0 here: its PAX record says it."""
    return b"%0*o\0" % (width, value if 0 <= value <= largest else 0)
