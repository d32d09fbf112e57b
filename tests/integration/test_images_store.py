"""Names and ids, what removing means, what a list and an inspect show."""

from __future__ import annotations

import os

import pytest
from imagelab import Tar, image_of, leftovers, new_store, pieces

from pannier.base.errors import Conflict, InvalidArgument, NotFound
from pannier.base.instance import Instance
from pannier.images import flat, summaries
from pannier.images.filtering import matching
from pannier.images.layers import Layer
from pannier.images.removal import prune, remove
from pannier.images.store import ImageStore
from pannier.oci.image import ContainerDefaults


@pytest.fixture
def store(instance: Instance) -> ImageStore:
    return new_store(instance)


async def _layer(store: ImageStore, name: str, data: bytes = b"x") -> Layer:
    return await store.layers.unpack(pieces(Tar().file(name, data).bytes()), canonical=True)


def _unused(_image_id: str) -> list[tuple[str, bool]]:
    return []


async def test_an_image_is_found_by_every_name_it_has(store: ImageStore) -> None:
    image = image_of(store, [await _layer(store, "a")], "debian:12", "debian:bookworm")
    for ref in (
        "debian:12", "debian:bookworm", "docker.io/library/debian:12", image.id, image.id[7:],
        image.id[:20], image.id[7:13],
    ):  # fmt: skip
        assert store.get(ref).id == image.id
    assert image.tags == ("docker.io/library/debian:12", "docker.io/library/debian:bookworm")


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("nope", "No such image: nope:latest"),
        ("me/app:1", "No such image: me/app:1"),
        ("sha256:" + "0" * 64, "No such image: sha256:" + "0" * 64),
        ("UPPER", "No such image: UPPER"),
    ],
)
async def test_what_is_not_here_is_said_as_docker_does(
    store: ImageStore, ref: str, said: str
) -> None:
    assert store.find(ref) is None
    with pytest.raises(NotFound) as caught:
        store.get(ref)
    assert str(caught.value) == said


async def test_equal_configs_are_one_image_and_a_name_moves(store: ImageStore) -> None:
    layer = await _layer(store, "a")
    first = image_of(store, [layer], "app:1")
    store.layers.pin([layer])
    again = image_of(store, [layer])
    other = image_of(store, [await _layer(store, "b")], "app:1")
    assert first.id == again.id
    assert store.get("app:1").id == other.id
    assert store.get(first.id).dangling


async def test_layers_must_be_those_of_the_config(store: ImageStore) -> None:
    image = image_of(store, [await _layer(store, "a")])
    with pytest.raises(InvalidArgument, match="not those that the config names"):
        store.create(image.config, [])
    with pytest.raises(InvalidArgument, match="digest reference"):
        store.tag(image, "a@sha256:" + "0" * 64)


async def test_removing_a_name_keeps_the_image_until_the_last(
    store: ImageStore, instance: Instance
) -> None:
    image = image_of(store, [await _layer(store, "a")], "app:1", "app:2", "other:1")
    assert [d.untagged for d in await remove(store, "app:1", _unused)] == ["app:1"]
    with pytest.raises(Conflict, match=r"must be forced.*multiple repositories"):
        await remove(store, image.id, _unused)
    await remove(store, "other:1", _unused)
    done = await remove(store, "app:2", _unused)
    assert done[0].untagged == "app:2"
    assert done[1].deleted == image.id
    assert done[2].deleted == image.layers[0].diff_id
    assert os.listdir(instance.layers) == []
    assert leftovers(instance) == []


async def test_a_shared_layer_stays_with_the_other_image(store: ImageStore) -> None:
    base = await _layer(store, "base")
    store.layers.pin([base])
    image_of(store, [base], "base:1")
    image_of(store, [base, await _layer(store, "top")], "app:1")
    await remove(store, "base:1", _unused)
    assert store.get("app:1").layers[0].path.is_dir()
    assert len(await remove(store, "app:1", _unused)) == 4


