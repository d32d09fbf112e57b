"""The default filter against moby's own file (where it is at hand) and against what must hold."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from pannier.oci.defaults import ALL_CAPABILITIES, DEFAULT_CAPABILITIES
from pannier.oci.seccomp_profile import profile

REFERENCE = Path(__file__).parents[4] / "shared/specs/docker-seccomp-default.json"


def _reference(capabilities: set[str], family: str) -> list[dict]:
    """Moby's rules that apply, by moby's own conditions."""
    applied = []
    for rule in json.loads(REFERENCE.read_text())["syscalls"]:
        includes, excludes = rule.get("includes", {}), rule.get("excludes", {})
        if "arches" in includes and family not in includes["arches"]:
            continue
        if not set(includes.get("caps", [])) <= capabilities:
            continue
        if family in excludes.get("arches", []) or capabilities & set(excludes.get("caps", [])):
            continue
        applied.append({k: rule[k] for k in ("names", "action", "args", "errnoRet") if k in rule})
    return applied


@pytest.mark.skipif(not REFERENCE.exists(), reason="moby's profile is not beside this checkout")
@pytest.mark.parametrize(("machine", "family"), [("x86_64", "amd64"), ("aarch64", "arm64")])
@pytest.mark.parametrize(
    "capabilities",
    [set(), set(DEFAULT_CAPABILITIES), set(ALL_CAPABILITIES), {"CAP_SYS_ADMIN"}, {"CAP_SYSLOG"}],
)
def test_equals_moby(machine: str, family: str, capabilities: set[str]) -> None:
    made = profile(capabilities, machine)
    expected = _reference(capabilities, family)
    assert made["syscalls"] == expected
    assert made["defaultErrnoRet"] == 1


def test_table_is_unchanged() -> None:
    """A change of the table is a change of what every container may do: it has to be meant."""
    text = json.dumps(profile(set(DEFAULT_CAPABILITIES), "x86_64"), sort_keys=True)
    assert (
        hashlib.sha256(text.encode()).hexdigest()
        == "9b13ea987ff8bc83cfa690eb593a590a12f6f6662b8c3c17bca11669abbb0acf"
    )


def _allowed(capabilities: set[str]) -> set[str]:
    rules = profile(capabilities, "x86_64")["syscalls"]
    return {name for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}


def test_dangerous_calls_need_their_capability() -> None:
    plain = _allowed(set(DEFAULT_CAPABILITIES))
    for name in ("mount", "bpf", "init_module", "open_by_handle_at", "kexec_load", "keyctl"):
        assert name not in plain
    assert "mount" in _allowed({"CAP_SYS_ADMIN"})
    assert "kexec_load" not in _allowed(set(ALL_CAPABILITIES))


def test_unknown_processor_gets_the_native_abi_alone() -> None:
    assert "architectures" not in profile(set(), "loongarch64")
