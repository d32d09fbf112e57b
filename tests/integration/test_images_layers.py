"""Layers on disk: safe unpacking, whiteouts both ways, adoption, and nothing left behind."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import stat
import subprocess
from pathlib import Path

import pytest
from imagelab import Tar, collect, leftovers, new_store, pieces

from pannier.base.errors import InvalidArgument
from pannier.base.instance import Instance
from pannier.images.layers import Layer, LayerStore, has_changes
from pannier.images.store import ImageStore


@pytest.fixture
def store(instance: Instance) -> ImageStore:
    return new_store(instance)


@pytest.fixture
def layers(store: ImageStore) -> LayerStore:
    return store.layers


async def _unpack(layers: LayerStore, tar: Tar) -> Layer:
    return await layers.unpack(pieces(tar.bytes()))


def _sha(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


# -- unpacking


async def test_owners_modes_times_links_and_attributes(layers: LayerStore) -> None:
    tar = Tar().directory("d", 0o1777).file("d/suid", b"abc", 0o4755).symlink("l", "/d/suid")
    tar.hardlink("h", "d/suid").device("null", 1, 3)
    tar.file("caps", SCHILY__xattr__user__k="v", SCHILY__xattr__trusted__x="no")
    layer = await _unpack(layers, tar)
    root = layer.path
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o1777
    assert (root / "d").stat().st_mtime == 1_700_000_000
    assert stat.S_IMODE((root / "d/suid").stat().st_mode) == 0o4755
    assert os.readlink(root / "l") == "/d/suid"
    assert (root / "h").stat().st_ino == (root / "d/suid").stat().st_ino
    assert (root / "null").stat().st_rdev == os.makedev(1, 3)
    assert os.getxattr(root / "caps", "user.k") == b"v"
    assert "trusted.x" not in os.listxattr(root / "caps")
    assert layer.size == len(b"abc") + 1


@pytest.mark.parametrize("packed", [False, True])
async def test_the_digests_are_those_of_the_bytes(layers: LayerStore, packed: bool) -> None:
    plain = Tar().file("a", b"a" * 100_000).bytes()
    data = gzip.compress(plain) if packed else plain
    layer = await layers.unpack(pieces(data), digest=_sha(data), diff_id=_sha(plain))
    assert (layer.diff_id, layer.blob, layer.tar_size) == (_sha(plain), _sha(data), len(plain))
    assert await collect(layers.export(layer)) == plain
    exported = await layers.export_file(layer)
    assert (exported.digest, exported.path.read_bytes()) == (_sha(data), data)


@pytest.mark.parametrize("wrong", ["digest", "diff_id"])
async def test_a_wrong_digest_leaves_nothing(
    layers: LayerStore, instance: Instance, wrong: str
) -> None:
    with pytest.raises(InvalidArgument, match="layer verification failed"):
        await layers.unpack(pieces(Tar().file("a").bytes()), **{wrong: _sha(b"other")})
    assert leftovers(instance) == []
    assert os.listdir(instance.layers) == []


def _escapes() -> dict[str, Tar]:
    return {
        "dotdot": Tar().file("../evil"),
        "dotdot inside": Tar().directory("a").file("a/../../evil"),
        "hard link out": Tar().hardlink("h", "../../../../etc/passwd"),
        "hard link to host": Tar().hardlink("h", "/etc/passwd"),
        "hard link through link": Tar().symlink("l", "/etc").hardlink("h", "l/passwd"),
        "hard link to nothing": Tar().hardlink("h", "missing"),
        "below a file": Tar().file("f").file("f/x"),
        "link loop": Tar().symlink("a", "b").symlink("b", "a").file("a/x"),
        "link to the host": Tar().symlink("m", "/proc/self/root").file("m/evil"),
        "device 0:0": Tar().device("white", 0, 0),
        "whiteout of dotdot": Tar().file(".wh...", b""),
        "whiteout without name": Tar().file(".wh.", b""),
        "root is a file": Tar().file("."),
    }


@pytest.mark.parametrize("case", _escapes())
async def test_archives_that_mean_harm_are_refused(
    layers: LayerStore, instance: Instance, case: str
) -> None:
    with pytest.raises(InvalidArgument, match="invalid tar archive"):
        await _unpack(layers, _escapes()[case])
    assert leftovers(instance) == []
    assert os.listdir(instance.layers) == []
    assert not list(instance.data.parent.rglob("evil"))


async def test_links_lead_nowhere_but_inside(layers: LayerStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    tar = Tar().symlink("abs", str(outside)).symlink("rel", "../" * 20 + str(outside)[1:])
    tar.directory(str(outside)).file("abs/one").file("rel/two")
    tar.symlink("target", str(outside / "one")).file("target", b"mine")
    layer = await _unpack(layers, tar)
    assert list(outside.iterdir()) == []
    inside = layer.path / str(outside)[1:]
    assert sorted(os.listdir(inside)) == ["one", "two"]
    # The last component is replaced, never followed.
    assert not (layer.path / "target").is_symlink()
    assert (inside / "one").read_bytes() == b"x"


@pytest.mark.parametrize("cut", [0, 100, 600, 1500])
async def test_cut_off_archives_leave_nothing(
    layers: LayerStore, instance: Instance, cut: int
) -> None:
    data = Tar().file("a", b"a" * 5000).bytes()
    with pytest.raises(InvalidArgument, match="unexpected end"):
        await layers.unpack(pieces(data[:cut]))
    with pytest.raises(InvalidArgument, match="damaged gzip data"):
        await layers.unpack(pieces(gzip.compress(data)[: 20 + cut // 40]))
    assert leftovers(instance) == []


async def test_later_members_replace_earlier_ones(layers: LayerStore) -> None:
    tar = Tar().directory("d").file("d/old").file("d", b"file").file("f", b"1").file("f", b"22")
    tar.file("n").directory("n").file("n/in")
    layer = await _unpack(layers, tar)
    assert (layer.path / "d").read_bytes() == b"file"
    assert (layer.path / "f").read_bytes() == b"22"
    assert (layer.path / "n/in").exists()


async def test_a_failing_source_is_reported_and_leaves_nothing(
    layers: LayerStore, instance: Instance
) -> None:
    async def broken():  # type: ignore[no-untyped-def]
        yield Tar().file("a", b"a" * 5000).bytes()[:1024]
        raise InvalidArgument("the source broke")

    with pytest.raises(InvalidArgument, match="the source broke"):
        await layers.unpack(broken())
    assert leftovers(instance) == []


async def test_a_cancelled_unpack_leaves_nothing(layers: LayerStore, instance: Instance) -> None:
    async def endless():  # type: ignore[no-untyped-def]
        yield Tar().file("a", b"a" * 5000).bytes()[:1024]
        await asyncio.sleep(60)

    task = asyncio.create_task(layers.unpack(endless()))
    while not list((instance.tmp / "images").glob("*/tree")):
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert leftovers(instance) == []


# -- whiteouts


async def test_whiteouts_become_overlay_marks_and_back(layers: LayerStore) -> None:
    tar = Tar().directory("d").opaque("d").file("d/new").whiteout("gone").whiteout("sub/gone")
    layer = await layers.unpack(pieces(tar.bytes()), canonical=True)
    assert (layer.path / "gone").stat().st_rdev == 0
    assert stat.S_ISCHR((layer.path / "sub/gone").stat().st_mode)
    assert os.getxattr(layer.path / "d", "trusted.overlay.opaque") == b"y"
    assert not list(layer.path.rglob(".wh.*"))
    exported = await collect(layers.export(layer))
    names = subprocess.run(["tar", "t"], input=exported, capture_output=True, check=True).stdout
    assert names.decode().split() == [
        "d/", "d/.wh..wh..opq", "d/new", ".wh.gone", "sub/", "sub/.wh.gone",
    ]  # fmt: skip
    again = await layers.unpack(pieces(exported))
    assert again.id == layer.id


async def test_a_whiteout_is_about_the_layers_below_only(layers: LayerStore) -> None:
    tar = Tar().whiteout("d").directory("d").file("d/kept").file("f", b"f").whiteout("f")
    layer = await _unpack(layers, tar)
    assert os.getxattr(layer.path / "d", "trusted.overlay.opaque") == b"y"
    assert (layer.path / "d/kept").exists()
    assert (layer.path / "f").read_bytes() == b"f"


def _overlay(lowers: list[str], upper: Path, work: Path, script: str) -> str:
    """Run *script* in a directory where the overlay is mounted, in a mount namespace of its own."""
    target = upper.parent / "merged"
    target.mkdir()
    options = f"lowerdir={':'.join(lowers)},upperdir={upper},workdir={work}"
    options += ",redirect_dir=off,metacopy=off,xino=off"
    command = f"mount -t overlay -o {options} overlay {target} && cd {target} && {script}"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-euc", command], check=True, capture_output=True, text=True
    )
    return done.stdout


async def test_a_layer_made_by_the_kernel_survives_export_and_unpacking(
    layers: LayerStore,
) -> None:
    base = await _unpack(
        layers,
        Tar().directory("dir").file("dir/a").file("dir/b").file("file").file("keep").directory("re")
        .file("re/old"),
    )  # fmt: skip
    made = layers.new_upper()
    script = (
        "rm file; rm dir/a; echo new > dir/c; chown 1000:1000 dir; rm -r re; mkdir re; touch re/new"
    )
    _overlay(layers.lower_paths([base]), made.upper, made.work, script)
    assert has_changes(made.upper)
    found = await layers.changes(made.upper, layers.lower_paths([base]))
    assert found == [
        (0, "/dir"), (2, "/dir/a"), (1, "/dir/c"), (2, "/file"), (0, "/re"), (2, "/re/old"),
        (1, "/re/new"),
    ]  # fmt: skip
    (made.upper.parent / "merged").rmdir()
    layer = await layers.adopt(made.upper)
    exported = await collect(layers.export(layer))
    assert _sha(exported) == layer.diff_id
    again = await layers.unpack(pieces(exported))
    assert again.id == layer.id
    other = layers.new_upper()
    listing = _overlay(layers.lower_paths([base, layer]), other.upper, other.work, "find . | sort")
    assert listing.split() == ["."] + [
        f"./{name}" for name in ("dir", "dir/b", "dir/c", "keep", "re", "re/new")
    ]


async def test_changes_look_through_all_lowers(layers: LayerStore) -> None:
    bottom = await _unpack(layers, Tar().directory("d").file("d/x").file("d/y").file("gone"))
    middle = await _unpack(layers, Tar().directory("d").opaque("d").file("d/y").whiteout("gone"))
    upper = await _unpack(
        layers,
        Tar().directory("d").file("d/x").file("d/y", b"yy").file("gone").whiteout("d/never"),
    )
    lowers = layers.lower_paths([bottom, middle])
    assert await layers.changes(upper.path, lowers) == [
        (0, "/d"), (1, "/d/x"), (0, "/d/y"), (1, "/gone"),
    ]  # fmt: skip


# -- adopting, sharing, collecting


async def test_equal_content_is_one_layer(layers: LayerStore, instance: Instance) -> None:
    adopted = []
    for _ in range(2):
        made = layers.new_upper()
        (made.upper / "file").write_text("same")
        os.utime(made.upper / "file", (1_700_000_000.5, 1_700_000_000.7))
        adopted.append(await layers.adopt(made.upper))
    assert adopted[0] == adopted[1]
    assert len(os.listdir(instance.layers)) == 1
    assert leftovers(instance) == []


async def test_adopting_strips_the_marks_of_the_mount(layers: LayerStore) -> None:
    made = layers.new_upper()
    (made.upper / "d").mkdir()
    for name in ("origin", "impure"):
        os.setxattr(made.upper / "d", f"trusted.overlay.{name}", b"y")
    layer = await layers.adopt(made.upper)
    assert os.listxattr(layer.path / "d") == []


async def test_a_snapshot_needs_no_digest_until_it_is_exported(layers: LayerStore) -> None:
    made = layers.new_upper()
    (made.upper / "file").write_text("x")
    layer = await layers.adopt(made.upper, hashed=False)
    assert layer.diff_id == ""
    hashed = await layers.hash(layer)
    assert hashed.diff_id == _sha(await collect(layers.export(hashed)))


async def test_a_copy_of_an_upper_in_use_keeps_whiteouts(layers: LayerStore) -> None:
    base = await _unpack(layers, Tar().file("a").directory("d").file("d/x"))
    made = layers.new_upper()
    _overlay(layers.lower_paths([base]), made.upper, made.work, "rm a; rm -r d; mkdir d")
    copy = await layers.copy_upper(made.upper)
    lowers = layers.lower_paths([base])
    assert await layers.changes(copy, lowers) == await layers.changes(made.upper, lowers)
    assert (2, "/a") in await layers.changes(copy, lowers)
    await layers.discard(copy)


async def test_collect_keeps_what_is_pinned_or_held(layers: LayerStore, instance: Instance) -> None:
    first = await _unpack(layers, Tar().file("1"))
    second = await _unpack(layers, Tar().file("2"))
    held = [second.id]
    layers.add_holder(lambda: held)
    assert await layers.collect() == []
    layers.release([first, second])
    assert [layer.id for layer in await layers.collect()] == [first.id]
    held.clear()
    assert [layer.id for layer in await layers.collect()] == [second.id]
    assert os.listdir(instance.layers) == []
    assert [p for p in instance.blobs.rglob("*") if p.is_file()] == []


async def test_a_restart_clears_what_a_crash_left(instance: Instance) -> None:
    store = new_store(instance)
    kept = await store.layers.unpack(pieces(Tar().file("kept").bytes()))
    store.layers.add_holder(lambda: [kept.id])
    (instance.layers / "orphan").mkdir()
    (instance.layers / "orphan/file").touch()
    store.layers.new_upper()
    stray = instance.blobs / "sha256" / ("0" * 64)
    stray.touch()
    restarted = LayerStore(store._db, instance)
    restarted.add_holder(lambda: [kept.id])
    await restarted.gc()
    assert os.listdir(instance.layers) == [kept.id]
    assert leftovers(instance) == []
    assert not stray.exists()
    assert await collect(restarted.export(kept))
