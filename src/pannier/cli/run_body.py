"""Flags of run and create -> the body of a create request; plain flags only.

On the hot path: what needs parsing (ports, mounts, sizes, networks, ...) is in `cli.run_values`,
loaded when such a flag was typed.
"""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from pannier.cli.flags import Flags

    Body: TypeAlias = dict[str, Any]

_CONFIG = {
    "domainname": "Domainname",
    "hostname": "Hostname",
    "mac-address": "MacAddress",
    "stop-signal": "StopSignal",
    "stop-timeout": "StopTimeout",
    "tty": "Tty",
    "user": "User",
    "workdir": "WorkingDir",
}
_HOST = {
    "blkio-weight": "BlkioWeight",
    "cap-add": "CapAdd",
    "cap-drop": "CapDrop",
    "cgroup-parent": "CgroupParent",
    "cgroupns": "CgroupnsMode",
    "cidfile": "ContainerIDFile",
    "cpu-period": "CpuPeriod",
    "cpu-quota": "CpuQuota",
    "cpu-shares": "CpuShares",
    "cpuset-cpus": "CpusetCpus",
    "cpuset-mems": "CpusetMems",
    "device-cgroup-rule": "DeviceCgroupRules",
    "dns": "Dns",
    "dns-option": "DnsOptions",
    "dns-search": "DnsSearch",
    "group-add": "GroupAdd",
    "init": "Init",
    "ipc": "IpcMode",
    "memory-swappiness": "MemorySwappiness",
    "oom-kill-disable": "OomKillDisable",
    "oom-score-adj": "OomScoreAdj",
    "pid": "PidMode",
    "pids-limit": "PidsLimit",
    "privileged": "Privileged",
    "publish-all": "PublishAllPorts",
    "read-only": "ReadonlyRootfs",
    "rm": "AutoRemove",
    "runtime": "Runtime",
    "userns": "UsernsMode",
    "uts": "UTSMode",
    "volume-driver": "VolumeDriver",
    "volumes-from": "VolumesFrom",
}
# These concern the command itself.
_OURS = frozenset(
    {
        "attach", "detach", "detach-keys", "disable-content-trust", "interactive", "name",
        "platform", "pull", "quiet", "sig-proxy",
    }
)  # fmt: skip


def create_body(flags: Flags, image: str, command: list[str]) -> Body:
    """The body of ``POST /containers/create``.

    Raises:
        UsageError, InvalidArgument: a value that cannot be understood.
    """
    config: Body = {"Image": image}
    host: Body = {}
    hard: Body = {}
    if command:
        config["Cmd"] = command
    for name, value in flags.typed():
        if name in _CONFIG:
            config[_CONFIG[name]] = value
        elif name in _HOST:
            host[_HOST[name]] = value
        elif name == "entrypoint":
            config["Entrypoint"] = [value]
        elif name == "env":
            config["Env"] = environment(value)
        elif name not in _OURS:
            hard[name] = value
    if flags.on("interactive"):
        config["OpenStdin"] = True
    config["HostConfig"] = host
    if hard:
        from pannier.cli import run_values  # noqa: PLC0415 - see the docstring

        run_values.apply(config, hard)
    return config


def environment(values: list[str]) -> list[str]:
    """``NAME`` alone takes the caller's value; when there is none, it unsets the image's."""
    out: list[str] = []
    for value in values:
        if "=" not in value:
            own = posix.environ.get(value.encode("utf-8", "surrogateescape"))
            if own is not None:
                value = f"{value}={own.decode('utf-8', 'surrogateescape')}"  # noqa: PLW2901
        out.append(value)
    return out
