"""The part of a plan that says what a process becomes: of a container, or of an exec."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from pannier.base.errors import InvalidArgument
from pannier.kernel import capabilities
from pannier.oci.runtime import Capabilities, Process
from pannier.runtime.model import ExecRequest

Plan = dict[str, Any]

# Numbers of resource.h, the same on all architectures that Python 3.11 supports on Linux but mips
# and sparc.
RLIMITS = {
    name: number
    for number, name in enumerate(
        "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE "
        "RTPRIO RTTIME".split()
    )
}
_RLIM_INFINITY = (1 << 64) - 1


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
    number = RLIMITS.get(name.removeprefix("RLIMIT_"))
    if number is None:
        raise InvalidArgument(f"unknown resource limit {name!r}")
    return number


def _limit(value: int) -> int:
    return -1 if value in (-1, _RLIM_INFINITY) else value
