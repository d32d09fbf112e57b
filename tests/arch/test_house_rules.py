"""Rules of the house that no linter knows: sizes, empty packages, layers, words."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "pannier"
MODULES = sorted(SOURCE.rglob("*.py"))

LONGEST_MODULE = 500
LONGEST_FUNCTION = 60

# path below src/pannier -> why it may be longer
LONG_MODULES = {
    "kernel/_libc.py": "every prototype in one place: set from two modules they corrupt each other",
}
# path below src/pannier:function -> why it may be longer
LONG_FUNCTIONS: dict[str, str] = {}

# Traces of work that was left unfinished.
FORBIDDEN = ("FIXME", "TODO", "XXX:", "import pdb", "breakpoint()")


def _name(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def _functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            body = node.body
            start = node.lineno
            if ast.get_docstring(node) is not None:  # an API explained at length is not long
                start += (body[0].end_lineno or 0) - body[0].lineno + 1
            yield node.name, node.end_lineno - start + 1


def test_modules_are_short() -> None:
    lengths = {_name(path): len(path.read_text().splitlines()) for path in MODULES}
    too_long = {n: length for n, length in lengths.items() if length > LONGEST_MODULE}
    assert set(too_long) <= set(LONG_MODULES), {
        n: length for n, length in too_long.items() if n not in LONG_MODULES
    }


def test_functions_are_short() -> None:
    too_long = {
        f"{_name(path)}:{function}": length
        for path in MODULES
        for function, length in _functions(path)
        if length > LONGEST_FUNCTION
    }
    assert set(too_long) <= set(LONG_FUNCTIONS), too_long


def test_exceptions_are_needed() -> None:
    """An exception that nothing needs any more goes."""
    for name in LONG_MODULES:
        assert (SOURCE / name).exists(), name
    for entry in LONG_FUNCTIONS:
        path, _, function = entry.partition(":")
        lengths = dict(_functions(SOURCE / path))
        assert lengths.get(function, 0) > LONGEST_FUNCTION, entry


def test_packages_are_empty() -> None:
    """An ``__init__`` that imports makes circles; only the public API at the root loads, lazily."""
    full = [
        _name(path)
        for path in MODULES
        if path.name == "__init__.py" and path.parent != SOURCE and path.read_text().strip()
    ]
    assert full == []


def test_every_module_says_what_it_is_for() -> None:
    missing = [
        _name(path)
        for path in MODULES
        if path.name != "__init__.py" and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert missing == []


def test_annotations_are_never_evaluated() -> None:
    missing = [
        _name(path)
        for path in MODULES
        if path.read_text().strip() and "from __future__ import annotations" not in path.read_text()
    ]
    assert missing == []


@pytest.mark.parametrize("word", FORBIDDEN)
def test_no_half_done_work(word: str) -> None:
    assert [_name(path) for path in MODULES if word in path.read_text()] == []


def test_kernel_files_are_written_by_one_call() -> None:
    """``open(path, "w").write(...)`` loses the error of a refused write when it is closed late."""
    bad = []
    for path in [*(SOURCE / "kernel").glob("*.py"), *(SOURCE / "runtime").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                modes = [a.value for a in node.args[1:2] if isinstance(a, ast.Constant)]
                if node.func.id == "open" and any("w" in str(m) or "a" in str(m) for m in modes):
                    bad.append(f"{_name(path)}:{node.lineno}")
    assert bad == []


def test_no_file_knows_where_the_checkout_lies() -> None:
    bad = [
        str(path.relative_to(ROOT))
        for folder in ("src", "tests", "scripts", "bench", "examples", "docs")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
        and path.suffix in ("", ".py", ".md", ".yaml", ".yml", ".sh", ".service", ".toml")
        and path != Path(__file__)
        and "__pycache__" not in path.parts
        and str(ROOT) in path.read_text(errors="ignore")
    ]
    assert bad == []


def test_layers() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports"))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
