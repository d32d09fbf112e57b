"""The filters argument in both its spellings."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from pannier.base.errors import InvalidArgument
from pannier.wire.filters import flag, match_labels, parse_filters


@pytest.mark.parametrize("text", [None, "", "{}"])
def test_nothing(text):
    assert parse_filters(text) == {}


def test_both_spellings():
    assert parse_filters('{"label":{"a=b":true,"c":true,"off":false}}') == {"label": ["a=b", "c"]}
    assert parse_filters('{"label":["a=b","c"]}') == {"label": ["a=b", "c"]}


@pytest.mark.parametrize("text", ["{", "[]", '{"a":1}', '{"a":{"b":"c"}}', '{"a":"b"}'])
def test_malformed(text):
    with pytest.raises(InvalidArgument, match="invalid filter"):
        parse_filters(text)


def test_unknown_key():
    with pytest.raises(InvalidArgument, match="invalid filter 'nosuch'"):
        parse_filters('{"nosuch":["x"]}', {"name"})


def test_labels():
    labels = {"a": "1", "b": ""}
    assert match_labels(["a", "a=1", "b="], labels)
    assert not match_labels(["a=2"], labels)
    assert not match_labels(["c"], labels)


def test_flags():
    assert flag({"dangling": ["true"]}, "dangling") is True
    assert flag({"dangling": ["0"]}, "dangling") is False
    assert flag({}, "dangling") is None
    with pytest.raises(InvalidArgument):
        flag({"dangling": ["maybe"]}, "dangling")


@settings(deadline=None)
@given(some.dictionaries(some.text(max_size=5), some.lists(some.text(max_size=5), unique=True)))
def test_spellings_agree(filters):
    as_map = {key: dict.fromkeys(values, True) for key, values in filters.items()}
    assert parse_filters(json.dumps(filters)) == parse_filters(json.dumps(as_map)) == filters
