"""Pull and push: images between this store and a registry.

The HTTP is in ``registry_client``. Downloads go straight into unpacking workers; a layer is in the
store only when its digest and its content's digest are right, and an image only when all are.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from msgspec import Struct

from pannier.base.errors import InvalidArgument, Unavailable, Unsupported
from pannier.images import references
from pannier.images.layers import Exported, Layer
from pannier.images.platform import check_platform, choose, host_platform
from pannier.images.references import Reference
from pannier.images.registry_client import Document, RegistryClient
from pannier.images.report import Report, count, say
from pannier.images.store import Image, ImageStore
from pannier.oci import image as oci
from pannier.wire.images import RegistryAuth

_AT_ONCE = 3  # Docker's max-concurrent-downloads
_ATTEMPTS = 3
_STEP = 1 << 19  # bytes between two lines of progress


async def pull(
    store: ImageStore,
    ref: str,
    *,
    auth: RegistryAuth | None = None,
    platform: str = "",
    report: Report | None = None,
) -> Image:
    """Get an image; layers that are here already are not downloaded.

    Args:
        store: gets it.
        ref: name with tag or digest.
        auth: credentials for the registry.
        platform: ``os/architecture[/variant]``; "" is this host's.
        report: gets Docker's progress lines.

    Raises:
        NotFound: the registry does not have it.
        Unsupported: it has none for this platform, or the image is not for it.
        Unavailable: the registry cannot be reached.
        InvalidArgument: bad reference, or content that is not what its digest says.
    """
    name = references.parse(ref)
    wanted = _platform(platform)
    async with store.lock(str(name)), RegistryClient(name.domain, auth) as client:
        say(report, status=f"Pulling from {name.path}", id_=name.version)
        top = await client.manifest(name, name.version)
        manifest = await _resolve(client, name, top, wanted)
        raw = await client.document(name, manifest.config.digest)
        config = oci.decode(raw, oci.ImageConfig, f"config of {name.familiar}")
        check_platform(config)
        known = store.find(manifest.config.digest)
        image = known or await _Pull(store, client, name, report).run(raw, config, manifest)
    if name.tag:
        image = store.tag(image, str(name.with_tag(name.tag)))
    image = store.note_digest(image, name, top.digest)
    say(report, status=f"Digest: {top.digest}")
    news = "Image is up to date for" if known else "Downloaded newer image for"
    say(report, status=f"Status: {news} {name.familiar}")
    return image


def _platform(text: str) -> oci.Platform:
    if not text:
        return host_platform()
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise InvalidArgument(f"invalid platform '{text}'", hint="write os/architecture")
    return oci.Platform(
        os=parts[0], architecture=parts[1], variant=parts[2] if len(parts) == 3 else ""
    )


async def _resolve(
    client: RegistryClient, name: Reference, top: Document, wanted: oci.Platform
) -> oci.Manifest:
    """The manifest itself, chosen from an index if that is what was sent."""
    kind = _media_type(top)
    if kind in oci.INDEX_TYPES:
        index = oci.decode(top.data, oci.Index, f"index of {name.familiar}")
        entry = choose(index.manifests, wanted, name.familiar)
        return await _resolve(client, name, await client.manifest(name, entry.digest), wanted)
    if kind not in oci.MANIFEST_TYPES:
        raise Unsupported(
            f"{name.familiar} has a manifest of type {kind}", hint="ask for a newer build of it"
        )
    return oci.decode(top.data, oci.Manifest, f"manifest of {name.familiar}")


def _media_type(document: Document) -> str:
    """By the document itself: some registries send a general type."""
    if document.media_type in (*oci.INDEX_TYPES, *oci.MANIFEST_TYPES):
        return document.media_type
    kind = oci.decode(document.data, _Kind, "manifest")
    if kind.media_type:
        return kind.media_type
    return oci.MEDIA_OCI_INDEX if kind.manifests is not None else document.media_type


class _Kind(Struct, rename="camel"):
    media_type: str = ""
    manifests: list[object] | None = None


class _Pull:
    """The layers of one image on their way."""

    def __init__(
        self, store: ImageStore, client: RegistryClient, name: Reference, report: Report | None
    ) -> None:
        self._store = store
        self._client = client
        self._name = name
        self._report = report
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._pinned: list[Layer] = []

    async def run(self, raw: bytes, config: oci.ImageConfig, manifest: oci.Manifest) -> Image:
        diff_ids = config.rootfs.diff_ids
        if len(diff_ids) != len(manifest.layers):
            raise InvalidArgument(
                f"invalid manifest of {self._name.familiar}: "
                f"{len(manifest.layers)} layers, the config names {len(diff_ids)}"
            )
        pairs = list(zip(manifest.layers, diff_ids, strict=True))
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._layer(*pair)) for pair in pairs]
            return self._store.create(raw, [task.result() for task in tasks])
        except BaseException as error:
            self._store.layers.release(self._pinned)
            await self._store.layers.collect()
            # The first failure cancelled the others: it is the one to tell.
            raise _first(error) from None

    async def _layer(self, blob: oci.Descriptor, diff_id: str) -> Layer:
        label = blob.digest.partition(":")[2][:12]
        layers = self._store.layers
        known = layers.find(diff_id)
        if known is not None:
            layers.pin([known])
            self._pinned.append(known)
            say(self._report, status="Already exists", id_=label)
            return known
        say(self._report, status="Pulling fs layer", id_=label)
        async with self._slots:
            layer = await self._download(blob, diff_id, label)
        self._pinned.append(layer)
        say(self._report, status="Pull complete", id_=label)
        return layer

    async def _download(self, blob: oci.Descriptor, diff_id: str, label: str) -> Layer:
        attempt = 1
        while True:
            try:
                return await self._store.layers.unpack(
                    self._counted(blob, label), digest=blob.digest, diff_id=diff_id
                )
            except Unavailable:
                if attempt == _ATTEMPTS:
                    raise
                say(self._report, status=f"Retrying in {attempt} second", id_=label)
                await asyncio.sleep(attempt)
                attempt += 1

    async def _counted(self, blob: oci.Descriptor, label: str) -> AsyncIterator[bytes]:
        done = told = 0
        async for chunk in self._client.blob(self._name, blob.digest):
            yield chunk
            done += len(chunk)
            if done - told >= _STEP:
                told = done
                count(self._report, label, "Downloading", done, blob.size)
        say(self._report, status="Download complete", id_=label)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def push(
    store: ImageStore, ref: str, *, auth: RegistryAuth | None = None, report: Report | None = None
) -> str:
    """Send the image named *ref* to the registry that its name says.

    Returns:
        the manifest's digest.

    Raises:
        NotFound: no such image here, or no access there.
        Unavailable: the registry cannot be reached.
    """
    name = references.parse(ref)
    image = store.get(ref)
    say(report, status=f"The push refers to repository [{name.repository}]")
    async with RegistryClient(name.domain, auth) as client:
        layers = [await _push_layer(store, client, name, layer, report) for layer in image.layers]
        raw = store.raw_config(image)
        if not await client.has_blob(name, image.id):
            await client.upload(name, image.id, raw)
        config = oci.Descriptor(media_type=oci.MEDIA_OCI_CONFIG, digest=image.id, size=len(raw))
        manifest = oci.encode(
            oci.Manifest(
                schema_version=2,
                media_type=oci.MEDIA_OCI_MANIFEST,
                config=config,
                layers=layers,
            )
        )
        await client.put_manifest(name, manifest, oci.MEDIA_OCI_MANIFEST)
    digest = oci.digest_of(manifest)
    store.note_digest(image, name, digest)
    say(report, status=f"{name.version}: digest: {digest} size: {len(manifest)}")
    return digest


async def _push_layer(
    store: ImageStore,
    client: RegistryClient,
    name: Reference,
    layer: Layer,
    report: Report | None,
) -> oci.Descriptor:
    label = layer.diff_id.partition(":")[2][:12]
    say(report, status="Preparing", id_=label)
    exported = await store.layers.export_file(layer)
    try:
        if await client.has_blob(name, exported.digest):
            say(report, status="Layer already exists", id_=label)
        else:
            count(report, label, "Pushing", 0, exported.size)
            await client.upload(name, exported.digest, exported.path)
            say(report, status="Pushed", id_=label)
    finally:
        _drop(exported)
    return oci.Descriptor(
        media_type=exported.media_type, digest=exported.digest, size=exported.size
    )


def _drop(exported: Exported) -> None:
    if exported.temporary:
        exported.path.unlink(missing_ok=True)
