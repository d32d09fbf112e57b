"""Volumes on the wire (Docker Engine API v1.50: Volume, VolumeCreateOptions)."""

from __future__ import annotations

from msgspec import field

from pannier.wire.codec import ZERO_TIME, Body


class VolumeCreate(Body, frozen=True):
    """``POST /volumes/create``; an empty name asks for a random one (an anonymous volume)."""

    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] = {}
    labels: dict[str, str] = {}


class VolumeUsage(Body, frozen=True):
    """Size in bytes and number of containers; -1 where not computed."""

    size: int = -1
    ref_count: int = -1


class Volume(Body, frozen=True):
    """A volume as listed and inspected."""

    name: str
    driver: str = "local"
    mountpoint: str = ""
    created_at: str = ZERO_TIME  # RFC 3339
    labels: dict[str, str] = {}
    scope: str = "local"
    options: dict[str, str] = {}
    usage_data: VolumeUsage | None = field(name="UsageData", default=None)


class VolumeList(Body, frozen=True):
    """``GET /volumes``."""

    volumes: list[Volume] = []
    warnings: list[str] = []
