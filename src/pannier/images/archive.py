"""Images in one file: ``save`` and ``load``.

What is saved is an OCI image layout that also has Docker's ``manifest.json`` (image-spec
image-layout.md; moby image/tarexport), so that ``docker load``, podman and skopeo take it. Either
form is loaded. Bytes are moved by workers.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from pannier.base.errors import InvalidArgument
from pannier.base.ids import new_id
from pannier.base.instance import Instance
from pannier.images import jobs, references
from pannier.images.layers import Layer
from pannier.images.platform import choose, host_platform
from pannier.images.report import Report, say
from pannier.images.store import Image, ImageStore
from pannier.oci import image as oci

_NAME_ANNOTATION = "io.containerd.image.name"
_REF_ANNOTATION = "org.opencontainers.image.ref.name"


def save(store: ImageStore, instance: Instance, refs: Sequence[str]) -> AsyncIterator[bytes]:
    """One archive of all images in *refs*, each with the names it was asked for by.

    Raises:
        NotFound: one does not exist; nothing is sent then.
    """
    wanted: dict[str, tuple[Image, list[str]]] = {}
    for ref in refs:
        image = store.get(ref)
        names = wanted.setdefault(image.id, (image, []))[1]
        names += [name for name in _names_meant(image, ref) if name not in names]
    return _stream(instance, json.dumps(_plan(store, list(wanted.values()))))


async def _stream(instance: Instance, plan: str) -> AsyncIterator[bytes]:
    """By way of a file: one argument of a process is at most 128 KiB (execve(2))."""
    file = instance.tmp / "images" / f"save-{new_id()[:16]}"
    file.write_text(plan)
    try:
        async for chunk in jobs.stream("save", {"plan": str(file)}):
            yield chunk
    finally:
        file.unlink(missing_ok=True)


def _names_meant(image: Image, ref: str) -> list[str]:
    """A repository without tag means all its tags (as Docker); an id means no name."""
    try:
        name = references.parse(ref)
    except InvalidArgument:
        return []
    if str(name) in image.tags:
        return [name.familiar]
    return []


def _plan(store: ImageStore, images: list[tuple[Image, list[str]]]) -> dict[str, Any]:
    files: dict[str, str] = {"oci-layout": json.dumps({"imageLayoutVersion": "1.0.0"})}
    layers: dict[str, dict[str, Any]] = {}
    entries: list[dict[str, Any]] = []
    index: list[dict[str, Any]] = []
    for image, names in images:
        config = store.raw_config(image)
        files[_blob_name(image.id)] = config.decode()
        for layer in image.layers:
            source = store.layers.source(layer)
            name = _blob_name(layer.diff_id)
            layers[name] = {"name": name, "size": layer.tar_size, **source}
        entries.append(
            {
                "Config": _blob_name(image.id),
                "RepoTags": names or None,
                "Layers": [_blob_name(layer.diff_id) for layer in image.layers],
            }
        )
        manifest = _manifest(image, len(config))
        files[_blob_name(oci.digest_of(manifest))] = manifest.decode()
        index += _index_entries(manifest, names)
    files["index.json"] = json.dumps(
        {"schemaVersion": 2, "mediaType": oci.MEDIA_OCI_INDEX, "manifests": index}
    )
    files["manifest.json"] = json.dumps(entries)
    files["repositories"] = json.dumps(_repositories(images))
    listed = [{"name": name, "text": text} for name, text in files.items()]
    return {"files": listed, "layers": list(layers.values())}


def _blob_name(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _manifest(image: Image, config_size: int) -> bytes:
    layers = [
        oci.Descriptor(media_type=oci.MEDIA_OCI_LAYER, digest=layer.diff_id, size=layer.tar_size)
        for layer in image.layers
    ]
    config = oci.Descriptor(media_type=oci.MEDIA_OCI_CONFIG, digest=image.id, size=config_size)
    return oci.encode(
        oci.Manifest(
            schema_version=2, media_type=oci.MEDIA_OCI_MANIFEST, config=config, layers=layers
        )
    )


def _index_entries(manifest: bytes, names: list[str]) -> list[dict[str, Any]]:
    entry = {
        "mediaType": oci.MEDIA_OCI_MANIFEST,
        "digest": oci.digest_of(manifest),
        "size": len(manifest),
    }
    if not names:
        return [entry]
    return [
        {
            **entry,
            "annotations": {
                _NAME_ANNOTATION: str(references.parse(name)),
                _REF_ANNOTATION: references.parse(name).tag,
            },
        }
        for name in names
    ]


def _repositories(images: list[tuple[Image, list[str]]]) -> dict[str, dict[str, str]]:
    """Docker's oldest index: name -> tag -> uppermost layer."""
    repositories: dict[str, dict[str, str]] = {}
    for image, names in images:
        for name in names:
            parsed = references.parse(name)
            if image.layers:
                top = image.layers[-1].diff_id.partition(":")[2]
                repositories.setdefault(parsed.familiar_name, {})[parsed.tag] = top
    return repositories


