"""Go's templates as far as `--format` needs them, and tables."""

from __future__ import annotations

import pytest

from pannier.base.errors import InvalidArgument
from pannier.cli.goeval import Template
from pannier.cli.tables import Listing, align, parse_filters

DATA = {
    "Name": "web",
    "N": 3,
    "On": True,
    "Off": False,
    "None": None,
    "State": {"Status": "running", "ExitCode": 0},
    "Tags": ["a", "b"],
    "Empty": [],
    "Map": {"k2": {"IP": "2"}, "k1": {"IP": "1"}},
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{.Name}}", "web"),
        ("{{ .State.Status }}!", "running!"),
        ("{{.On}} {{.Off}} {{.N}} {{.None}}", "true false 3 <no value>"),
        ("{{.Tags}} {{.Map.k1}}", "[a b] map[IP:1]"),
        ("{{json .State}}", '{"Status":"running","ExitCode":0}'),
        ("{{.Tags | json}}", '["a","b"]'),
        ('{{join .Tags ", "}}', "a, b"),
        ("{{upper .Name}} {{lower `ABC`}}", "WEB abc"),
        ("{{len .Tags}}", "2"),
        ("{{index .Tags 1}} {{index .Map `k2` `IP`}}", "b 2"),
        ("{{(index .Map `k1`).IP}}", "1"),
        ("{{range .Tags}}<{{.}}>{{end}}", "<a><b>"),
        ("{{range $i, $t := .Tags}}{{$i}}={{$t}};{{end}}", "0=a;1=b;"),
        ("{{range $k, $v := .Map}}{{$k}}={{$v.IP}} {{end}}", "k1=1 k2=2 "),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{if .On}}yes{{else}}no{{end}}", "yes"),
        ("{{if .Off}}a{{else if eq .N 3}}b{{else}}c{{end}}d", "bd"),
        ("{{if and .On (gt .N 2)}}both{{end}}", "both"),
        ("{{if not .Off}}x{{end}}", "x"),
        ("{{with .State}}{{.ExitCode}}{{end}}", "0"),
        ("{{with .None}}x{{else}}nothing{{end}}", "nothing"),
        ("{{$n := .Name}}{{range .Tags}}{{$n}}{{.}} {{end}}", "weba webb "),
        ("{{range .Tags}}{{$.Name}}{{end}}", "webweb"),
        ('{{printf "%-5s|%03d|%q|100%%" .Name .N .Name}}', 'web  |003|"web"|100%'),
        ("a {{- .Name -}} b", "awebb"),
        ("{{/* nothing */}}x", "x"),
        ("{{println .Name}}", "web\n"),
        ('{{"a\\tb"}}', "a\tb"),
        ("{{slice .Name 0 2}}", "we"),
    ],
)
def test_templates(template: str, text: str) -> None:
    assert Template(template).render(DATA) == text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{.Nothing}}", 'no entry for key "Nothing"'),
        ("{{.name}}", 'no entry for key "name"'),
        ("{{nofunc .Name}}", 'function "nofunc" not defined'),
        ("{{.Name", "unclosed action"),
        ("{{if .On}}x", "an {{end}} is missing"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{else}}", "unexpected {{else}}"),
        ("{{}}", "missing value"),
        ("{{$x}}", 'undefined variable "$x"'),
        ("{{(.Name}}", "unclosed left paren"),
        ("{{.Name | .N}}", "only a function"),
        ("{{index .Tags 9}}", "error calling index"),
        ("{{range .On}}{{end}}", "can't iterate"),
    ],
)
def test_templates_with_mistakes(template: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Template(template).render(DATA)
    assert message in caught.value.message


def test_a_wrong_letter_is_hinted_at() -> None:
    with pytest.raises(InvalidArgument) as caught:
        Template("{{.name}}").render(DATA)
    assert caught.value.hint == "did you mean .Name?"


LISTING = Listing(
    {"ID": ("THE ID", lambda i: i["id"]), "Name": ("NAME", lambda i: i["name"])}, ("ID", "Name")
)
ITEMS = [{"id": 1, "name": "one", "Labels": {"a": "b"}}, {"id": 2, "name": "a-longer-name"}]


def test_table() -> None:
    assert list(LISTING.lines(ITEMS)) == [
        "THE ID    NAME",
        "1         one",
        "2         a-longer-name",
    ]


def test_table_of_own_columns() -> None:
    assert list(LISTING.lines(ITEMS, "table {{.Name}}\\t{{.ID}}")) == [
        "NAME            THE ID",
        "one             1",
        "a-longer-name   2",
    ]


def test_lines_json_and_labels() -> None:
    assert list(LISTING.lines(ITEMS, "{{.ID}}:{{.Label `a`}}")) == ["1:b", "2:"]
    assert next(iter(LISTING.lines(ITEMS, "json"))) == '{"ID":"1","Name":"one"}'


def test_unknown_field_lists_the_known() -> None:
    with pytest.raises(InvalidArgument) as caught:
        list(LISTING.lines(ITEMS, "{{.Foo}}"))
    assert caught.value.hint == "fields: .ID .Name"


def test_columns_as_tabwriter() -> None:
    assert align([["a", "b"], ["a long cell", "c"]]) == ["a             b", "a long cell   c"]


def test_filters() -> None:
    assert parse_filters(["name=a", "label=x=y", "name=b"]) == {
        "name": ["a", "b"], "label": ["x=y"],
    }  # fmt: skip
    with pytest.raises(InvalidArgument, match="bad format of filter"):
        parse_filters(["running"])
