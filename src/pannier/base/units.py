"""Sizes, durations and times: parsed from what people type, printed as people read them."""

from __future__ import annotations

import re
import time

from pannier.base.errors import InvalidArgument

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?b?)\s*", re.IGNORECASE)
_BINARY = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_AGES = (
    (365 * 86400, "year"),
    (30 * 86400, "month"),
    (7 * 86400, "week"),
    (86400, "day"),
    (3600, "hour"),
    (60, "minute"),
    (1, "second"),
)
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9})\d*)?)?)?(Z|[+-]\d\d:?\d\d)?"
)


def parse_size(text: str | int) -> int:
    """Bytes from ``512``, ``64m``, ``1.5GiB``; powers of 1024 as Docker's ``--memory``.

    Raises:
        InvalidArgument: the text is no size.
    """
    if isinstance(text, int):
        return text
    match = _SIZE.fullmatch(text)
    if not match:
        raise InvalidArgument(
            f"invalid size: '{text}'", hint="write a number and b, k, m or g: 64m"
        )
    return int(float(match[1]) * _BINARY[match[2].lower()])


def format_size(count: float) -> str:
    """Decimal units with three digits, as ``docker images`` prints them: ``124MB``."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}PB"


def format_binary_size(count: float) -> str:
    """Powers of 1024 with four digits, as ``docker stats`` prints memory: ``23.91GiB``."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            return f"{value:.4g}{unit}"
        value /= 1024
    return f"{value:.4g}PiB"


def parse_duration(text: str | float) -> int:
    """Nanoseconds from Go's notation (``1m30s``, ``500ms``); a bare number counts seconds.

    Raises:
        InvalidArgument: the text is no duration.
    """
    if isinstance(text, (int, float)):
        return int(text * 10**9)
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return int(float(text) * 10**9)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InvalidArgument(f"invalid duration: '{text}'", hint="write it as 1m30s, 10s or 500ms")
    return int(sum(float(number) * _NANOSECONDS[unit] for number, unit in parts))


def format_age(seconds: float) -> str:
    """The largest unit that fits, in words: ``3 minutes``, ``About an hour``."""
    if seconds < 1:
        return "Less than a second"
    for length, name in _AGES:
        count = int(seconds // length)
        if count >= 1:
            if count == 1 and name in {"minute", "hour"}:
                return "About an hour" if name == "hour" else "About a minute"
            return f"{count} {name}{'s' if count > 1 else ''}"
    return "Less than a second"


def rfc3339(nanoseconds: int) -> str:
    """UTC time with nine decimals and ``Z``; Docker's zero time for 0."""
    if nanoseconds <= 0:
        return "0001-01-01T00:00:00Z"
    seconds, rest = divmod(nanoseconds, 10**9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"


def parse_time(text: str, *, now_ns: int | None = None) -> int:
    """Nanoseconds since the epoch from Unix seconds, RFC 3339 or an age (``10m``).

    Raises:
        InvalidArgument: none of the three.
    """
    if re.fullmatch(r"-?\d+(\.\d+)?", text):
        whole, _, fraction = text.partition(".")
        return int(whole) * 10**9 + int((fraction or "0").ljust(9, "0")[:9])
    if _PART.match(text):
        return (time.time_ns() if now_ns is None else now_ns) - parse_duration(text)
    match = _RFC3339.fullmatch(text)
    if not match:
        raise InvalidArgument(
            f"invalid time: '{text}'", hint="write 10m, 2026-01-02T15:04:05Z or Unix seconds"
        )
    return _from_rfc3339(match)


def _from_rfc3339(match: re.Match[str]) -> int:
    import calendar  # noqa: PLC0415 - the CLI's hot path does not parse times

    year, month, day, hour, minute, second = (int(match[i] or 0) for i in range(1, 7))
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    zone = match[8]
    if zone and zone != "Z":
        sign = -1 if zone[0] == "-" else 1
        digits = zone[1:].replace(":", "")
        seconds -= sign * (int(digits[:2]) * 3600 + int(digits[2:]) * 60)
    return seconds * 10**9 + int((match[7] or "0").ljust(9, "0"))
