"""Base images from signed packages, and what is said when that cannot be done."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest
from imagelab import leftovers, new_store

from pannier.base.errors import InvalidArgument, NotFound, Unavailable, Unsupported
from pannier.base.instance import Instance
from pannier.images import releases
from pannier.images.bootstrap import bootstrap
from pannier.images.store import ImageStore
from pannier.wire.system import Progress


@pytest.fixture
def store(instance: Instance) -> ImageStore:
    return new_store(instance)


def _in(root: Path, *command: str) -> str:
    done = subprocess.run(
        ["chroot", str(root), *command], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.internet
@pytest.mark.slow
async def test_debian_and_an_os_image_on_top(store: ImageStore, instance: Instance) -> None:
    lines: list[Progress] = []
    image = await bootstrap(store, instance, "debian:12", report=lines.append)
    assert image.tags == ("docker.io/library/debian:12", "docker.io/library/debian:bookworm")
    assert (image.config.defaults.cmd, len(image.layers)) == (["bash"], 1)
    assert any("installing essential packages" in line.status for line in lines)
    root = image.layers[0].path
    assert _in(root, "cat", "/etc/debian_version").startswith("12.")
    assert (root / "etc/machine-id").read_bytes() == b""
    assert os.listdir(root / "dev") == os.listdir(root / "run") == []
    assert not list(root.rglob("*mmdebstrap*"))
    assert not list((root / "var/lib/apt/lists").iterdir())
    sources = (root / "etc/apt/sources.list.d/debian.sources").read_text()
    assert "Suites: bookworm\n" in sources
    assert "@" not in sources

    os_image = await bootstrap(store, instance, "debian:12", init="systemd")
    assert os_image.tags[0] == "docker.io/library/debian:12-os"
    assert os_image.layers[0].id == image.layers[0].id
    top = os_image.layers[1].path
    assert os.readlink(top / "usr/sbin/init").endswith("systemd")
    assert (top / "etc/machine-id").read_bytes() == b""
    # Deleted on top: services of packages installed later do start.
    assert (top / "usr/sbin/policy-rc.d").stat().st_rdev == 0
    assert os_image.config.defaults.stop_signal == "SIGRTMIN+3"
    assert leftovers(instance) == []


async def test_an_archive_that_cannot_be_reached(store: ImageStore, instance: Instance) -> None:
    with pytest.raises(Unavailable, match="mmdebstrap failed with status") as caught:
        await bootstrap(store, instance, "debian:12", mirror="http://127.0.0.1:1/debian")
    assert "127.0.0.1" in str(caught.value)
    assert "--mirror" in str(caught.value.hint)
    assert leftovers(instance) == []
    assert store.list() == []


async def test_a_client_that_gives_up_stops_the_work(store: ImageStore, instance: Instance) -> None:
    started = asyncio.Event()
    task = asyncio.create_task(
        bootstrap(store, instance, "debian:12", report=lambda _line: started.set())
    )
    await asyncio.wait_for(started.wait(), 20)
    await asyncio.sleep(1.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(50):
        if not _processes_below(instance.data):
            break
        await asyncio.sleep(0.1)
    assert _processes_below(instance.data) == []
    assert leftovers(instance) == []


def _processes_below(directory: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if os.fsencode(directory) in command:
            found.append(command.decode(errors="replace"))
    return found


@pytest.mark.parametrize(
    "mirror", ["debian", "http://a b/", "http://x/ [trusted=yes]", "http://x\n"]
)
async def test_a_mirror_is_an_address_and_no_more(
    store: ImageStore, instance: Instance, mirror: str
) -> None:
    with pytest.raises(InvalidArgument, match="invalid mirror"):
        await bootstrap(store, instance, "debian:12", mirror=mirror)


async def test_what_is_missing_is_named(
    store: ImageStore, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFound, match="no recipe to bootstrap alpine:3"):
        await bootstrap(store, instance, "alpine:3")
    with pytest.raises(InvalidArgument, match="unknown init 'upstart'"):
        await bootstrap(store, instance, "debian:12", init="upstart")
    if not os.path.exists(releases.UBUNTU.keyring):
        with pytest.raises(Unsupported, match="keys of ubuntu's archive") as caught:
            await bootstrap(store, instance, "ubuntu:24.04", mirror="http://127.0.0.1:1/ubuntu")
        assert caught.value.hint == "install them: apt-get install ubuntu-keyring"
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Unsupported, match="mmdebstrap is not installed"):
        await bootstrap(store, instance, "debian:12")
