"""What the small processes load: time at each start, memory for as long as they live."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"

# Standard modules that the small processes may load, beyond those of a bare `python -I -S`.
CHEAP = {
    # json needs re and enum, and these the rest
    *("json", "re", "enum", "types", "operator", "functools", "collections", "keyword", "reprlib"),
    *("copyreg", "sre_compile", "sre_parse", "sre_constants"),
    *("ctypes", "struct", "contextlib", "select", "fcntl", "signal", "errno", "time", "math"),
    *("binascii", "base64", "array", "resource", "termios", "grp", "pwd", "ipaddress", "socket"),
    *("selectors", "traceback", "linecache", "tokenize", "token", "textwrap"),
    *("posixpath", "genericpath", "stat", "os", "io", "abc", "codecs", "site", "warnings"),
    *("gc", "platform", "itertools", "copy", "weakref", "heapq", "random", "bisect"),
}
FORBIDDEN = {
    *("asyncio", "typing", "dataclasses", "pathlib", "logging", "subprocess", "threading"),
    *("inspect", "msgspec", "aiohttp", "pyseccomp", "shutil", "tempfile", "http", "urllib"),
}
PROCESSES = ("keeper", "supervisor", "logger", "stager")


def _loaded(module: str) -> set[str]:
    """Top-level names of what *module* loads in a bare interpreter."""
    script = (
        "import sys\n"
        f"sys.path.insert(0, {str(SOURCE)!r})\n"
        f"import {module}\n"
        "sys.stdout.write(repr(sorted(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")},
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.replace("'", '"')))


@pytest.mark.parametrize("name", PROCESSES)
def test_small_processes_load_little(name: str) -> None:
    if not (SOURCE / "pannier" / "runtime" / f"{name}.py").exists():
        pytest.skip(f"no {name} yet")
    loaded = {module.partition(".")[0] for module in _loaded(f"pannier.runtime.{name}")}
    assert loaded & FORBIDDEN == set()
    bare = {module.partition(".")[0] for module in _loaded("sys")}
    private = {module for module in loaded if module.startswith("_")}
    assert loaded - bare - private - CHEAP - {"pannier"} == set()


@pytest.mark.parametrize("name", PROCESSES)
def test_small_processes_stay_on_the_lower_floors(name: str) -> None:
    if not (SOURCE / "pannier" / "runtime" / f"{name}.py").exists():
        pytest.skip(f"no {name} yet")
    allowed = {"base", "kernel", "runtime", "oci"}
    packages = {
        module.split(".")[1]
        for module in _loaded(f"pannier.runtime.{name}")
        if module.startswith("pannier.") and module.count(".") >= 1
    }
    assert packages <= allowed
