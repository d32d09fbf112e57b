"""``.dockerignore`` against Docker's documented and tested behaviour."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.base.errors import InvalidArgument
from pannier.base.ignore import read_ignore


@pytest.mark.parametrize(
    ("patterns", "path", "ignored"),
    [
        ("*.md", "a.md", True),
        ("*.md", "sub/a.md", False),
        ("**/*.md", "sub/dir/a.md", True),
        ("**/*.md", "a.md", True),
        ("*/temp*", "a/temporary.txt", True),
        ("*/temp*", "a/b/temporary.txt", False),
        ("*/*/temp*", "a/b/temp", True),
        ("temp?", "tempa", True),
        ("temp?", "temp", False),
        ("node_modules", "node_modules/x/y.js", True),
        ("node_modules", "a/node_modules", False),
        ("**/node_modules", "a/node_modules/b", True),
        ("/foo", "foo", True),
        ("foo/", "foo/bar", True),
        ("./foo", "foo", True),
        ("foo/../bar", "bar", True),
        ("*.md\n!README.md", "README.md", False),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
        ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", False),
        ("dir\n!dir/keep", "dir/keep", False),
        ("dir\n!dir/keep", "dir/other", True),
        ("*\n!src/**", "src/a/b.c", False),
        ("**", "anything/at/all", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**", "a/x", True),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("[^a-c]x", "dx", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "axb", False),
        ("a.b", "axb", False),
        ("# comment", "# comment", False),
        ("  spaced  ", "spaced", True),
        ("!  x", "x", False),
        ("\ufefffoo", "foo", True),
    ],
)
def test_patterns(patterns: str, path: str, ignored: bool) -> None:
    assert read_ignore(patterns).matches(path) is ignored


def test_mistakes_name_the_line() -> None:
    with pytest.raises(InvalidArgument, match=r"\.dockerignore:2: a pattern was expected"):
        read_ignore("a\n!")
    with pytest.raises(InvalidArgument, match=r"\.dockerignore:1: syntax error in pattern '\[a'"):
        read_ignore("[a")
    with pytest.raises(InvalidArgument, match=r"x:1: syntax error"):
        read_ignore("a\\", "x")


_PART = st.text(alphabet="abc.", min_size=1, max_size=3).filter(lambda part: set(part) != {"."})
_PATH = st.lists(_PART, min_size=1, max_size=4).map("/".join)


@given(_PATH, _PATH)
def test_what_is_below_an_ignored_directory_is_ignored(directory: str, below: str) -> None:
    ignore = read_ignore(directory)
    assert ignore.matches(directory)
    assert ignore.matches(f"{directory}/{below}")


@given(st.lists(_PATH, max_size=4), _PATH)
def test_a_final_exception_always_wins(patterns: list[str], path: str) -> None:
    assert not read_ignore("\n".join([*patterns, "!" + path])).matches(path)


@given(st.text(max_size=30))
def test_any_text_compiles_or_names_its_line(text: str) -> None:
    message = ".dockerignore:"
    try:
        read_ignore(text).matches("a/b")
    except InvalidArgument as error:
        message = error.message
    assert message.startswith(".dockerignore:")
