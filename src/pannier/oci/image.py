"""The documents of an OCI image: config, manifest, index, descriptor, and Docker's extensions.

Pure data with the specification's JSON names (image-spec 1.1: config.md, manifest.md,
image-index.md, descriptor.md, image-layout.md). What a reference or a registry is, and where bytes
are kept, does not belong here. An image's id is the digest of its config *as stored*: decode, never
re-encode, what came from elsewhere.
"""

from __future__ import annotations

import hashlib
from typing import TypeVar

import msgspec
from msgspec import Struct, field

from pannier.base.errors import InvalidArgument

MEDIA_OCI_INDEX = "application/vnd.oci.image.index.v1+json"
MEDIA_OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MEDIA_OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
MEDIA_OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
MEDIA_OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
MEDIA_OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
MEDIA_DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
MEDIA_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
MEDIA_DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
MEDIA_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
MEDIA_DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"

INDEX_TYPES = (MEDIA_OCI_INDEX, MEDIA_DOCKER_LIST)
MANIFEST_TYPES = (MEDIA_OCI_MANIFEST, MEDIA_DOCKER_MANIFEST)

T = TypeVar("T")


class Healthcheck(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """Docker's HEALTHCHECK; times in nanoseconds, 0 means inherited or default."""

    test: list[str] | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class ContainerDefaults(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """What a container of this image runs with unless the request says otherwise.

    ``Healthcheck``, ``Shell`` and ``OnBuild`` are Docker's additions to the specification.
    """

    user: str = ""
    exposed_ports: dict[str, dict[str, str]] | None = None
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    healthcheck: Healthcheck | None = None
    args_escaped: bool = False
    volumes: dict[str, dict[str, str]] | None = None
    working_dir: str = ""
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    shell: list[str] | None = None


class RootFS(Struct, frozen=True):
    """The layers by the digest of their uncompressed tar, base first."""

    diff_ids: list[str]
    type: str = "layers"


class History(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step of how the image came to be; ``empty_layer`` steps changed no file."""

    created: str | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The config document. Derive a changed one with ``msgspec.structs.replace``."""

    architecture: str
    os: str
    rootfs: RootFS
    created: str | None = None
    author: str = ""
    variant: str = ""
    os_version: str = field(default="", name="os.version")
    config: ContainerDefaults | None = None
    history: list[History] | None = None

    @property
    def defaults(self) -> ContainerDefaults:
        """``config``, also where the document leaves it out or null."""
        return self.config or ContainerDefaults()


class Platform(Struct, frozen=True, kw_only=True, omit_defaults=True):
    architecture: str
    os: str
    variant: str = ""
    os_version: str = field(default="", name="os.version")


class Descriptor(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A reference to content: type, digest (``sha256:...``), size in bytes."""

    media_type: str
    digest: str
    size: int
    urls: list[str] | None = None
    annotations: dict[str, str] | None = None
    platform: Platform | None = None
    artifact_type: str = ""


class Manifest(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """An image for one platform; serves OCI's and Docker's schema 2 (same keys)."""

    schema_version: int
    config: Descriptor
    layers: list[Descriptor]
    media_type: str = ""
    annotations: dict[str, str] | None = None


class Index(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One manifest per platform; serves OCI's index and Docker's manifest list."""

    schema_version: int
    manifests: list[Descriptor]
    media_type: str = ""
    annotations: dict[str, str] | None = None


def digest_of(data: bytes) -> str:
    """``sha256:`` and the hexadecimal digest of *data*."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def encode(document: Struct) -> bytes:
    """The JSON bytes; equal documents give equal bytes."""
    return msgspec.json.encode(document)


def decode(data: bytes, kind: type[T], what: str) -> T:
    """Read a document that came from elsewhere.

    Args:
        data: JSON.
        kind: the struct to read it as; unknown keys are ignored.
        what: named in the error, e.g. ``manifest of debian:12``.

    Raises:
        InvalidArgument: not JSON, or a key is missing or of the wrong type.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"invalid {what}: {error}") from error


def chain_ids(diff_ids: list[str]) -> list[str]:
    """The chain id of each layer: a digest over it and all below (config.md, "Layer ChainID")."""
    chains: list[str] = []
    for diff_id in diff_ids:
        chains.append(digest_of(f"{chains[-1]} {diff_id}".encode()) if chains else diff_id)
    return chains
