"""Containers as the API shows them: list lines, wait, exec and stat answers.

``GET /containers/{id}/json`` is built by the engine as a plain mapping: it is the whole record
with live state; these structs are for answers that more than one package reads.
"""

from __future__ import annotations

from typing import Any

from msgspec import field

from pannier.wire.codec import Body
from pannier.wire.containers import EndpointSettings


class Port(Body, frozen=True, omit_defaults=True):
    """One exposed port and, when published, where."""

    ip: str = field(name="IP", default="")
    private_port: int = 0
    public_port: int = 0
    type: str = ""


class MountPoint(Body, frozen=True):
    """A mount of a container as listed and inspected."""

    type: str
    name: str = ""
    source: str = ""
    destination: str = ""
    driver: str = ""
    mode: str = ""
    rw: bool = field(name="RW", default=True)
    propagation: str = ""


class NetworkSummary(Body, frozen=True):
    networks: dict[str, EndpointSettings] = {}


class ContainerSummary(Body, frozen=True):
    """One line of ``GET /containers/json``; ``created`` in seconds, sizes in bytes."""

    id: str
    names: list[str] = []  # with a leading slash
    image: str = ""
    image_id: str = field(name="ImageID", default="")
    command: str = ""
    created: int = 0
    ports: list[Port] = []
    labels: dict[str, str] = {}
    state: str = ""
    status: str = ""
    host_config: dict[str, Any] = {}
    network_settings: NetworkSummary = NetworkSummary()
    mounts: list[MountPoint] = []
    size_rw: int | None = None
    size_root_fs: int | None = None


class WaitError(Body, frozen=True):
    message: str = ""


class WaitResult(Body, frozen=True):
    """The body of ``POST /containers/{id}/wait``."""

    status_code: int
    error: WaitError | None = None


class Created(Body, frozen=True):
    """The answer to a create request."""

    id: str
    warnings: list[str] = []


class Change(Body, frozen=True):
    """One line of ``GET /containers/{id}/changes``: kind 0 changed, 1 added, 2 deleted."""

    path: str
    kind: int


class PathStat(Body, frozen=True, rename="camel"):
    """What X-Docker-Container-Path-Stat carries; ``mode`` has Go's FileMode bits.

    ``mtime`` is RFC 3339, ``size`` bytes.
    """

    name: str
    size: int
    mode: int
    mtime: str
    link_target: str = ""
