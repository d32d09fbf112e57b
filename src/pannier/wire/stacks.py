"""Stacks (compose projects) on the wire: pannier's own requests under ``/pannier/stacks``.

The project is sent resolved (`compose` does that on the caller's side, where the files are), as
plain JSON: only `stack` reads it. Each request is answered with one JSON object per line.
"""

from __future__ import annotations

from typing import Any

from msgspec import field

from pannier.wire.codec import Body


class StackUp(Body, frozen=True):
    """``POST /pannier/stacks/{name}/up``; ``services`` of [] means all, timeouts in seconds.

    ``scale`` overrides the number of replicas by service.
    """

    project: dict[str, Any]
    services: list[str] = []
    scale: dict[str, int] = {}
    force_recreate: bool = False
    no_recreate: bool = False
    no_start: bool = False
    remove_orphans: bool = False
    wait: bool = False
    wait_timeout: float | None = None
    timeout: float | None = None


class StackDown(Body, frozen=True):
    """``POST /pannier/stacks/{name}/down``; ``images`` is "", "local" or "all"."""

    services: list[str] = []
    volumes: bool = False
    images: str = ""
    remove_orphans: bool = False
    timeout: float | None = None
    project: dict[str, Any] | None = None


class StackScale(Body, frozen=True):
    """``POST /pannier/stacks/{name}/scale``: replicas by service."""

    scale: dict[str, int]
    timeout: float | None = None


class StackRollback(Body, frozen=True):
    """``POST /pannier/stacks/{name}/rollback``; [] means every service that has a previous one."""

    services: list[str] = []
    undo: bool = False
    timeout: float | None = None


class StackEvent(Body, frozen=True, omit_defaults=True):
    """One line of the answer: what is done to which object; ``error`` ends the stream.

    ``kind`` is ``container``, ``network``, ``volume``, ``service`` or ``stack``; ``status`` such as
    ``creating``, ``started``, ``healthy``, ``removed``, ``warning``, ``done``.
    """

    kind: str = ""
    name: str = ""
    status: str = ""
    message: str = ""
    error: str = field(name="error", default="")


class ServiceStatus(Body, frozen=True):
    name: str
    image: str = ""
    wanted: int = 0
    running: int = 0
    healthy: int = 0
    containers: list[dict[str, Any]] = []


class StackStatus(Body, frozen=True):
    """One stack as listed."""

    name: str
    services: list[ServiceStatus] = []
    status: str = ""
    config_files: str = ""