async def load(
    store: ImageStore, instance: Instance, data: AsyncIterator[bytes], report: Report
) -> list[Image]:
    """Take in every image of an archive.

    Raises:
        InvalidArgument: not an archive of images, damaged, or a layer that is not what it should
            be. Images before the bad one stay.
    """
    spool = instance.tmp / "images" / f"load-{new_id()[:16]}"
    spool.mkdir(mode=0o700)
    try:
        members: dict[str, str] = (await jobs.run("explode", {"into": str(spool)}, data=data))[
            "members"
        ]
        archive = _Archive(members)
        plans = archive.docker_images() if "manifest.json" in members else archive.oci_images()
        return [await _load_one(store, archive, plan, report) for plan in plans]
    finally:
        # A handful of files: unlinking them here is cheaper than a worker.
        shutil.rmtree(spool, ignore_errors=True)


class _Plan:
    """One image of an archive: its config, the members that hold its layers, its names."""

    def __init__(self, config: bytes, layers: list[str], names: list[str]) -> None:
        self.config = config
        self.layers = layers
        self.names = names


class _Archive:
    def __init__(self, members: dict[str, str]) -> None:
        self._members = members

    def path(self, name: str) -> Path:
        found = self._members.get(os.path.normpath(name))
        if found is None:
            raise InvalidArgument(f"invalid image archive: {name} is missing")
        return Path(found)

    def docker_images(self) -> list[_Plan]:
        entries = oci.decode(
            self.path("manifest.json").read_bytes(), list[_DockerEntry], "manifest.json"
        )
        return [
            _Plan(self.path(e.config).read_bytes(), e.layers or [], e.repo_tags or [])
            for e in entries
        ]

    def oci_images(self) -> list[_Plan]:
        if "index.json" not in self._members:
            raise InvalidArgument(
                "this is no archive of images: it has neither manifest.json nor index.json",
                hint="to make an image from the files of a root file system, use import",
            )
        index = oci.decode(self.path("index.json").read_bytes(), oci.Index, "index.json")
        plans: dict[str, _Plan] = {}
        for entry in index.manifests:
            names = _names_noted(entry)
            if entry.digest in plans:
                plans[entry.digest].names.extend(names)
            else:
                plans[entry.digest] = self._oci_image(entry, names)
        return list(plans.values())

    def _oci_image(self, entry: oci.Descriptor, names: list[str]) -> _Plan:
        data = self.path(_blob_name(entry.digest)).read_bytes()
        if entry.media_type in oci.INDEX_TYPES:
            nested = oci.decode(data, oci.Index, "image index")
            best = choose(nested.manifests, host_platform(), names[0] if names else "this image")
            return self._oci_image(best, names)
        manifest = oci.decode(data, oci.Manifest, "manifest")
        config = self.path(_blob_name(manifest.config.digest)).read_bytes()
        layers = [_blob_name(layer.digest) for layer in manifest.layers]
        return _Plan(config, layers, names)


class _DockerEntry(Struct, rename="pascal"):
    config: str
    layers: list[str] | None = None
    repo_tags: list[str] | None = None


def _names_noted(entry: oci.Descriptor) -> list[str]:
    """The full name where the writer noted it; a bare tag names no repository."""
    notes = entry.annotations or {}
    name = notes.get(_NAME_ANNOTATION) or notes.get(_REF_ANNOTATION, "")
    return [name] if ":" in name or "/" in name else []


async def _load_one(store: ImageStore, archive: _Archive, plan: _Plan, report: Report) -> Image:
    config = oci.decode(plan.config, oci.ImageConfig, "image config")
    diff_ids = config.rootfs.diff_ids
    if len(diff_ids) != len(plan.layers):
        raise InvalidArgument(
            f"invalid image archive: {len(plan.layers)} layers, the config names {len(diff_ids)}"
        )
    layers: list[Layer] = []
    try:
        for diff_id, name in zip(diff_ids, plan.layers, strict=True):
            layers.append(await _load_layer(store, archive.path(name), diff_id))
        image = store.create(plan.config, layers, plan.names)
    except BaseException:
        store.layers.release(layers)
        await store.layers.collect()
        raise
    for name in plan.names:
        say(report, stream=f"Loaded image: {references.parse(name).familiar}\n")
    if not plan.names:
        say(report, stream=f"Loaded image ID: {image.id}\n")
    return image


async def _load_layer(store: ImageStore, path: Path, diff_id: str) -> Layer:
    layers = store.layers
    known = layers.find(diff_id)
    if known is not None:
        layers.pin([known])
        return known
    layer = await layers.unpack(path, diff_id=diff_id)
    # Archives of ours can be made again from the directory: no need to keep the bytes twice.
    return layers.drop_blob(layer) if await layers.can_remake(layer) else layer
