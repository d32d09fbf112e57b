"""What prune takes and what it leaves; what inspect says about image and container together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from engine_under_test import EngineUnderTest

IMAGE = "debian:12"

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]


def names(daemon: EngineUnderTest) -> set[str]:
    return set(daemon.cli("ps", "-a", "--format", "{{.Names}}").split())


def test_prune_by_age_and_label(daemon: EngineUnderTest) -> None:
    daemon.cli("create", "--name", "plain", IMAGE, "true")
    daemon.cli("create", "--name", "kept", "--label", "keep", IMAGE, "true")
    daemon.cli("container", "prune", "--force", "--filter", "until=1h")
    assert names(daemon) == {"plain", "kept"}
    daemon.cli("container", "prune", "--force", "--filter", "label!=keep")
    assert names(daemon) == {"kept"}
    daemon.cli("container", "prune", "--force", "--filter", "until=0s")
    assert names(daemon) == set()


def test_networks_and_volumes_by_age_and_label(daemon: EngineUnderTest) -> None:
    daemon.cli("network", "create", "young")
    daemon.cli("volume", "create", "--label", "keep", "kept")
    daemon.cli("network", "prune", "--force", "--filter", "until=1h")
    assert "young" in daemon.cli("network", "ls", "--format", "{{.Name}}").split()
    daemon.cli("network", "prune", "--force", "--filter", "until=0s")
    assert "young" not in daemon.cli("network", "ls", "--format", "{{.Name}}").split()
    daemon.cli("volume", "prune", "--all", "--force", "--filter", "label!=keep")
    assert daemon.cli("volume", "ls", "--quiet").strip() == "kept"


def test_a_young_build_cache_stays(daemon: EngineUnderTest, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo hello > /hello\n")
    daemon.cli("build", "--tag", "hello", str(tmp_path))
    daemon.cli("rmi", "hello")
    daemon.cli("builder", "prune", "--force", "--filter", "until=1h")
    daemon.cli("system", "prune", "--force", "--filter", "label=nobody")
    assert "Using cache" in daemon.cli("build", str(tmp_path))


def test_a_system_that_is_off_is_not_pruned(daemon: EngineUnderTest, tmp_path: Path) -> None:
    script = "#!/bin/sh\nexec sleep 1000\n"
    (tmp_path / "init").write_text(script)
    (tmp_path / "Dockerfile").write_text(
        f"FROM {IMAGE}\nCOPY init /sbin/init\nRUN chmod 755 /sbin/init\n"
    )
    daemon.cli("build", "--tag", "tiny", str(tmp_path))
    daemon.cli("create", "--name", "machine", "--runtime", "os", "tiny")
    daemon.cli("create", "--name", "job", IMAGE, "true")
    daemon.cli("system", "prune", "--force")
    assert names(daemon) == {"machine"}
    daemon.cli("container", "prune", "--force", "--filter", "kind=os")
    assert names(daemon) == set()


def test_inspect_shows_what_comes_from_the_image(daemon: EngineUnderTest, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        f'FROM {IMAGE}\nENV A=1 B=1\nWORKDIR /srv\nUSER 33\nENTRYPOINT ["sleep"]\nCMD ["9"]\n'
    )
    daemon.cli("build", "--tag", "made", str(tmp_path))
    daemon.cli("create", "--name", "plain", "--env", "B=2", "made")
    daemon.cli("create", "--name", "other", "--entrypoint", "id", "made")
    config = json.loads(daemon.cli("inspect", "plain"))[0]["Config"]
    assert {"A=1", "B=2"} < set(config["Env"])
    assert (config["Entrypoint"], config["Cmd"]) == (["sleep"], ["9"])
    assert (config["WorkingDir"], config["User"]) == ("/srv", "33")
    config = json.loads(daemon.cli("inspect", "other"))[0]["Config"]
    assert (config["Entrypoint"], config["Cmd"]) == (["id"], None)