async def test_what_containers_use_is_kept(store: ImageStore) -> None:
    image = image_of(store, [await _layer(store, "a")], "app:1")
    for ref, said in (("app:1", r"must force.*c0ffee"), (image.id, "stopped container c0ffee")):
        with pytest.raises(Conflict, match=said):
            await remove(store, ref, lambda _: [("c0ffee", False)])
    with pytest.raises(Conflict, match=r"cannot be forced.*running container c0ffee"):
        await remove(store, "app:1", lambda _: [("c0ffee", True)], force=True)
    store.layers.add_holder(lambda: [image.layers[0].id])
    await remove(store, "app:1", lambda _: [("c0ffee", False)], force=True)
    assert store.find(image.id) is None
    assert image.layers[0].path.is_dir()


async def test_prune_takes_dangling_or_all_unused(store: ImageStore) -> None:
    nameless = image_of(store, [await _layer(store, "a", b"12345")])
    named = image_of(store, [await _layer(store, "b")], "app:1", keep="no")
    used = image_of(store, [await _layer(store, "c")], "used:1")
    labelled = image_of(store, [await _layer(store, "d")], "lab:1", keep="yes")

    def in_use(image_id: str) -> list[tuple[str, bool]]:
        return [("c", False)] if image_id == used.id else []

    done, freed = await prune(store, in_use, {})
    assert next(d.deleted for d in done) == nameless.id
    assert freed == 5
    await prune(store, in_use, {"dangling": ["false"], "until": ["2020-01-01T00:00:00Z"]})
    assert len(store.list()) == 3
    await prune(store, in_use, {"dangling": ["false"], "label!": ["keep=yes"]})
    assert {image.id for image in store.list()} == {used.id, labelled.id}
    assert store.find(named.id) is None
    with pytest.raises(InvalidArgument, match="invalid filter 'nope'"):
        await prune(store, in_use, {"nope": ["x"]})


async def test_lists_filter_as_docker(store: ImageStore) -> None:
    first = image_of(store, [await _layer(store, "a")], "me/app:1", role="x")
    second = image_of(store, [await _layer(store, "b")])

    def ids(**filters: list[str]) -> set[str]:
        return {image.id for image in matching(store, filters)}

    assert ids() == {first.id, second.id}
    assert ids(dangling=["true"]) == {second.id}
    assert ids(reference=["me/app"]) == ids(reference=["*/*:1"]) == {first.id}
    assert ids(label=["role=x"]) == {first.id}
    assert ids(label=["role=y"]) == set()
    assert ids(before=["me/app:1"]) == set()


async def test_inspect_history_and_usage(store: ImageStore) -> None:
    base = await _layer(store, "base", b"1234")
    store.layers.pin([base])
    image_of(store, [base], "base:1")
    image = image_of(store, [base, await _layer(store, "top", b"12")], "app:1")
    shown = summaries.inspect(store, image)
    assert (shown.id, shown.size, shown.repo_tags) == (image.id, 6, ["app:1"])
    assert shown.root_fs.layers == [layer.diff_id for layer in image.layers]
    assert shown.config["Cmd"] == ["true"]
    steps = summaries.history(image)
    assert [(step.id, step.size) for step in steps] == [(image.id, 2), ("<missing>", 4)]
    usage = {item.repo_tags[0]: item for item in summaries.usage(store, {image.id: 2})}
    assert (usage["app:1"].shared_size, usage["app:1"].containers) == (4, 2)


async def test_import_of_a_flat_root_file_system(store: ImageStore) -> None:
    image = await flat.import_tar(
        store,
        pieces(Tar().directory("bin").file("bin/sh").bytes()),
        name="flat:1",
        defaults=ContainerDefaults(cmd=["/bin/sh"]),
    )
    assert store.get("flat:1").config.defaults.cmd == ["/bin/sh"]
    assert (image.layers[0].path / "bin/sh").exists()
    assert image.layers[0].blob == ""
    with pytest.raises(InvalidArgument):
        await flat.import_tar(store, pieces(b"no tar" * 200))
    assert len(store.list()) == 1
