"""Archives and registries: what goes out comes in again, damage is refused, nothing is left."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from imagelab import Tar, collect, image_of, leftovers, new_store, pieces
from registrylab import running_registry

from pannier.base.errors import InvalidArgument, NotFound, Unavailable, Unsupported
from pannier.base.instance import Instance
from pannier.images import archive, registry
from pannier.images.store import Image, ImageStore
from pannier.oci import image as oci
from pannier.wire.images import RegistryAuth
from pannier.wire.system import Progress


@pytest.fixture
def store(instance: Instance) -> ImageStore:
    return new_store(instance)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[tuple[Instance, ImageStore]]:
    """A second engine's store."""
    second = Instance("other", Path("/var/tmp/pannier-tests") / tmp_path.name / "data", tmp_path)
    second.make_directories()
    yield second, new_store(second)
    shutil.rmtree(second.data.parent)


async def _image(store: ImageStore, *tags: str) -> Image:
    base = Tar().directory("etc").file("etc/a", b"a" * 9000).file("etc/b")
    top = Tar().directory("etc").file("etc/c", b"c").whiteout("etc/b")
    layers = [await store.layers.unpack(pieces(t.bytes()), canonical=True) for t in (base, top)]
    return image_of(store, layers, *tags)


def _said(lines: list[Progress]) -> str:
    return "\n".join(f"{line.id} {line.status}{line.stream}".strip() for line in lines)


# -- archives


async def test_save_and_load(
    store: ImageStore, instance: Instance, other: tuple[Instance, ImageStore]
) -> None:
    image = await _image(store, "app:1", "app:2")
    data = await collect(archive.save(store, instance, ["app:1", image.id]))
    lines: list[Progress] = []
    second, target = other
    (loaded,) = await archive.load(target, second, pieces(data), lines.append)
    assert loaded.id == image.id
    assert loaded.tags == ("docker.io/library/app:1",)
    assert _said(lines) == "Loaded image: app:1"
    assert [layer.blob for layer in loaded.layers] == ["", ""]
    assert leftovers(instance) == leftovers(second) == []
    again = await collect(archive.save(target, second, ["app:1"]))
    assert again == data


async def test_what_is_saved_is_an_oci_layout_and_docker_reads_it_too(
    store: ImageStore, instance: Instance
) -> None:
    image = await _image(store, "app:1")
    data = await collect(archive.save(store, instance, ["app:1"]))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        files = {m.name: (tar.extractfile(m) or io.BytesIO()).read() for m in tar.getmembers()}
    (docker,) = json.loads(files["manifest.json"])
    assert docker["RepoTags"] == ["app:1"]
    assert oci.digest_of(files[docker["Config"]]) == image.id
    assert [oci.digest_of(files[name]) for name in docker["Layers"]] == [
        layer.diff_id for layer in image.layers
    ]
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(files["index.json"])["manifests"]
    manifest = files["blobs/" + entry["digest"].replace(":", "/")]
    assert oci.digest_of(manifest) == entry["digest"]
    assert len(manifest) == entry["size"]


