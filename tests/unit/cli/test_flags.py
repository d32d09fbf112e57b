"""Flags as Docker's CLI reads them."""

from __future__ import annotations

import pytest

from pannier.cli.flags import UsageError, parse

OPTIONS = (
    ("detach", "d", "flag", "", ""),
    ("interactive", "i", "flag", "", ""),
    ("tty", "t", "flag", "", ""),
    ("env", "e", "list", "", ""),
    ("publish", "p", "list", "", ""),
    ("name", "", "text", "", ""),
    ("hostname", "h", "text", "", ""),
    ("last", "n", "number", "", ""),
)


@pytest.mark.parametrize(
    ("words", "values", "arguments"),
    [
        (["-it", "x"], {"interactive": True, "tty": True}, ["x"]),
        (["-dp8080:80", "x"], {"detach": True, "publish": ["8080:80"]}, ["x"]),
        (["-p", "80", "-p=81"], {"publish": ["80", "81"]}, []),
        (["--env", "A=b", "--env=C=d=e"], {"env": ["A=b", "C=d=e"]}, []),
        (["--detach=false"], {"detach": False}, []),
        (["-h", "box", "x"], {"hostname": "box"}, ["x"]),
        (["-n", "-1"], {"last": -1}, []),
        (["--name", "--odd", "x"], {"name": "--odd"}, ["x"]),
        (["x", "-t"], {"tty": True}, ["x"]),
        (["--", "-t"], {}, ["-t"]),
        (["-"], {}, ["-"]),
    ],
)
def test_values(words: list[str], values: dict, arguments: list[str]) -> None:
    flags, rest = parse(OPTIONS, words)
    assert (dict(flags.typed()), rest) == (values, arguments)


def test_what_follows_the_image_is_not_ours() -> None:
    flags, rest = parse(OPTIONS, ["-t", "image", "sh", "-c", "--name"], interspersed=False)
    assert rest == ["image", "sh", "-c", "--name"]
    assert not flags.given("name")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--foo"], "unknown flag: --foo"),
        (["-itx"], "unknown shorthand flag: 'x' in -itx"),
        (["--name"], "flag needs an argument: --name"),
        (["-e"], "flag needs an argument: 'e' in -e"),
        (["--last", "x"], 'invalid argument "x" for "--last" flag'),
        (["--detach=maybe"], 'invalid argument "maybe" for "--detach" flag'),
    ],
)
def test_mistakes(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(OPTIONS, words)
    assert str(caught.value).startswith(message)
    assert caught.value.code == 125
