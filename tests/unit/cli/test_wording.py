"""Words after a mistake, and lines of a stack's progress."""

from __future__ import annotations

import io

import pytest

from pannier.cli.main import run
from pannier.cli.progress import Board
from pannier.cli.stack_events import follow
from pannier.cli.transfer import split_reference


@pytest.mark.parametrize(
    ("words", "suggestion", "about"),
    [
        (["rnu"], "(did you mean 'run'?)", "pannier --help"),
        (["compose", "pss"], "(did you mean 'compose ps'?)", "pannier compose --help"),
        (["compose", "nosuch"], "", "pannier compose --help"),
        (["swarm"], "", "pannier --help"),
    ],
)
def test_a_mistyped_command(words: list[str], suggestion: str, about: str, capsys) -> None:
    assert run(words) == 1
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first == f"pannier: unknown command: pannier {' '.join(words)} {suggestion}".rstrip()
    assert last == f"Run '{about}' for more information"


def test_lines_of_a_rolling_update() -> None:
    out = io.StringIO()
    events = [
        {"Kind": "service", "Name": "app", "Status": "rolling back", "Message": "image ab"},
        {"Kind": "container", "Name": "0123456789ab_shop-app-1", "Status": "created"},
        {"Kind": "container", "Name": "shop-app-1", "Status": "replaced"},
    ]
    follow(events, Board(out, live=False))
    assert [line.split() for line in out.getvalue().splitlines()] == [
        ["Service", "app", "Rolling", "back:", "image", "ab"],
        ["Container", "shop-app-1", "(new)", "Created"],
        ["Container", "shop-app-1", "Replaced"],
    ]


def test_a_name_with_a_bad_digest_is_left_for_the_engine_to_refuse() -> None:
    assert split_reference("web:2") == ("web", "2")
    assert split_reference("web@sha256:ab") == ("web", "sha256:ab")
    assert split_reference("web@ab") == ("web@ab", "")


def test_a_line_that_has_scrolled_away_is_written_again(monkeypatch) -> None:
    monkeypatch.setenv("LINES", "4")
    out = io.StringIO()
    board = Board(out, live=True)
    for key in "abcd":
        board.set(key, f"{key} begins")
    board.set("d", "d ends")
    board.set("a", "a ends")
    assert out.getvalue() == (
        "a begins\nb begins\nc begins\nd begins\n\x1b[1A\r\x1b[2Kd ends\x1b[1B\ra ends\n"
    )