def _repack(data: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        files = {m.name: (tar.extractfile(m) or io.BytesIO()).read() for m in tar.getmembers()}
    change(files)
    packed = Tar()
    for name, content in files.items():
        packed.file(name, content)
    return packed.bytes()


async def test_a_pure_oci_layout_and_a_compressed_archive_are_loaded(
    store: ImageStore, instance: Instance, other: tuple[Instance, ImageStore]
) -> None:
    image = await _image(store, "app:1")
    data = await collect(archive.save(store, instance, ["app:1"]))

    def only_oci(files: dict[str, bytes]) -> None:
        del files["manifest.json"], files["repositories"]

    packed = gzip.compress(_repack(data, only_oci))
    (loaded,) = await archive.load(other[1], other[0], pieces(packed), lambda _: None)
    assert (loaded.id, loaded.tags) == (image.id, ("docker.io/library/app:1",))


async def test_layers_that_are_links_as_in_old_archives(
    store: ImageStore, instance: Instance, other: tuple[Instance, ImageStore]
) -> None:
    image = await _image(store, "app:1")
    data = await collect(archive.save(store, instance, ["app:1"]))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        files = {m.name: (tar.extractfile(m) or io.BytesIO()).read() for m in tar.getmembers()}
    (docker,) = json.loads(files["manifest.json"])
    packed = Tar().file("c.json", files[docker["Config"]])
    packed.file("one/layer.tar", files[docker["Layers"][0]])
    packed.file("two/layer.tar", files[docker["Layers"][1]])
    packed.symlink("three/layer.tar", "../one/layer.tar")
    names = ["three/layer.tar", "two/layer.tar"]
    entry = {"Config": "c.json", "RepoTags": None, "Layers": names}
    packed.file("manifest.json", json.dumps([entry]).encode())
    lines: list[Progress] = []
    (loaded,) = await archive.load(other[1], other[0], pieces(packed.bytes()), lines.append)
    assert loaded.id == image.id
    assert _said(lines) == f"Loaded image ID: {image.id}"


def _break_layer(files: dict[str, bytes]) -> None:
    (docker,) = json.loads(files["manifest.json"])
    files[docker["Layers"][1]] = Tar().file("other").bytes()


def _lose_layer(files: dict[str, bytes]) -> None:
    (docker,) = json.loads(files["manifest.json"])
    del files[docker["Layers"][1]]


def _drop_layer(files: dict[str, bytes]) -> None:
    entries = json.loads(files["manifest.json"])
    entries[0]["Layers"].pop()
    files["manifest.json"] = json.dumps(entries).encode()


def _escape(files: dict[str, bytes]) -> None:
    entries = json.loads(files["manifest.json"])
    entries[0]["Config"] = "../../../../etc/passwd"
    files["manifest.json"] = json.dumps(entries).encode()


def _empty(files: dict[str, bytes]) -> None:
    files.clear()
    files["etc/passwd"] = b"root"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_break_layer, "layer verification failed"),
        (_lose_layer, "is missing"),
        (_drop_layer, "1 layers, the config names 2"),
        (_escape, "passwd is missing"),
        (_empty, "no archive of images"),
    ],
)
async def test_damaged_archives_leave_nothing(
    store: ImageStore,
    instance: Instance,
    other: tuple[Instance, ImageStore],
    change: Callable[[dict[str, bytes]], None],
    said: str,
) -> None:
    await _image(store, "app:1")
    data = _repack(await collect(archive.save(store, instance, ["app:1"])), change)
    second, target = other
    with pytest.raises(InvalidArgument, match=said):
        await archive.load(target, second, pieces(data), lambda _: None)
    assert target.list() == []
    assert leftovers(second) == []
    assert list(second.layers.iterdir()) == []
    assert [path for path in second.blobs.rglob("*") if path.is_file()] == []


async def test_saving_what_is_not_here_sends_nothing(store: ImageStore, instance: Instance) -> None:
    with pytest.raises(NotFound, match="No such image: nope:latest"):
        archive.save(store, instance, ["nope"])


# -- a real registry


@pytest.fixture
def registry_at(tmp_path: Path) -> Iterator[str]:
    with running_registry(tmp_path) as address:
        yield address


