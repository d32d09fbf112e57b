"""Lists as people and scripts read them: aligned columns, templates, JSON lines, bare ids.

Layout as Docker's (Go's tabwriter: cells at least 10 wide, 3 spaces between).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pannier.cli.goeval import Template, text_of, to_json

Json = dict[str, Any]
_PADDING = 3
_LEAST = 10


class Listing:
    """How one kind of object is listed.

    Args:
        fields: by the name used in templates: its column header, and how it is got.
        default: names of the columns that are shown.
    """

    def __init__(
        self,
        fields: Mapping[str, tuple[str, Callable[[Any], Any]]],
        default: Sequence[str],
    ) -> None:
        self._fields = fields
        self._default = tuple(default)

    def show(
        self, objects: Iterable[Any], form: str = "", columns: Sequence[str] | None = None
    ) -> None:
        """Print *objects*.

        Args:
            form: ``--format``: "", ``table``, ``table TEMPLATE``, ``json`` or a template.
            columns: instead of the default ones.
        """
        for line in self.lines(objects, form, columns):
            sys.stdout.write(line + "\n")

    def lines(
        self, objects: Iterable[Any], form: str = "", columns: Sequence[str] | None = None
    ) -> Iterable[str]:
        """See `show`."""
        if form in {"", "table"}:
            return self._table(objects, columns or self._default)
        if form == "json":
            form = "{{json .}}"
        word, _, template = form.partition(" ")
        if word == "table":
            return self._template_table(objects, _unescape(template.strip()))
        parsed = Template(_unescape(form), _ROW_FUNCTIONS)
        return (parsed.render(_Row(self._fields, item)) for item in objects)

    def _table(self, objects: Iterable[Any], columns: Sequence[str]) -> list[str]:
        rows = [[self._fields[name][0] for name in columns]]
        rows += [[text_of(self._fields[name][1](item)) for name in columns] for item in objects]
        return align(rows)

    def _template_table(self, objects: Iterable[Any], template: str) -> list[str]:
        parsed = Template(template, _ROW_FUNCTIONS)
        headers = {name: header for name, (header, _) in self._fields.items()}
        # In the head line a field is its header, whatever functions are around it.
        lines = [Template(_plain(template)).render(headers)]
        lines += [parsed.render(_Row(self._fields, item)) for item in objects]
        return align([line.split("\t") for line in lines])


class _Row:
    """An object under its template's names."""

    def __init__(self, fields: Mapping[str, tuple[str, Callable[[Any], Any]]], item: Any) -> None:
        self._fields = fields
        self.item = item

    def field(self, name: str) -> Any:
        from pannier.base.errors import InvalidArgument  # noqa: PLC0415

        found = self._fields.get(name)
        if found is None:
            raise InvalidArgument(
                f"template: can't evaluate field {name}",
                hint="fields: " + " ".join("." + name for name in self._fields),
            )
        return found[1](self.item)

    def everything(self) -> Json:
        return {name: text_of(get(self.item)) for name, (_, get) in self._fields.items()}


def _label(row: object, name: str = "") -> str:
    item = getattr(row, "item", {})
    return str((item.get("Labels") or {}).get(name, ""))


_ROW_FUNCTIONS: dict[str, Callable[..., Any]] = {".Label": _label}


def _unescape(text: str) -> str:
    """People type \\t and \\n inside single quotes."""
    return text.replace("\\t", "\t").replace("\\n", "\n")


def _plain(template: str) -> str:
    import re  # noqa: PLC0415

    return re.sub(r"\{\{[^}]*?(\.\w+)[^}]*\}\}", r"{{\1}}", template)


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines; the last cell of a row is not padded."""
    widths: list[int] = []
    for row in rows:
        for position, cell in enumerate(row[:-1]):
            size = max(_LEAST, len(cell) + _PADDING)
            if position < len(widths):
                widths[position] = max(widths[position], size)
            else:
                widths.append(size)
    lines = []
    for row in rows:
        padded = [cell.ljust(widths[i]) for i, cell in enumerate(row[:-1])]
        lines.append("".join(padded) + (row[-1] if row else ""))
    return lines


def parse_filters(values: Iterable[str]) -> dict[str, list[str]]:
    """``--filter label=a --filter name=x`` -> {"label": ["a"], "name": ["x"]}.

    Raises:
        InvalidArgument: no ``=``.
    """
    from pannier.base.errors import InvalidArgument  # noqa: PLC0415

    out: dict[str, list[str]] = {}
    for value in values:
        key, separator, rest = value.partition("=")
        if not separator:
            raise InvalidArgument(
                f'invalid argument "{value}" for "-f, --filter" flag: '
                "bad format of filter (expected name=value)"
            )
        out.setdefault(key.strip().lower(), []).append(rest.strip())
    return out


__all__ = ["Listing", "align", "parse_filters", "to_json"]
