"""When a container still is what its service asks for: one hash over what shapes a container."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from pannier.compose.model import Project, Service, UpdateConfig


def config_hash(project: Project, name: str) -> str:
    """The hash of one service (64 hex digits): its own keys and the objects it uses.

    The image is not in it: containers are compared by image id, since tags move.
    """
    service = project.services[name]
    parts: dict[str, object] = {"service": _shaping(service)}
    parts["networks"] = {key: project.networks[key].name for key in service.networks}
    parts["volumes"] = {
        mount.source: project.volumes[mount.source].name
        for mount in service.mounts
        if mount.type == "volume" and mount.source
    }
    for kind, files in (("secrets", project.secrets), ("configs", project.configs)):
        grants = getattr(service, kind)
        parts[kind] = {grant.source: files[grant.source] for grant in grants}
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


def _shaping(service: Service) -> Service:
    neutral: Mapping[str, object] = {
        "build": None,
        "pull_policy": "",
        "scale": 1,
        "depends_on": {},
        "profiles": [],
        "update": UpdateConfig(),
        "image": "",
    }
    return msgspec.structs.replace(service, **neutral)