async def test_push_and_pull(
    store: ImageStore, other: tuple[Instance, ImageStore], registry_at: str
) -> None:
    ref = f"{registry_at}/team/app:1"
    image = await _image(store, ref)
    pushed = await registry.push(store, ref)
    lines: list[Progress] = []
    second, target = other
    pulled = await registry.pull(target, ref, report=lines.append)
    assert pulled.id == image.id
    assert pulled.tags == (ref,)
    assert pulled.digests == (f"{registry_at}/team/app@{pushed}",)
    said = _said(lines)
    assert "1 Pulling from team/app" in said
    assert said.count("Pull complete") == 2
    assert said.endswith(f"Digest: {pushed}\nStatus: Downloaded newer image for {ref}")
    assert leftovers(second) == []
    # The second time nothing is downloaded, by digest as by tag.
    lines.clear()
    again = await registry.pull(target, f"{registry_at}/team/app@{pushed}", report=lines.append)
    assert again.id == image.id
    assert "Image is up to date" in _said(lines)
    assert target.get(f"{registry_at}/team/app@{pushed}").id == image.id
    # What was pulled keeps its bytes: pushed elsewhere, it has the same digest.
    target.tag(pulled, f"{registry_at}/copy/app:1")
    assert await registry.push(target, f"{registry_at}/copy/app:1") == pushed


async def test_pulling_what_is_not_there(
    store: ImageStore, instance: Instance, registry_at: str
) -> None:
    with pytest.raises(NotFound, match=r"manifest for .*/nope:1 not found: manifest unknown"):
        await registry.pull(store, f"{registry_at}/nope:1")
    assert leftovers(instance) == []


async def test_a_registry_that_is_not_there(store: ImageStore) -> None:
    with pytest.raises(Unavailable, match=r"cannot reach registry 127.0.0.1:1:"):
        await registry.pull(store, "127.0.0.1:1/app")


# -- a registry with bad manners


