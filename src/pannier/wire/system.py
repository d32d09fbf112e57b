"""The engine itself on the wire: version, events, disk usage, progress streams.

``GET /info`` is a plain mapping with Docker's keys: most of them are constant for clients that
look for them, and the engine's own facts stand beside them.
"""

from __future__ import annotations

from typing import Any

from msgspec import field

from pannier.wire.codec import ZERO_TIME, Body

API_VERSION = "1.50"
MIN_API_VERSION = "1.24"


class Platform(Body, frozen=True):
    name: str = "pannier"


class Component(Body, frozen=True):
    name: str
    version: str
    details: dict[str, str] = {}


class Version(Body, frozen=True):
    """``GET /version``."""

    version: str
    platform: Platform = Platform()
    components: list[Component] = []
    api_version: str = API_VERSION
    min_api_version: str = field(name="MinAPIVersion", default=MIN_API_VERSION)
    git_commit: str = ""
    go_version: str = ""
    os: str = "linux"
    arch: str = ""
    kernel_version: str = ""
    experimental: bool = False
    build_time: str = ""


class Actor(Body, frozen=True):
    id: str = field(name="ID", default="")
    attributes: dict[str, str] = {}


class EventMessage(Body, frozen=True, omit_defaults=True):
    """One line of ``GET /events``; lower-case keys are the old form that clients still read."""

    type: str
    action: str
    actor: Actor
    scope: str = field(name="scope")
    time: int = field(name="time")  # seconds
    time_nano: int = field(name="timeNano")
    status: str = field(name="status", default="")
    id: str = field(name="id", default="")
    from_: str = field(name="from", default="")


class ProgressDetail(Body, frozen=True, omit_defaults=True):
    current: int = field(name="current", default=0)
    total: int = field(name="total", default=0)


class ErrorDetail(Body, frozen=True, omit_defaults=True):
    code: int = field(name="code", default=0)
    message: str = field(name="message", default="")


class Progress(Body, frozen=True, omit_defaults=True):
    """One line of a pull, push, build, load or bootstrap stream (Docker's JSONMessage).

    ``stream`` is output to show as it is; ``status`` a state of the object ``id``; ``aux`` the
    result; ``error`` ends the stream.
    """

    stream: str = field(name="stream", default="")
    status: str = field(name="status", default="")
    id: str = field(name="id", default="")
    progress: str = field(name="progress", default="")
    progress_detail: ProgressDetail | None = field(name="progressDetail", default=None)
    error: str = field(name="error", default="")
    error_detail: ErrorDetail | None = field(name="errorDetail", default=None)
    aux: dict[str, Any] | None = field(name="aux", default=None)


class BuildCacheRecord(Body, frozen=True):
    """One cached build step; size in bytes, times RFC 3339."""

    id: str = field(name="ID")
    type: str = "regular"
    description: str = ""
    in_use: bool = False
    shared: bool = False
    size: int = 0
    created_at: str = ZERO_TIME
    last_used_at: str = ZERO_TIME
    usage_count: int = 0


class DiskUsage(Body, frozen=True):
    """``GET /system/df``: the same items as the lists show, with sizes."""

    layers_size: int = 0
    images: list[dict[str, Any]] = []
    containers: list[dict[str, Any]] = []
    volumes: list[dict[str, Any]] = []
    build_cache: list[BuildCacheRecord] = []


class ErrorBody(Body, frozen=True, omit_defaults=True):
    """Every error answer; ``hint`` and ``exit_code`` are pannier's.

    ``hint`` says what to do; ``exit_code`` is what a failed start counts as (125, 126 or 127).
    """

    message: str = field(name="message")
    hint: str | None = field(name="hint", default=None)
    exit_code: int | None = field(name="exitCode", default=None)
    status: int | None = field(name="status", default=None)  # where no HTTP status can tell it


class RunResult(Body, frozen=True, omit_defaults=True):
    """The last frame of ``POST /pannier/run``."""

    status_code: int = field(name="StatusCode")
    detached: bool = False
