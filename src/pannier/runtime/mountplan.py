"""The part of a plan that says what is mounted: option words, sources, device nodes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pannier.base.errors import InvalidArgument
from pannier.kernel import mount
from pannier.kernel._libc import MOUNT_ATTR_RDONLY, MS_RDONLY
from pannier.oci import defaults
from pannier.oci.runtime import IdMapping, Mount

Step = dict[str, Any]

INIT_PATH = "/dev/.pannier/init"
_BIND_WORDS = {"bind", "rbind"}
_IDMAP_WORDS = {"idmap", "ridmap"}
# Not of the OCI specification: only what is below this path, looked up with the source as root.
SUBPATH = "pannier.subpath="


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What a plan depends on besides the launch.

    Args:
        tini: path of a static init on the host for ``Launch.init``, "" if there is none.
        cgroup_v1: (controllers as mount options, mount point) of each version 1 hierarchy.
        cgroup_v2: mount point of version 2, "" if there is none.
    """

    tini: str = ""
    cgroup_v1: Sequence[tuple[str, str]] = field(default_factory=list)
    cgroup_v2: str = ""


def id_maps(
    uids: Sequence[IdMapping], gids: Sequence[IdMapping]
) -> dict[str, list[list[int]]] | None:
    """Both maps as (inside, outside, count) lists; None if there is none.

    Raises:
        InvalidArgument: one without the other.
    """
    if bool(uids) != bool(gids):
        raise InvalidArgument("uidMappings and gidMappings come together")
    if not uids:
        return None
    return {"uid": _map(uids), "gid": _map(gids)}


def _map(mappings: Sequence[IdMapping]) -> list[list[int]]:
    return [[m["containerID"], m["hostID"], m["size"]] for m in mappings]


