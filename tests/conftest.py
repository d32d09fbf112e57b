"""Fixtures for all tests, and the two-sided gate for those that need root.

A test below ``integration`` or ``e2e`` needs root and a kernel that lets us. Without ``--run-root``
it is skipped; with it, not being root is an error: where these tests are meant to run, none may be
skipped by accident.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from engine_under_test import EngineUnderTest
from leaks import Snapshot, leaks

from pannier.base.instance import Instance

_CACHE = Path(os.environ.get("PANNIER_TEST_CACHE", "/var/cache/pannier-tests"))
# Not /tmp: it may be a tmpfs, which refuses some of what overlayfs stores.
_BASE = Path("/var/tmp/pannier-tests")
_NEED_ROOT = ("integration", "e2e")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--run-root", action="store_true", help="run the tests that need root, or fail without it"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    for item in items:
        if item.path.relative_to(tests).parts[0] in _NEED_ROOT:
            item.add_marker(pytest.mark.root)
    if not config.getoption("--run-root"):
        for item in items:
            if item.get_closest_marker("root"):
                item.add_marker(pytest.mark.skip(reason="needs root: scripts/test"))
    elif os.geteuid() != 0:
        raise pytest.UsageError("--run-root: these tests need root, and this is not root")


def _new_instance() -> Instance:
    name = f"pnt{secrets.token_hex(3)}"
    return Instance(name=name, data=_BASE / name / "data", run=_BASE / name / "run")


def _remove_directories(instance: Instance) -> None:
    shutil.rmtree(instance.data.parent, ignore_errors=True)


@pytest.fixture
def instance() -> Iterator[Instance]:
    """Name and directories of an engine that does not run; nothing of it may be left at the end."""
    made = _new_instance()
    nothing = Snapshot.of(made)
    made.make_directories()
    yield made
    _remove_directories(made)
    assert leaks(made, nothing) == {}


def _engine_with(
    prepare: Callable[[EngineUnderTest], None] | None = None,
) -> Iterator[EngineUnderTest]:
    made = _new_instance()
    nothing = Snapshot.of(made)
    made.data.parent.mkdir(parents=True)
    engine = EngineUnderTest(made)
    try:
        engine.start()
        if prepare is not None:
            prepare(engine)
        yield engine
    finally:
        engine.take_down()
        # Directories are what an engine keeps when it stops.
        left = leaks(made, nothing, ignore=["directories"])
        _remove_directories(made)
    assert left == {}


@pytest.fixture
def fresh_daemon() -> Iterator[EngineUnderTest]:
    """A running engine for one test alone, to be killed and restarted; without images."""
    yield from _engine_with()


@pytest.fixture(scope="module")
def module_daemon(base_archive: Path) -> Iterator[EngineUnderTest]:
    """A running engine for the tests of one module, with the image ``debian:12``."""
    yield from _engine_with(lambda engine: _load(engine, base_archive))


@pytest.fixture
def daemon(module_daemon: EngineUnderTest) -> Iterator[EngineUnderTest]:
    """The module's engine; at the end of each test its containers are removed, and nothing else
    of them may be left."""
    before = Snapshot.of(module_daemon.instance)
    yield module_daemon
    ids = module_daemon.cli("ps", "-aq").split()
    if ids:
        module_daemon.cli("rm", "-f", "-v", *ids)
    networks = set(module_daemon.cli("network", "ls", "--format", "{{.Name}}").split())
    if networks := networks - {"bridge", "host", "none"}:
        module_daemon.cli("network", "rm", *networks)
    assert leaks(module_daemon.instance, before) == {}


@pytest.fixture(scope="session")
def base_archive() -> Path:
    """``debian:12`` as a saved archive: bootstrapped once for this machine, then loaded."""
    archive = _CACHE / "debian-12.tar"
    if archive.exists():
        return archive
    for engine in _engine_with():
        engine.cli("image", "bootstrap", "debian:12", timeout=600)
        _CACHE.mkdir(parents=True, exist_ok=True)
        fresh = archive.with_suffix(".new")
        engine.cli("save", "--output", str(fresh), "debian:12", timeout=300)
        fresh.rename(archive)
    return archive


def _load(engine: EngineUnderTest, archive: Path) -> None:
    engine.cli("load", "--input", str(archive), timeout=300)
