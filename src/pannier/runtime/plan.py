"""From an OCI specification to a plan: plain JSON that the keeper and its child carry out.

Pure: nothing is looked up here, so a plan can be compared in tests, printed, stored and replayed.
Everything that needs thought (option words, defaults, order) is decided here; what remains for the
keeper (``sources``) and the child (``child``, ``rootfs``) are small steps in a fixed order.

    sources   opened by the keeper with the host's eyes: mounts to bind, by slot number
    early     done by the child in its new namespaces while the keeper opens the sources
    steps     done by the child when it has them, in order
    process   what the child turns into
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pannier.base.errors import InvalidArgument, Unsupported
from pannier.kernel import capabilities, mount, namespaces
from pannier.kernel._libc import MOUNT_ATTR_RDONLY, MS_RDONLY
from pannier.oci import defaults
from pannier.oci.runtime import Capabilities, IdMapping, Mount, Process, Spec
from pannier.runtime.model import ExecRequest, Launch

Plan = dict[str, Any]
Step = dict[str, Any]

VERSION = 1

# Numbers of resource.h, the same on all architectures that Python 3.11 supports on Linux but mips
# and sparc.
_RLIMITS = {
    name: number
    for number, name in enumerate(
        "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE "
        "RTPRIO RTTIME".split()
    )
}
_RLIM_INFINITY = (1 << 64) - 1
_BIND_WORDS = {"bind", "rbind"}
_IDMAP_WORDS = {"idmap", "ridmap"}
_PING_GROUPS = "net.ipv4.ping_group_range"
_INIT_PATH = "/dev/.pannier/init"


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What a plan depends on besides the launch.

    Args:
        tini: path of a static init on the host for ``Launch.init``, "" if there is none.
        cgroup_v1: (controllers as mount options, directory name) of each version 1 hierarchy.
    """

    tini: str = ""
    cgroup_v1: Sequence[tuple[str, str]] = field(default_factory=list)


def build(launch: Launch, host: HostFacts, seccomp: bytes = b"") -> Plan:
    """The plan of a container.

    Args:
        launch: what to run.
        host: facts about this host.
        seccomp: the compiled filter of ``launch.spec``, b"" for none.

    Raises:
        InvalidArgument: the specification contradicts itself.
        Unsupported: it wants what this host or pannier cannot do.
    """
    spec = launch.spec
    linux = spec.get("linux", {})
    new, join = _namespaces(spec)
    maps = _maps(linux.get("uidMappings", []), linux.get("gidMappings", []))
    if maps is None and "user" in new:
        raise InvalidArgument("a user namespace needs uidMappings and gidMappings")
    mounts = _Mounts(host, mapped=maps is not None)
    if launch.init:
        _check_init(host)
    steps = _steps(launch, mounts)
    process = process_plan(spec["process"], seccomp)
    if launch.init:
        process["init"] = _INIT_PATH
    return {
        "v": VERSION,
        "id": launch.id,
        "namespaces": {"new": new, "join": join},
        "maps": maps,
        "cgroup": _cgroup(launch),
        "rootfs": _rootfs(launch, privileged=maps is None and _is_privileged(spec)),
        "sources": mounts.sources,
        "early": _early(spec, new),
        "steps": steps,
        "interfaces": list(launch.interfaces),
        "process": process,
        "stdio": {
            "tty": launch.stdio.tty,
            "stdin": launch.stdio.stdin,
            "rows": launch.stdio.rows,
            "cols": launch.stdio.cols,
            "uid": launch.stdio.uid,
            "gid": launch.stdio.gid,
        },
        "log": None
        if launch.log is None
        else [launch.log.path, launch.log.max_size, launch.log.max_files],
        "replay": launch.replay,
    }


def describe(step: Step) -> str:
    """One line for people about *step*, for debugging and error messages."""
    rest = " ".join(f"{key}={value}" for key, value in step.items() if key not in ("do", "target"))
    return " ".join(word for word in (step["do"], str(step.get("target", "")), rest) if word)


def _check_init(host: HostFacts) -> None:
    if not host.tini:
        raise Unsupported(
            "there is no init program on this host for --init",
            hint="install tini (Debian: apt-get install tini)",
        )


# ------------------------------------------------------------------ namespaces, ids, cgroup


