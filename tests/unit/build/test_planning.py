"""Stages, variables and effects on the configuration: the pure parts behind a build."""

from __future__ import annotations

import pytest

from pannier.base.errors import InvalidArgument
from pannier.build import effects
from pannier.build import model as m
from pannier.build.changes import apply_changes
from pannier.build.parser import parse, parse_instruction
from pannier.build.stages import Graph
from pannier.build.variables import Arguments, expanded
from pannier.oci.image import ContainerDefaults

STAGES = """
FROM a AS one
FROM b AS two
FROM one AS three
COPY --from=1 /x /
FROM c AS four
FROM d
COPY --from=three /x /
COPY --from=nginx /y /
"""


def _graph(text: str, **variables: str) -> Graph:
    return Graph(parse(text), variables)


@pytest.mark.parametrize(
    ("target", "needed"),
    [("", [0, 1, 2, 4]), ("three", [0, 1, 2]), ("ONE", [0]), ("3", [3])],
)
def test_only_needed_stages(target: str, needed: list[int]) -> None:
    assert [stage.number for stage in _graph(STAGES).needed(target)] == needed


def test_a_stage_may_have_the_name_of_its_image() -> None:
    (first, second) = _graph("FROM x AS x\nFROM x\nCOPY --from=x /a /").needed("")
    assert (first.parent, second.parent) == (None, 0)


def test_unknown_target_names_the_stages() -> None:
    with pytest.raises(InvalidArgument, match="failed to reach build target x") as caught:
        _graph(STAGES).needed("x")
    assert caught.value.hint == "the stages are: one, two, three, four"


def test_variables_in_from() -> None:
    (stage,) = _graph("ARG V\nFROM debian:${V:-12}", V="13").needed("")
    assert stage.base == "debian:13"
    with pytest.raises(InvalidArgument, match=r"Dockerfile:1: base name \(\$X\) should not be"):
        _graph("FROM $X")


def test_arguments() -> None:
    arguments = Arguments({"A": "given", "B": None, "http_proxy": "p", "Z": "z"}, {"TARGETOS": "l"})
    for step in parse("ARG A=1 B=2 C=${A}x\nFROM x").arguments:
        arguments.declare_common(step, "\\")
    assert arguments.common == {"A": "given", "B": "2", "C": "givenx"}
    assert arguments.value("A", None) == arguments.value("A", "default") == "given"
    assert arguments.value("C", None) == "givenx"
    assert arguments.value("C", "default") == "default"
    assert arguments.value("TARGETOS", None) == "l"
    assert arguments.value("D", None) is None
    assert arguments.proxies() == {"http_proxy": "p"}
    assert arguments.unused() == ["Z"]


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("ENV a=$X b=$a", "ENV a=1 b="),
        ("LABEL $X=$X", "LABEL 1=1"),
        ("EXPOSE $P", "EXPOSE 80 81"),
        ("USER $X", "USER 1"),
        ("WORKDIR /$X", "WORKDIR /1"),
        ("VOLUME /$X", "VOLUME [/1]"),
        ("STOPSIGNAL $X", "STOPSIGNAL 1"),
        ("CMD $X", 'CMD ["/bin/sh" "-c" "$X"]'),
        ('ENTRYPOINT ["$X", "\\""]', 'ENTRYPOINT ["$X" "\\""]'),
        ("ARG q=$X r", "ARG q=1 r"),
        ('SHELL ["$X"]', "SHELL [$X]"),
        ("ONBUILD RUN $X", "ONBUILD RUN $X"),
        ("MAINTAINER $X", "MAINTAINER $X"),
    ],
)
def test_what_is_expanded_and_how_history_tells_it(text: str, result: str) -> None:
    step = expanded(parse_instruction(text), {"X": "1", "P": "80 81"}, "\\")
    line = effects.history_line(ContainerDefaults(), step)
    assert line.removeprefix("/bin/sh -c #(nop)").strip() == result


def test_heredocs_expand_without_regard_to_quotes() -> None:
    copy = parse("FROM x\nCOPY <<A <<'B' /\n'$X' \"$X\" \\$X \\n\nA\n$X\nB\n").stages[0].steps[0]
    step = expanded(copy, {"X": "1"}, "\\")
    assert isinstance(step, m.Copy)
    assert [doc.content for doc in step.heredocs] == ["'1' \"1\" $X \\n\n", "$X\n"]


def test_changes_of_a_commit() -> None:
    defaults = ContainerDefaults(env=["A=1", "B=2"], cmd=["old"], exposed_ports={"1/tcp": {}})
    changes = ["ENV B=$A C=3", 'ENTRYPOINT ["x"]', "EXPOSE 80", "LABEL a=b", "WORKDIR x"]
    changed = apply_changes(defaults, changes)
    assert changed.env == ["A=1", "B=1", "C=3"]
    assert (changed.entrypoint, changed.cmd) == (["x"], None)
    assert changed.exposed_ports == {"1/tcp": {}, "80/tcp": {}}
    assert (changed.labels, changed.working_dir) == ({"a": "b"}, "/x")
    with pytest.raises(InvalidArgument, match="RUN is not a valid change command"):
        apply_changes(defaults, ["RUN x"])
    with pytest.raises(InvalidArgument, match="change:1: unknown instruction: NO"):
        apply_changes(defaults, ["NO x"])


@pytest.mark.parametrize("port", ["0", "65536", "a", "80-79", "80/icmp", "-1", ""])
def test_impossible_ports(port: str) -> None:
    with pytest.raises(InvalidArgument, match="EXPOSE: invalid containerPort"):
        effects.expanded_ports(port)


def test_healthcheck_none_and_signal() -> None:
    changed = apply_changes(ContainerDefaults(), ["HEALTHCHECK NONE", "STOPSIGNAL SIGRTMIN+3"])
    assert changed.healthcheck is not None
    assert changed.healthcheck.test == ["NONE"]
    assert changed.stop_signal == "SIGRTMIN+3"
    with pytest.raises(InvalidArgument):
        apply_changes(ContainerDefaults(), ["STOPSIGNAL SIGNO"])
