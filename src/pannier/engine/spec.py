"""A container's record into one OCI runtime specification: pure, apart from reading device numbers.

The kind has decided what runs (`kinds.base.ProcessPlan`); here it is put into the specification's
words together with what does not depend on the kind: namespaces, ids, limits, files for names.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pannier.base.errors import InvalidArgument
from pannier.engine import devices, mounts, resources
from pannier.engine.idranges import RANGE
from pannier.engine.kinds.base import ProcessPlan
from pannier.engine.model import Record
from pannier.engine.users import User
from pannier.oci import defaults as oci
from pannier.oci.runtime import (
    SPEC_VERSION,
    IdMapping,
    Linux,
    Mount,
    Namespace,
    NamespaceType,
    Process,
    Seccomp,
    Spec,
)
from pannier.oci.seccomp_profile import profile

SHARED = "container:"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the engine looked up for this start.

    Args:
        user: who runs.
        peer_pid: first process of a container by its reference, for shared namespaces.
        files: bind mounts of hosts, hostname and resolv.conf.
        cgroup: the container's cgroup path.
        needs_network: false for ``--network host``.
    """

    user: User
    peer_pid: Callable[[str], int]
    files: Sequence[Mount]
    cgroup: str


def uses_host_ids(record: Record) -> bool:
    """Whether a container lives in the host's user namespace, by its own wish or with its peer."""
    return asks_for_host_ids(record) or (not record.id_base and bool(peers(record)))


def asks_for_host_ids(record: Record) -> bool:
    """Privileged containers and those in a namespace of the host live in the host's user namespace.

    A namespace is owned by one user namespace; a process mapped elsewhere has no rights over it.
    """
    host = record.host_config
    return (
        host.privileged
        or host.userns_mode == "host"
        or "host" in (host.pid_mode, host.network_mode, host.ipc_mode)
    )


def peers(record: Record) -> list[str]:
    """The containers whose namespaces (and so whose range of ids) this one joins."""
    host = record.host_config
    modes = (host.network_mode, host.pid_mode, host.ipc_mode)
    return [mode.removeprefix(SHARED) for mode in modes if mode.startswith(SHARED)]


def build(record: Record, plan: ProcessPlan, around: Surroundings) -> Spec:
    """The whole specification.

    Raises:
        InvalidArgument: a mode or option that does not exist.
    """
    host = record.host_config
    return {
        "ociVersion": SPEC_VERSION,
        "process": _process(record, plan, around.user),
        "root": {"path": "rootfs", "readonly": host.readonly_rootfs},
        "hostname": "" if host.uts_mode == "host" else record.hostname,
        "domainname": record.config.domainname,
        "mounts": [*plan.mounts, *_overridden(record, around.files), *mounts.to_oci(record.mounts)],
        "linux": _linux(record, plan, around),
        "annotations": dict(host.annotations),
    }


def _overridden(record: Record, files: Sequence[Mount]) -> list[Mount]:
    """A user's own mount on /etc/hosts and the like replaces ours."""
    taken = {point.destination for point in record.mounts}
    return [mount for mount in files if mount["destination"] not in taken]


def _process(record: Record, plan: ProcessPlan, user: User) -> Process:
    caps = list(plan.capabilities)
    # A process of another user than root starts without effective capabilities (capabilities(7)).
    effective = caps if user.uid == 0 else []
    env = list(plan.env)
    if not any(entry.startswith("HOME=") for entry in env):
        env.append(f"HOME={user.home}")
    process: Process = {
        "terminal": plan.terminal,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)},
        "args": plan.argv,
        "env": env,
        "cwd": plan.cwd,
        "capabilities": {
            "bounding": caps,
            "effective": effective,
            "permitted": effective,
            "inheritable": [],
            "ambient": [],
        },
        "rlimits": resources.rlimits(record.host_config),
        "noNewPrivileges": no_new_privileges(record.host_config.security_opt),
    }
    if record.host_config.oom_score_adj:
        process["oomScoreAdj"] = record.host_config.oom_score_adj
    return process