def _namespaces(spec: Spec) -> tuple[list[str], dict[str, str]]:
    new: list[str] = []
    join: dict[str, str] = {}
    for namespace in spec.get("linux", {}).get("namespaces", []):
        kind = namespace["type"]
        if kind not in namespaces.TYPES or kind == "time":
            raise Unsupported(f"namespaces of type {kind!r} are not supported")
        if kind in new or kind in join:
            raise InvalidArgument(f"there are two namespaces of type {kind!r}")
        path = namespace.get("path")
        if path:
            join[kind] = path
        else:
            new.append(kind)
    if "mount" not in new:
        raise Unsupported("a container needs a mount namespace of its own")
    return new, join


def _maps(
    uids: Sequence[IdMapping], gids: Sequence[IdMapping]
) -> dict[str, list[list[int]]] | None:
    if bool(uids) != bool(gids):
        raise InvalidArgument("uidMappings and gidMappings come together")
    if not uids:
        return None
    return {"uid": _map(uids), "gid": _map(gids)}


def _map(mappings: Sequence[IdMapping]) -> list[list[int]]:
    return [[m["containerID"], m["hostID"], m["size"]] for m in mappings]


def _cgroup(launch: Launch) -> dict[str, Any] | None:
    if not launch.cgroup:
        return None
    resources = dict(launch.spec.get("linux", {}).get("resources", {}))
    if "/default/" in launch.cgroup:
        resources.pop("devices", None)  # the parent directory has these rules already
    return {"path": launch.cgroup, "resources": resources, "owned": launch.cgroup_owned}


def _is_privileged(spec: Spec) -> bool:
    bounding = spec["process"].get("capabilities", {}).get("bounding", [])
    return bool(capabilities.mask(bounding) & capabilities.CAP_SYS_ADMIN)


def _rootfs(launch: Launch, *, privileged: bool) -> dict[str, Any]:
    rootfs = launch.rootfs
    return {
        "lowers": list(rootfs.lowers),
        "upper": rootfs.upper,
        "work": rootfs.work,
        "volatile": rootfs.volatile,
        # builders of distributions (debootstrap) in privileged containers open nodes they make
        "nodev": not privileged,
    }


# ------------------------------------------------------------------ steps


def _steps(launch: Launch, mounts: _Mounts) -> list[Step]:
    spec = launch.spec
    linux = spec.get("linux", {})
    steps = [mounts.step(entry) for entry in spec.get("mounts", [])]
    own_dev = any(s["do"] == "mount" and s["target"] == "/dev" for s in steps)
    if own_dev:
        steps.append(mounts.devices(linux.get("devices", [])))
    if launch.init:
        steps.append(mounts.init())
    if launch.stdio.tty:
        steps.append({"do": "console", "target": "/dev/console" if own_dev else ""})
    if linux.get("readonlyPaths"):
        steps.append({"do": "readonly", "paths": list(linux.get("readonlyPaths", []))})
    if linux.get("maskedPaths"):
        steps.append({"do": "mask", "paths": list(linux.get("maskedPaths", []))})
    if spec["process"]["cwd"] not in ("", "/"):
        steps.append({"do": "directory", "target": spec["process"]["cwd"]})
    steps.append(_root(launch))
    return steps


def _early(spec: Spec, new: Sequence[str]) -> list[Step]:
    """What needs no root file system, done while the keeper makes it."""
    steps: list[Step] = []
    if "network" in new:
        steps.append({"do": "network"})
    if spec.get("linux", {}).get("sysctl"):
        steps.append({"do": "sysctl", "values": _sysctls(spec)})
    name, domain = spec.get("hostname", ""), spec.get("domainname", "")
    if "uts" in new and (name or domain):
        steps.append({"do": "hostname", "name": name, "domain": domain})
    return steps


def _sysctls(spec: Spec) -> dict[str, str]:
    linux = spec.get("linux", {})
    values = dict(linux.get("sysctl", {}))
    mappings = linux.get("gidMappings", [])
    if mappings and _PING_GROUPS in values:
        # the kernel refuses groups that are not mapped; Docker's default names all there are
        last = max(m["containerID"] + m["size"] - 1 for m in mappings)
        wanted = values[_PING_GROUPS].split()
        values[_PING_GROUPS] = " ".join(str(min(int(group), last)) for group in wanted)
    return values


