"""Images on the wire (Docker Engine API v1.50: ImageSummary, ImageInspect, history, build, pull).

The OCI documents themselves are in `oci.image`; these are the answers made from them.
"""

from __future__ import annotations

from typing import Any

from msgspec import field

from pannier.wire.codec import ZERO_TIME, Body


class ImageSummary(Body, frozen=True):
    """One line of ``GET /images/json``; sizes in bytes, -1 where not computed."""

    id: str
    parent_id: str = ""
    repo_tags: list[str] = []
    repo_digests: list[str] = []
    created: int = 0  # seconds since the epoch
    size: int = 0
    shared_size: int = -1
    labels: dict[str, str] = {}
    containers: int = -1


class HistoryItem(Body, frozen=True):
    """One step of ``GET /images/{name}/history``, newest first."""

    id: str = "<missing>"
    created: int = 0  # seconds since the epoch
    created_by: str = ""
    tags: list[str] = []
    size: int = 0
    comment: str = ""


class RootFSInfo(Body, frozen=True):
    type: str = "layers"
    layers: list[str] = []  # diff ids, base first


class GraphDriver(Body, frozen=True):
    name: str = "overlay2"
    data: dict[str, str] = {}


class ImageInspect(Body, frozen=True):
    """``GET /images/{name}/json``."""

    id: str
    repo_tags: list[str] = []
    repo_digests: list[str] = []
    parent: str = ""
    comment: str = ""
    created: str = ZERO_TIME  # RFC 3339
    docker_version: str = ""
    author: str = ""
    config: dict[str, Any] = {}
    architecture: str = ""
    variant: str = ""
    os: str = "linux"
    size: int = 0
    graph_driver: GraphDriver = GraphDriver()
    root_fs: RootFSInfo = field(name="RootFS", default=RootFSInfo())
    metadata: dict[str, str] = {}


class ImageDelete(Body, frozen=True, omit_defaults=True):
    """One step of removing an image: a name taken off or content deleted."""

    untagged: str = ""
    deleted: str = ""


class BuildOptions(Body, frozen=True):
    """The query of ``POST /build``; ``build_args`` of None take the value of the environment.

    ``host_ca`` is pannier's: trust the host's certificate authorities in RUN steps.
    """

    dockerfile: str = "Dockerfile"
    tags: list[str] = []
    build_args: dict[str, str | None] = {}
    labels: dict[str, str] = {}
    target: str = ""
    network_mode: str = ""
    no_cache: bool = False
    pull: bool = False
    quiet: bool = False
    host_ca: bool = False
    extra_hosts: list[str] = []
    shm_size: int = 0


class BootstrapBody(Body, frozen=True):
    """``POST /pannier/images/bootstrap``: make a base image from signed archives.

    Args of note: ``reference`` such as ``debian:12``; ``mirror`` an archive URL, "" for the
    host's own; ``init`` ``systemd`` for an OS image.
    """

    reference: str
    mirror: str = ""
    init: str = ""


class RegistryAuth(Body, frozen=True, rename="camel"):
    """Credentials of X-Registry-Auth and ``POST /auth``."""

    username: str = ""
    password: str = ""
    auth: str = ""
    server_address: str = field(name="serveraddress", default="")
    identity_token: str = field(name="identitytoken", default="")
    registry_token: str = field(name="registrytoken", default="")
