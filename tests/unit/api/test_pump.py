"""Frames and detach keys."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from pannier.api.pump import KeyFilter, frame, parse_keys
from pannier.base.errors import InvalidArgument


def test_frame():
    assert frame(2, b"abc") == b"\x02\0\0\0\0\0\0\x03abc"


@pytest.mark.parametrize(
    ("text", "keys"),
    [("", b"\x10\x11"), ("ctrl-p,ctrl-q", b"\x10\x11"), ("a,CTRL-A", b"a\x01"), ("ctrl-@", b"\0"),
     ("ctrl-[", b"\x1b")],
)  # fmt: skip
def test_keys(text, keys):
    assert parse_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ab", "ctrl-1", "a,,b", "ü"])
def test_bad_keys(text):
    with pytest.raises(InvalidArgument, match="Invalid detach keys"):
        parse_keys(text)


PARTS = some.lists(some.text("abc", max_size=6).map(str.encode))


@settings(deadline=None)
@given(PARTS, some.text("ab", min_size=1, max_size=4).map(str.encode))
def test_pieces_make_no_difference(parts, keys):
    """The sequence is found wherever it is cut; what precedes it is passed on unchanged."""
    whole = b"".join(parts)
    found, passed = False, b""
    keys_filter = KeyFilter(keys)
    for part in parts:
        out, found = keys_filter.feed(part)
        passed += out
        if found:
            break
    position = whole.find(keys)
    assert found == (position >= 0)
    assert passed == whole[:position] if found else whole.startswith(passed)