def _root(launch: Launch) -> Step:
    spec = launch.spec
    propagation = spec.get("linux", {}).get("rootfsPropagation", "")
    if propagation not in ("", *mount.PROPAGATION):
        raise InvalidArgument(f"unknown rootfsPropagation {propagation!r}")
    return {
        "do": "root",
        "readonly": launch.rootfs.readonly or bool(spec.get("root", {}).get("readonly")),
        "propagation": mount.PROPAGATION.get(propagation, 0),
    }


class _Mounts:
    """Turns mounts into steps, and collects the sources that the keeper has to open for them."""

    def __init__(self, host: HostFacts, *, mapped: bool) -> None:
        self._host = host
        self._mapped = mapped
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
        maps = _maps(entry.get("uidMappings", []), entry.get("gidMappings", []))
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
            flags = flags & ~mount.FLAGS.get(word, (0, 0))[1] | mount.FLAGS.get(word, (0, 0))[0]
        hierarchies = [list(entry) for entry in self._host.cgroup_v1]
        return {"do": "cgroups", "target": target, "flags": flags, "hierarchies": hierarchies}

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
                "target": _INIT_PATH,
                "recursive": False,
                "set": MOUNT_ATTR_RDONLY,
                "clear": 0,
                "all_set": 0,
                "all_clear": 0,
                "idmap": None,
            }
        )
        return {"do": "bind", "slot": slot, "target": _INIT_PATH, "propagation": []}


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
    }
    for word in options:
        if word == "rw":
            continue  # what the host has mounted read-only stays so
        if word in mount.PROPAGATION:
            wanted["propagation"].append(mount.PROPAGATION[word])
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


# ------------------------------------------------------------------ the process


def process_plan(process: Process, seccomp: bytes = b"") -> Plan:
    """What a process becomes just before it executes its program.

    Raises:
        InvalidArgument: an unknown capability or limit; no arguments.
    """
    if not process["args"]:
        raise InvalidArgument("no command specified")
    user = process["user"]
    return {
        "argv": list(process["args"]),
        "env": _environment(process.get("env", [])),
        "cwd": process["cwd"] or "/",
        "uid": user["uid"],
        "gid": user["gid"],
        "groups": list(user.get("additionalGids", [])),
        "umask": user.get("umask", 0o022),
        "capabilities": _capabilities(process.get("capabilities")),
        "no_new_privileges": bool(process.get("noNewPrivileges")),
        "rlimits": [
            [_rlimit(r["type"]), _limit(r["soft"]), _limit(r["hard"]), r["type"]]
            for r in process.get("rlimits", [])
        ],
        "oom_score_adj": process.get("oomScoreAdj"),
        "seccomp": base64.b64encode(seccomp).decode(),
    }


def exec_plan(request: ExecRequest) -> Plan:
    """The process of an exec; the keeper adds the container's filter."""
    effective = request.capabilities if request.uid == 0 else []
    return process_plan(
        {
            "args": request.args,
            "env": request.env,
            "cwd": request.cwd,
            "user": {
                "uid": request.uid,
                "gid": request.gid,
                "additionalGids": request.groups,
                "umask": 0o022 if request.umask is None else request.umask,
            },
            "capabilities": {
                "bounding": request.capabilities,
                "effective": effective,
                "permitted": effective,
            },
            "noNewPrivileges": request.no_new_privileges,
        }
    )


def _environment(entries: Sequence[str]) -> dict[str, str]:
    """Of two entries with one name the last one wins."""
    environment = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if name and equals:
            environment[name] = value
    return environment


def _capabilities(sets: Capabilities | None) -> dict[str, int] | None:
    if sets is None:
        return None
    return {
        "bounding": capabilities.mask(sets.get("bounding", [])),
        "effective": capabilities.mask(sets.get("effective", [])),
        "permitted": capabilities.mask(sets.get("permitted", [])),
        "inheritable": capabilities.mask(sets.get("inheritable", [])),
        "ambient": capabilities.mask(sets.get("ambient", [])),
    }


def _rlimit(name: str) -> int:
    number = _RLIMITS.get(name.removeprefix("RLIMIT_"))
    if number is None:
        raise InvalidArgument(f"unknown resource limit {name!r}")
    return number


def _limit(value: int) -> int:
    return -1 if value in (-1, _RLIM_INFINITY) else value