class FakeRegistry:
    """Serves what a test puts in; asks for a token or a password if told so."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.token = ""
        self.basic = ""
        self.port = 0
        self.asked: list[str] = []

    def add(self, data: bytes) -> str:
        digest = oci.digest_of(data)
        self.blobs[digest] = data
        return digest

    def add_manifest(self, tag: str, media_type: str, document: object) -> bytes:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.manifests[tag] = self.manifests[oci.digest_of(data)] = (media_type, data)
        return data

    def add_image(self, tag: str, os: str = "linux", architecture: str = "amd64") -> bytes:
        plain = Tar().file("hello", os.encode()).bytes()
        layer = gzip.compress(plain)
        config = {
            "os": os,
            "architecture": architecture,
            "rootfs": {"type": "layers", "diff_ids": [oci.digest_of(plain)]},
        }
        raw = json.dumps(config).encode()
        return self.add_manifest(
            tag,
            oci.MEDIA_DOCKER_MANIFEST,
            {
                "schemaVersion": 2,
                "mediaType": oci.MEDIA_DOCKER_MANIFEST,
                "config": _descriptor(oci.MEDIA_DOCKER_CONFIG, self.add(raw), len(raw)),
                "layers": [_descriptor(oci.MEDIA_DOCKER_LAYER_GZIP, self.add(layer), len(layer))],
            },
        )

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if request.path == "/token":
            return web.json_response({"token": self.token})
        sent = request.headers.get("Authorization", "")
        if self.token and sent != f"Bearer {self.token}":
            realm = f'Bearer realm="http://127.0.0.1:{self.port}/token",service="s"'
            return web.Response(status=401, headers={"WWW-Authenticate": realm})
        if self.basic and sent != f"Basic {self.basic}":
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        kind, _, key = request.path.partition("/app/")[2].partition("/")
        if kind == "manifests" and key in self.manifests:
            media_type, data = self.manifests[key]
            return web.Response(body=data, content_type=media_type)
        if kind == "blobs" and key in self.blobs:
            return web.Response(body=self.blobs[key])
        return web.Response(status=404 if kind else 200)


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest, "size": size}


@pytest.fixture
async def fake():  # type: ignore[no-untyped-def]
    served = FakeRegistry()
    runner = web.ServerRunner(web.Server(served.handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    served.port = runner.addresses[0][1]
    yield served
    await runner.cleanup()


def _ref(fake: FakeRegistry, tag: str = "1") -> str:
    return f"127.0.0.1:{fake.port}/app:{tag}"


async def test_a_manifest_list_gives_this_hosts_image(
    store: ImageStore, fake: FakeRegistry
) -> None:
    manifests = []
    for os in ("windows", "linux"):
        data = fake.add_image(os, os)
        entry = _descriptor(oci.MEDIA_DOCKER_MANIFEST, oci.digest_of(data), len(data))
        manifests.append({**entry, "platform": {"os": os, "architecture": "amd64"}})
    fake.add_manifest("1", oci.MEDIA_DOCKER_LIST, {"schemaVersion": 2, "manifests": manifests})
    image = await registry.pull(store, _ref(fake), platform="linux/amd64")
    assert (image.layers[0].path / "hello").read_bytes() == b"linux"
    with pytest.raises(Unsupported, match=r"shares this host's kernel.*linux/amd64, windows/amd64"):
        await registry.pull(store, _ref(fake), platform="linux/s390x")


async def test_an_image_of_another_system_is_refused(
    store: ImageStore, instance: Instance, fake: FakeRegistry
) -> None:
    fake.add_image("1", "windows")
    with pytest.raises(Unsupported, match=r"shares this host's kernel, .* windows/amd64"):
        await registry.pull(store, _ref(fake))
    assert store.list() == []
    assert leftovers(instance) == []


@pytest.mark.parametrize("what", ["layer", "config", "manifest", "size"])
async def test_damaged_content_is_refused(
    store: ImageStore, instance: Instance, fake: FakeRegistry, what: str
) -> None:
    manifest = json.loads(fake.add_image("1"))
    ref = _ref(fake)
    if what == "manifest":
        ref = f"127.0.0.1:{fake.port}/app@{'sha256:' + '0' * 64}"
        fake.manifests["sha256:" + "0" * 64] = fake.manifests["1"]
    elif what == "config":
        fake.blobs[manifest["config"]["digest"]] += b" "
    else:
        digest = manifest["layers"][0]["digest"]
        other = gzip.compress(Tar().file("evil").bytes())
        fake.blobs[digest] = other if what == "layer" else fake.blobs[digest][:-20]
    with pytest.raises(InvalidArgument, match=r"verification failed|damaged gzip"):
        await registry.pull(store, ref)
    assert store.list() == []
    assert leftovers(instance) == []
    assert list(instance.layers.iterdir()) == []


async def test_an_anonymous_token_is_fetched(store: ImageStore, fake: FakeRegistry) -> None:
    fake.add_image("1")
    fake.token = "secret"
    assert (await registry.pull(store, _ref(fake))).tags == (_ref(fake),)
    assert fake.asked.count("/token") == 1


async def test_basic_credentials_are_sent_where_they_are_asked_for(
    store: ImageStore, fake: FakeRegistry
) -> None:
    fake.add_image("1")
    fake.basic = base64.b64encode(b"me:pw").decode()
    with pytest.raises(NotFound, match=r"pull access denied for .*app.*'docker login'"):
        await registry.pull(store, _ref(fake))
    image = await registry.pull(store, _ref(fake), auth=RegistryAuth(username="me", password="pw"))
    assert image.layers


async def test_an_old_manifest_is_refused_by_name(store: ImageStore, fake: FakeRegistry) -> None:
    old = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    fake.add_manifest("1", old, {"schemaVersion": 1})
    with pytest.raises(Unsupported, match="manifest of type"):
        await registry.pull(store, _ref(fake))


async def test_two_requests_for_one_image_download_it_once(
    store: ImageStore, fake: FakeRegistry
) -> None:
    (blob,) = (layer["digest"] for layer in json.loads(fake.add_image("1"))["layers"])
    images = await asyncio.gather(*(registry.pull(store, _ref(fake)) for _ in range(2)))
    assert images[0].id == images[1].id
    assert fake.asked.count(f"/v2/app/blobs/{blob}") == 1
