"""The Dockerfile parser: every instruction, its forms, and what its mistakes say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.base.errors import InvalidArgument, PannierError, Unsupported
from pannier.build import model as m
from pannier.build.parser import parse, parse_instruction
from pannier.build.words import expand, expand_words, split_words

ALL = """\
# syntax=docker/dockerfile:1
ARG VERSION=12
FROM debian:${VERSION} AS base
MAINTAINER Ann Example
ARG A B=2 C="x y"
ENV A=1 B="two words" C=a\\ b
ENV old style value
LABEL "com.example"="x" y=2
WORKDIR /app dir
RUN echo hello \\
    # a comment inside

    world
RUN ["/bin/echo", "hi"]
COPY --from=base --chown=app:app --chmod=0644 a b /dst/
ADD ["a b", "/x/"]
EXPOSE 80 443/udp
VOLUME ["/data", "/b"]
USER app
HEALTHCHECK --interval=5s --retries=3 CMD curl -f http://localhost/
SHELL ["/bin/bash", "-c"]
STOPSIGNAL SIGQUIT
ONBUILD RUN echo later
ENTRYPOINT ["/entry"]
CMD run it
FROM scratch
HEALTHCHECK NONE
"""


def _steps(text: str) -> tuple[m.Instruction, ...]:
    return parse("FROM x\n" + text).stages[0].steps


def test_all_instructions() -> None:
    file = parse(ALL)
    assert [arg.names for arg in file.arguments] == [(("VERSION", "12"),)]
    first, second = file.stages
    assert (first.base.image, first.base.alias, first.base.line) == ("debian:${VERSION}", "base", 3)
    by_type = {type(step).__name__: step for step in first.steps}
    run = next(step for step in first.steps if isinstance(step, m.Run))
    assert run.command == m.Command(("echo hello     world",), shell_form=True)
    assert run.line == 10
    assert by_type["Run"] == m.Run(
        line=14,
        text='RUN ["/bin/echo", "hi"]',
        command=m.Command(("/bin/echo", "hi"), shell_form=False),
    )
    copy, add = (step for step in first.steps if isinstance(step, m.Copy))
    assert (copy.sources, copy.destination) == (("a", "b"), "/dst/")
    assert (copy.origin, copy.chown, copy.chmod) == ("base", "app:app", "0644")
    assert (add.add, add.sources, add.destination) == (True, ("a b",), "/x/")
    envs = [step.pairs for step in first.steps if isinstance(step, m.Env)]
    assert envs == [(("A", "1"), ("B", '"two words"'), ("C", "a\\ b")), (("old", "style value"),)]
    health = by_type["Healthcheck"]
    assert isinstance(health, m.Healthcheck)
    assert (health.interval, health.retries) == (5 * 10**9, 3)
    assert isinstance(by_type["Workdir"], m.Workdir)
    assert by_type["Workdir"].path == "/app dir"
    assert second.steps == (m.Healthcheck(line=27, text="HEALTHCHECK NONE", command=None),)


def test_escape_directive() -> None:
    file = parse("# escape=`\nFROM x\nRUN dir C:\\ `\n  more\n")
    assert file.escape == "`"
    (run,) = file.stages[0].steps
    assert isinstance(run, m.Run)
    assert run.command.words == ("dir C:\\   more",)


def test_directive_after_a_comment_is_a_comment() -> None:
    assert parse("# hello\n# escape=`\nFROM x").escape == "\\"


def test_doubled_escape_does_not_continue() -> None:
    assert len(_steps("RUN a \\\\\nRUN b")) == 2


def test_continuation_at_the_end_of_the_file() -> None:
    (run,) = _steps("RUN a \\\n")
    assert run.text == "RUN a"


def test_heredocs() -> None:
    lone, beside, copy = _steps(
        "RUN <<EOF\necho a\n# kept\necho b\nEOF\nRUN python3 - <<'X'\nprint(1)\nX\n"
        'COPY <<-one <<"two" /etc/\n\tfirst $A\n\tone\nsecond $A\ntwo\n'
    )
    assert isinstance(lone, m.Run)
    assert isinstance(beside, m.Run)
    assert isinstance(copy, m.Copy)
    assert lone.command.words == ("echo a\n# kept\necho b\n",)
    assert beside.command.words == ("python3 - <<'X'\nprint(1)\nX\n",)
    assert copy.heredocs == (
        m.Heredoc("one", "first $A\n", expand=True),
        m.Heredoc("two", "second $A\n", expand=False),
    )
    assert (copy.sources, copy.destination) == ((), "/etc/")


def test_malformed_json_is_shell_form() -> None:
    (cmd,) = _steps("CMD ['nginx']")
    assert isinstance(cmd, m.Cmd)
    assert cmd.command == m.Command(("['nginx']",), shell_form=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Dockerfile:1: the file is empty"),
        ("RUN x", "Dockerfile:1: no build stage in current context"),
        ("ARG x", "Dockerfile:1: no build stage"),
        ("FROM x\n\nRUNN y", "Dockerfile:3: unknown instruction: RUNN"),
        ("FROM x\nRUN \\\n a\nFOO", "Dockerfile:4: unknown instruction: FOO"),
        ("FROM a b", "Dockerfile:1: FROM requires either one or three arguments"),
        ("FROM a is b", "Dockerfile:1: FROM: AS was expected in place of 'is'"),
        ("FROM a AS 1b", "Dockerfile:1: invalid name for build stage: '1b'"),
        ("FROM a AS b\nFROM c AS B", "Dockerfile:2: duplicate name b"),
        ("FROM x\nRUN", "Dockerfile:2: RUN requires at least one argument"),
        ("FROM x\nCOPY a", "Dockerfile:2: COPY requires at least two arguments"),
        ("FROM x\nCOPY --frm=a b c", "Dockerfile:2: unknown flag of COPY: --frm"),
        ("FROM x\nCOPY --from b c", "Dockerfile:2: flag --from of COPY: a value was expected"),
        ("FROM x\nCOPY --from=a --from=b b c", "Dockerfile:2: duplicate flag --from of COPY"),
        ("FROM x\nCOPY --from=$A b c", "Dockerfile:2: variable expansion is not supported"),
        ("FROM x\nENV a", "Dockerfile:2: ENV must have two arguments"),
        ("FROM x\nENV a=1 b", "Dockerfile:2: can't find = in 'b'"),
        ("FROM x\nENV =1", "Dockerfile:2: ENV names can not be blank"),
        ('FROM x\nENV a="1', "Dockerfile:2: ENV: no closing double quote"),
        ("FROM x\nENV a='1", "Dockerfile:2: ENV: no closing single quote"),
        ("FROM x\nENV a=${b", "Dockerfile:2: ENV: unsupported modifier"),
        ("FROM x\nENV a=${b:-c", "Dockerfile:2: ENV: no closing brace"),
        ("FROM x\nENV a=${b:=c}", "Dockerfile:2: ENV: unsupported modifier (:=)"),
        ("FROM x\nENV a=${}", "Dockerfile:2: ENV: bad substitution"),
        ("FROM x\nUSER a b", "Dockerfile:2: USER requires exactly one argument, 2 given"),
        ("FROM x\nSHELL /bin/sh", "Dockerfile:2: SHELL requires the arguments to be in JSON"),
        ("FROM x\nHEALTHCHECK curl", "Dockerfile:2: unknown type 'curl' in HEALTHCHECK"),
        ("FROM x\nHEALTHCHECK --interval=x CMD a", "Dockerfile:2: HEALTHCHECK: invalid duration"),
        ("FROM x\nHEALTHCHECK --retries=x CMD a", "Dockerfile:2: HEALTHCHECK --retries=x"),
        ("FROM x\nHEALTHCHECK --timeout=1us CMD a", "cannot be less than 1ms"),
        ("FROM x\nONBUILD ONBUILD RUN a", "Dockerfile:2: chaining ONBUILD"),
        ("FROM x\nONBUILD FROM a", "Dockerfile:2: FROM isn't allowed as an ONBUILD trigger"),
        ("FROM x\nONBUILD RUNN a", "Dockerfile:2: unknown instruction: RUNN"),
        ("FROM x\nVOLUME []", "Dockerfile:2: VOLUME specified can not be an empty string"),
        ("FROM x\nRUN <<EOF\na", "Dockerfile:2: unterminated heredoc: a line with only 'EOF'"),
        ("# escape=x\nFROM x", "Dockerfile:1: invalid escape token 'x'"),
        ("# escape=`\n# escape=`\nFROM x", "Dockerfile:2: only one escape parser directive"),
    ],
)
def test_mistakes_name_file_line_and_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(text)
    assert message in caught.value.message


def test_hints() -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse("FROM x\nRUNN y")
    assert caught.value.hint == "did you mean RUN?"
    with pytest.raises(Unsupported, match="Dockerfile:2: RUN --mount is not supported"):
        parse("FROM x\nRUN --mount=type=cache,target=/x y")


def test_one_instruction() -> None:
    assert parse_instruction(' CMD ["a"] ') == m.Cmd(
        line=1, text='CMD ["a"]', command=m.Command(("a",), shell_form=False)
    )


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$A", "1"),
        ("${A}x$A", "1x1"),
        ("\\$A", "$A"),
        ("'$A'", "$A"),
        ('"$A b"', "1 b"),
        ('"\\$A \\x"', "$A \\x"),
        ("a\\ b", "a b"),
        ("$NONE", ""),
        ("${NONE:-x$A}", "x1"),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY-x}", ""),
        ("${A:+x}", "x"),
        ("${EMPTY:+x}", ""),
        ("${EMPTY+x}", "x"),
        ("${A:?no}", "1"),
        ("${NONE:-'}'}", "}"),
        ("${P#*/}", "b/c"),
        ("${P##*/}", "c"),
        ("${P%/*}", "a/b"),
        ("${P%%/*}", "a"),
        ("$", "$"),
        ("$/x", "$/x"),
        ("a$12", "a2"),
    ],
)
def test_expansion(text: str, result: str) -> None:
    assert expand(text, {"A": "1", "EMPTY": "", "P": "a/b/c"}) == result


def test_required_variable() -> None:
    with pytest.raises(InvalidArgument, match="X: tell me"):
        expand("${X:?tell me}", {})
    with pytest.raises(InvalidArgument, match="X: not allowed to be unset"):
        expand("${X?}", {})


def test_expanding_to_several_words() -> None:
    assert expand_words("$P '80 81'", {"P": "1 2"}) == ["1", "2", "80 81"]


def test_splitting_keeps_quotes() -> None:
    assert split_words("a='b c' d\\ e  \"f 'g\"") == ["a='b c'", "d\\ e", '"f \'g"']


@given(st.text())
def test_any_text_gives_a_file_or_an_error_with_its_line(text: str) -> None:
    error: PannierError | None = None
    try:
        assert parse(text).stages
    except PannierError as caught:
        error = caught
    if error is not None:
        assert str(error).startswith("Dockerfile:")
        line = error.fields["line"]
        assert isinstance(line, int)
        assert 1 <= line <= text.count("\n") + 1


_WORD = st.text(alphabet="abcXYZ019_-./:=", min_size=1, max_size=8).filter(
    lambda word: not word.startswith("--")
)


@given(st.lists(_WORD, min_size=1, max_size=6), st.lists(st.integers(0, 3), max_size=6))
def test_continuations_and_comments_change_nothing(words: list[str], breaks: list[int]) -> None:
    """A RUN line reads the same however it is broken up."""
    separators = [" ", " \\\n", " \\\n# comment\n", " \\\n\n   # c\n"]
    text = words[0]
    for index, word in enumerate(words[1:]):
        text += separators[breaks[index] if index < len(breaks) else 0] + word
    (run,) = _steps("RUN " + text)
    assert isinstance(run, m.Run)
    assert run.command.words == (" ".join(words),)


_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


@given(_TEXT)
def test_single_quotes_protect_everything(text: str) -> None:
    value = text.replace("'", "")
    assert expand(f"'{value}'", {"a": "!"}) == value


@given(_TEXT)
def test_escaping_every_character_protects_everything(text: str) -> None:
    assert expand("".join("\\" + char for char in text), {"a": "!"}) == text


@given(st.dictionaries(st.sampled_from("abc"), _TEXT), st.sampled_from("abc"), _TEXT)
def test_default_applies_exactly_when_unset_or_empty(
    variables: dict[str, str], name: str, default: str
) -> None:
    plain = "".join(c for c in default if c not in "'\"\\${}")
    assert expand(f"${{{name}:-{plain}}}", variables) == (variables.get(name) or plain)
    assert expand(f"${{{name}-{plain}}}", variables) == variables.get(name, plain)