class Mounts:
    """Turns mounts into steps, and collects the sources that the keeper has to open for them.

    Args:
        host: facts.
        mapped: the container is in a user namespace of its own.
        bound_cgroup: its cgroup path if cgroup file systems must be bound from the host: in a user
            namespace they can be mounted only beside a cgroup namespace of its own.
    """

    def __init__(self, host: HostFacts, *, mapped: bool, bound_cgroup: str = "") -> None:
        self._host = host
        self._mapped = mapped
        self._bound_cgroup = bound_cgroup
        self.sources: list[dict[str, Any]] = []

    def step(self, entry: Mount) -> Step:
        target = os.path.normpath("/" + entry["destination"].lstrip("/"))
        options = entry.get("options", [])
        kind = entry.get("type", "")
        if kind == "bind" or _BIND_WORDS & set(options):
            return self._bind(entry, target, options)
        if not kind:
            raise InvalidArgument(f"the mount on {target} has no type")
        if kind == "cgroup" and self._host.cgroup_v1:
            return self._cgroup_v1(target, options)
        if kind in ("cgroup", "cgroup2") and self._bound_cgroup:
            return self._bound(f"{self._host.cgroup_v2}/{self._bound_cgroup}", target, options)
        return self._filesystem("cgroup2" if kind == "cgroup" else kind, entry, target, options)

    def _filesystem(self, kind: str, entry: Mount, target: str, options: Sequence[str]) -> Step:
        flags, data, propagation, rest = 0, [], [], set()
        for word in options:
            if word in mount.FLAGS:
                flags = flags & ~mount.FLAGS[word][1] | mount.FLAGS[word][0]
            elif word in mount.PROPAGATION:
                propagation.append(mount.PROPAGATION[word])
            elif word == "tmpcopyup":
                rest.add(word)
            elif word not in _IDMAP_WORDS:
                data.append(word)
        copy_up = "tmpcopyup" in rest
        return {
            "do": "mount",
            "type": kind,
            "source": entry.get("source") or kind,
            "target": target,
            # a tmpfs that is filled first becomes read-only afterwards
            "flags": flags & ~MS_RDONLY if copy_up else flags,
            "data": ",".join(data),
            "propagation": propagation,
            "copy_up": copy_up,
            "seal": copy_up and bool(flags & MS_RDONLY),
        }

    def _bind(self, entry: Mount, target: str, options: Sequence[str]) -> Step:
        source = entry.get("source", "")
        if not source:
            raise InvalidArgument(f"the mount on {target} has no source")
        wanted = _bind_options(options)
        maps = id_maps(entry.get("uidMappings", []), entry.get("gidMappings", []))
        if maps is None and wanted.pop("idmap") and self._mapped:
            wanted["idmap"] = "container"
        else:
            wanted["idmap"] = maps
        propagation = wanted.pop("propagation")
        slot = self._open({"source": source, "target": target, **wanted})
        return {"do": "bind", "slot": slot, "target": target, "propagation": propagation}

    def _open(self, source: dict[str, Any]) -> int:
        self.sources.append(source)
        return len(self.sources) - 1

    def _cgroup_v1(self, target: str, options: Sequence[str]) -> Step:
        """A tmpfs with every version 1 hierarchy below, as Docker does it."""
        flags = 0
        for word in options:
            to_set, to_clear = mount.FLAGS.get(word, (0, 0))
            flags = flags & ~to_clear | to_set
        hierarchies = []
        for controllers, point in self._host.cgroup_v1:
            slot = None
            if self._bound_cgroup:
                path = f"{point}/{self._bound_cgroup}"
                slot = self._bound(path, target, options)["slot"]
            hierarchies.append([controllers, os.path.basename(point), slot])
        return {"do": "cgroups", "target": target, "flags": flags, "hierarchies": hierarchies}

    def _bound(self, source: str, target: str, options: Sequence[str]) -> Step:
        words = [word for word in options if word in mount.ATTRIBUTES]
        return self._bind({"destination": target, "source": source}, target, words)

    def devices(self, extra: Sequence[Mapping[str, Any]]) -> Step:
        """The nodes of /dev: six common ones; further ones the container was given."""
        common = {node["path"] for node in defaults.DEFAULT_NODES}
        nodes = []
        for device in extra:
            if device["path"] in common:
                continue
            node = {
                "target": device["path"],
                "type": device["type"],
                "major": device.get("major", 0),
                "minor": device.get("minor", 0),
                "mode": device.get("fileMode", 0o666) & 0o7777,
                "uid": device.get("uid", 0),
                "gid": device.get("gid", 0),
            }
            if self._mapped and node["type"] != "p":
                # mknod(2) of devices is refused in a user namespace: the keeper makes the node
                node["slot"] = self._open({"node": node, "target": node["target"]})
            nodes.append(node)
        return {
            "do": "devices",
            "bind": self._mapped,
            "common": [
                [os.path.basename(n["path"]), n.get("major", 0), n.get("minor", 0)]
                for n in defaults.DEFAULT_NODES
            ],
            "nodes": nodes,
            "links": [list(link) for link in defaults.DEFAULT_LINKS],
        }

    def init(self) -> Step:
        """tini below /dev, which leaves no empty file in the container's own layer."""
        slot = self._open(
            {
                "source": self._host.tini,
                "target": INIT_PATH,
                "recursive": False,
                "set": MOUNT_ATTR_RDONLY,
                "clear": 0,
                "all_set": 0,
                "all_clear": 0,
                "idmap": None,
            }
        )
        return {"do": "bind", "slot": slot, "target": INIT_PATH, "propagation": []}


def _bind_options(options: Sequence[str]) -> dict[str, Any]:
    """Option words of a bind mount; with an "r" in front they hold for everything below as well."""
    wanted: dict[str, Any] = {
        "recursive": "rbind" in options,
        "set": 0,
        "clear": 0,
        "all_set": 0,
        "all_clear": 0,
        "idmap": bool(_IDMAP_WORDS & set(options)),
        "propagation": [],
        "subpath": "",
    }
    for word in options:
        if word == "rw":
            continue  # what the host has mounted read-only stays so
        if word in mount.PROPAGATION:
            wanted["propagation"].append(mount.PROPAGATION[word])
        elif word.startswith(SUBPATH):
            wanted["subpath"] = word.removeprefix(SUBPATH)
        elif word in mount.ATTRIBUTES:
            _add(wanted, "set", "clear", mount.ATTRIBUTES[word])
        elif word[:1] == "r" and word[1:] in mount.ATTRIBUTES:
            _add(wanted, "all_set", "all_clear", mount.ATTRIBUTES[word[1:]])
        elif word not in _BIND_WORDS | _IDMAP_WORDS | mount.FLAGS.keys():
            raise InvalidArgument(f"unknown option {word!r} of a bind mount")
    return wanted


def _add(wanted: dict[str, Any], to_set: str, to_clear: str, bits: tuple[int, int]) -> None:
    wanted[to_set] = wanted[to_set] & ~bits[1] | bits[0]
    wanted[to_clear] |= bits[1]