def _linux(record: Record, plan: ProcessPlan, around: Surroundings) -> Linux:
    host = record.host_config
    limits = resources.to_oci(host)
    limits["devices"] = resources.device_rules(host)
    linux: Linux = {
        "namespaces": _namespaces(record, around.peer_pid),
        "resources": limits,
        "cgroupsPath": around.cgroup,
        "maskedPaths": list(plan.masked_paths),
        "readonlyPaths": list(plan.readonly_paths),
        "sysctl": _sysctls(record, plan),
        "devices": [*oci.DEFAULT_NODES, *devices.nodes(host)],
        "rootfsPropagation": "rprivate",
    }
    if not uses_host_ids(record):
        mapping: IdMapping = {"containerID": 0, "hostID": record.id_base, "size": RANGE}
        linux["uidMappings"] = [mapping]
        linux["gidMappings"] = [mapping]
    calls = seccomp(record, plan)
    if calls:
        linux["seccomp"] = calls
    return linux


def _sysctls(record: Record, plan: ProcessPlan) -> dict[str, str]:
    wanted = {**plan.sysctls, **record.host_config.sysctls}
    if record.host_config.network_mode == "host" or record.host_config.network_mode.startswith(
        SHARED
    ):
        # The namespace is not ours to change.
        wanted = {k: v for k, v in wanted.items() if not k.startswith("net.")}
    return wanted


def _namespaces(record: Record, peer_pid: Callable[[str], int]) -> list[Namespace]:
    host = record.host_config
    modes: list[tuple[NamespaceType, str, str]] = [
        ("network", host.network_mode, "net"),
        ("pid", host.pid_mode, "pid"),
        ("ipc", host.ipc_mode, "ipc"),
        ("uts", host.uts_mode, "uts"),
        ("cgroup", host.cgroupns_mode, "cgroup"),
    ]
    namespaces: list[Namespace] = [{"type": "mount"}]
    if not uses_host_ids(record):
        joined = peers(record)
        path = f"/proc/{peer_pid(joined[0])}/ns/user" if joined else None
        namespaces.append({"type": "user", "path": path} if path else {"type": "user"})
    for kind, mode, file in modes:
        if mode == "host":
            continue
        if mode.startswith(SHARED):
            pid = peer_pid(mode.removeprefix(SHARED))
            namespaces.append({"type": kind, "path": f"/proc/{pid}/ns/{file}"})
        else:
            namespaces.append({"type": kind})
    return namespaces


def no_new_privileges(options: Sequence[str]) -> bool:
    """Whether ``--security-opt`` asks for it."""
    return any(
        o in {"no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"}
        for o in options
    )


def seccomp(record: Record, plan: ProcessPlan) -> Seccomp | None:
    if record.host_config.privileged:
        return None
    for option in record.host_config.security_opt:
        # The old form is seccomp:FILE; a profile's text has colons of its own.
        name, separator, value = option.partition("=")
        if not separator:
            name, _, value = option.partition(":")
        if name == "seccomp" and value not in {"", "builtin"}:
            return None if value == "unconfined" else _own_profile(value)
    result = profile(set(plan.capabilities), platform.machine())
    if plan.seccomp_extra:
        extra = {"names": list(plan.seccomp_extra), "action": "SCMP_ACT_ALLOW"}
        result = msgspec.convert({**result, "syscalls": [*result["syscalls"], extra]}, Seccomp)
    return result


def _own_profile(text: str) -> Seccomp:
    """Docker's client sends the profile's JSON; a path is read here for clients that do not."""
    try:
        content = text if text.lstrip().startswith("{") else Path(text).read_text()
        return msgspec.json.decode(content, type=Seccomp)
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidArgument(f"opening seccomp profile failed: {error}") from error
