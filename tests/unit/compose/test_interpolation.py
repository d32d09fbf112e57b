"""Variables in values (compose-spec, 12-interpolation)."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.compose.dotenv import parse_env
from pannier.compose.interpolation import Interpolator
from pannier.compose.source import ComposeError

ENV = {"A": "a", "EMPTY": "", "N_1": "n"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("$A", "a"),
        ("${A}", "a"),
        ("x${A}y$N_1", "xayn"),
        ("$$A $${A}", "$A ${A}"),
        ("${EMPTY-d}", ""),
        ("${EMPTY:-d}", "d"),
        ("${NO-d}", "d"),
        ("${NO:-d}", "d"),
        ("${NO:-}", ""),
        ("${A:-d}", "a"),
        ("${A:+yes}", "yes"),
        ("${NO:+yes}", ""),
        ("${EMPTY:+yes}", ""),
        ("${EMPTY+yes}", "yes"),
        ("${A:?needed}", "a"),
        ("${EMPTY?needed}", ""),
        ("${NO:-${A}}", "a"),
        ("${NO:-x${NO:-y$A}z}", "xyaz"),
        ("${NO:-a:-b}", "a:-b"),
        ("$NO|", "|"),
    ],
)
def test_forms(text, filled):
    assert Interpolator(ENV).text(text, "k", None) == filled


@pytest.mark.parametrize("text", ["$", "${", "${A", "${}", "${1A}", "${A!x}", "$1", "a$ b"])
def test_broken_forms(text):
    with pytest.raises(ComposeError, match="invalid interpolation format"):
        Interpolator(ENV).text(text, "k", None)


@pytest.mark.parametrize("text", ["${NO?m}", "${NO:?m}", "${EMPTY:?m}"])
def test_required(text):
    with pytest.raises(ComposeError, match=r"k: required variable (NO|EMPTY) .*: m"):
        Interpolator(ENV).text(text, "k", None)


def test_unset_is_noted_once():
    interpolator = Interpolator(ENV)
    interpolator.text("$NO ${NO} ${NO:-x} $OTHER", "k", None)
    assert interpolator.unset == ["NO", "OTHER"]


@given(st.text())
def test_any_text_is_filled_or_refused(text):
    with suppress(ComposeError):
        Interpolator(ENV).text(text, "k", None)


@given(st.text())
def test_doubled_dollars_give_the_text_back(text):
    assert Interpolator({}).text(text.replace("$", "$$"), "k", None) == text


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("A=1\nB = two words  # c\n", {"A": "1", "B": "two words"}),
        ("A='x # $B'\n", {"A": "x # $B"}),
        ('A="l1\\nl2\\"q\\$"\n', {"A": 'l1\nl2"q$'}),
        ('A="two\nlines"\nB=1', {"A": "two\nlines", "B": "1"}),
        ("A=1\nB=${A}2", {"A": "1", "B": "12"}),
        ("A\nHOME\n", {"A": None, "HOME": "/h"}),
        ("export A=1\n\n# c\n", {"A": "1"}),
        ("A=a#b\nE=\nY: v", {"A": "a#b", "E": "", "Y": "v"}),
    ],
)
def test_env_files(text, values):
    assert parse_env(text, "f", {"HOME": "/h"}) == values


@pytest.mark.parametrize(("text", "line"), [("A=1\n=2", 2), ("two words", 1), ("A='x", 1)])
def test_broken_env_files(text, line):
    with pytest.raises(ComposeError, match=f"^f:{line}: "):
        parse_env(text, "f", {})
