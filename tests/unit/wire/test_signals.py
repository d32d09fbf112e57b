"""Signal names."""

from __future__ import annotations

import signal

import pytest

from pannier.base.errors import InvalidArgument
from pannier.wire.signals import parse_signal


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("TERM", 15),
        ("SIGKILL", 9),
        ("sighup", 1),
        ("2", 2),
        (9, 9),
        ("RTMIN+3", signal.SIGRTMIN + 3),
        ("SIGRTMAX-1", signal.SIGRTMAX - 1),
        ("RTMIN", signal.SIGRTMIN),
        ("64", 64),
    ],
)
def test_known(name, number):
    assert parse_signal(name) == number


@pytest.mark.parametrize(
    "name", ["", "0", "65", "FOO", "-1", "RTMIN-1", "SIGRTMAX+1", "SIG", "_IGN"]
)
def test_unknown(name):
    with pytest.raises(InvalidArgument, match="Invalid signal"):
        parse_signal(name)
