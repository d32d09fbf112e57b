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

from collections.abc import Sequence
from typing import Any

from pannier.base.errors import InvalidArgument, Unsupported
from pannier.kernel import capabilities, mount, namespaces
from pannier.kernel._libc import MOUNT_ATTR_RDONLY, MS_SHARED
from pannier.oci.runtime import Spec
from pannier.runtime.model import Launch
from pannier.runtime.mountplan import INIT_PATH, HostFacts, Mounts, id_maps
from pannier.runtime.processplan import exec_plan, process_plan

__all__ = ["HostFacts", "Plan", "Step", "build", "describe", "exec_plan", "process_plan"]

Plan = dict[str, Any]
Step = dict[str, Any]

VERSION = 1

_PING_GROUPS = "net.ipv4.ping_group_range"


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
    maps = id_maps(linux.get("uidMappings", []), linux.get("gidMappings", []))
    if maps is None and "user" in new:
        raise InvalidArgument("a user namespace needs uidMappings and gidMappings")
    bound = launch.cgroup if maps is not None and "cgroup" not in new else ""
    mounts = Mounts(host, mapped=maps is not None, bound_cgroup=bound)
    if launch.init:
        _check_init(host)
    steps = _steps(launch, mounts)
    if maps is not None and ("user" in new or "user" in join) and _may_mount(spec):
        _lock_sources(mounts.sources, steps)
    process = process_plan(spec["process"], seccomp)
    if launch.init:
        process["init"] = INIT_PATH
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


def _may_mount(spec: Spec) -> bool:
    """Its processes can have CAP_SYS_ADMIN in their user namespace, as they do without any sets."""
    return spec["process"].get("capabilities") is None or _is_privileged(spec)


def _lock_sources(sources: Sequence[dict[str, Any]], steps: Sequence[Step]) -> None:
    """Mark the sources whose flags the container could change and must not (``runtime.anteroom``).

    Whole trees are among them, for there may be read-only mounts in them: the host's, and those
    that ``runtime.sources`` closes. But a locked mount does not propagate out any more; who asks
    for a writable one that does gets it.
    """
    shared = {
        step["slot"]
        for step in steps
        if step["do"] == "bind" and any(kind & MS_SHARED for kind in step["propagation"])
    }
    for slot, source in enumerate(sources):
        closed = "node" in source or (source["set"] | source["all_set"]) & MOUNT_ATTR_RDONLY
        if closed or (source["recursive"] and slot not in shared):
            source["locked"] = True


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


def _steps(launch: Launch, mounts: Mounts) -> list[Step]:
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
