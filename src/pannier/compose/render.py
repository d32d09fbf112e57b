"""A resolved project -> canonical YAML, as ``compose config`` prints it.

What is printed is a compose file again: loaded once more it gives the same project.
"""

from __future__ import annotations

import io
from typing import Any

from ruamel.yaml import YAML

from pannier.compose import model

_SECOND = 10**9
_UNITS = ((3600 * _SECOND, "h"), (60 * _SECOND, "m"), (_SECOND, "s"), (10**6, "ms"), (1, "ns"))

# Keys that read the same in the file and in the model.
_PLAIN = (
    *("annotations", "cap_add", "cap_drop", "command", "container_name", "dns", "dns_opt"),
    *("dns_search", "domainname", "entrypoint", "environment", "expose", "extra_hosts"),
    *("group_add", "hostname", "image", "init", "ipc", "labels", "mac_address", "network_mode"),
    *("oom_score_adj", "pid", "privileged", "profiles", "pull_policy", "read_only", "runtime"),
    *("security_opt", "shm_size", "stdin_open", "stop_signal", "sysctls", "tty", "user"),
    *("userns_mode", "uts", "working_dir"),
)


def render(project: model.Project) -> str:
    """The YAML text of *project*."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.width = 4096
    out = io.StringIO()
    yaml.dump(_escaped(as_tree(project)), out)
    return out.getvalue()


def as_tree(project: model.Project) -> dict[str, Any]:
    """The project in the keys of the specification."""
    return _filled(
        {
            "name": project.name,
            "services": {k: _service(v) for k, v in sorted(project.services.items())},
            "networks": {k: _network(v) for k, v in sorted(project.networks.items())},
            "volumes": {k: _volume(v) for k, v in sorted(project.volumes.items())},
            "secrets": {k: _file(v) for k, v in sorted(project.secrets.items())},
            "configs": {k: _file(v) for k, v in sorted(project.configs.items())},
        }
    )


def _filled(tree: dict[str, Any]) -> dict[str, Any]:
    return {key: v for key, v in tree.items() if v is not None and v not in ("", [], {}, 0, False)}


def _escaped(value: Any) -> Any:
    """With dollars doubled, so that reading it again fills in nothing."""
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


def duration(nanoseconds: int) -> str:
    """``1m30s``: the exact value in Go's notation."""
    parts = []
    for length, unit in _UNITS:
        count, nanoseconds = divmod(nanoseconds, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _duration(nanoseconds: int | None) -> str | None:
    return duration(nanoseconds) if nanoseconds else None


def _service(service: model.Service) -> dict[str, Any]:
    tree = _filled({key: getattr(service, key) for key in _PLAIN})
    for key in ("command", "entrypoint", "init"):  # [] and false say something here
        value = getattr(service, key)
        if value is not None:
            tree[key] = value
    tree |= _filled(
        {
            "build": _build(service.build),
            "configs": [_grant(grant) for grant in service.configs],
            "depends_on": {k: _dependency(v) for k, v in service.depends_on.items()},
            "deploy": _deploy(service),
            "devices": [f"{d.source}:{d.target}:{d.permissions}" for d in service.devices],
            "healthcheck": _healthcheck(service.healthcheck),
            "logging": _filled(
                {"driver": service.logging.driver, "options": service.logging.options}
            ),
            "networks": {k: _endpoint(v) for k, v in service.networks.items()},
            "ports": [_port(port) for port in service.ports],
            "restart": _restart(service.restart),
            "secrets": [_grant(grant) for grant in service.secrets],
            "ulimits": {k: {"soft": u.soft, "hard": u.hard} for k, u in service.ulimits.items()},
            "volumes": [_mount(mount) for mount in service.mounts],
            **_limits(service.limits),
        }
    )
    if service.stop_grace_period is not None:
        tree["stop_grace_period"] = duration(service.stop_grace_period)
    if service.scale != 1:
        tree["scale"] = service.scale
    return dict(sorted(tree.items()))


def _build(build: model.Build | None) -> dict[str, Any] | None:
    if build is None:
        return None
    return _filled({key: getattr(build, key) for key in build.__struct_fields__})


def _dependency(dependency: model.Dependency) -> dict[str, Any]:
    tree: dict[str, Any] = {"condition": dependency.condition, "required": dependency.required}
    return {**tree, "restart": True} if dependency.restart else tree


def _deploy(service: model.Service) -> dict[str, Any]:
    update = service.update
    if update == model.UpdateConfig():
        return {}
    tree = _filled(
        {
            "delay": _duration(update.delay),
            "order": update.order,
            "failure_action": update.failure_action,
            "monitor": _duration(update.monitor),
        }
    )
    return {"update_config": {"parallelism": update.parallelism, **tree}}


def _limits(limits: model.Limits) -> dict[str, Any]:
    return {
        "cpus": limits.cpus / 10**9,
        "mem_limit": str(limits.memory) if limits.memory else "",
        "mem_reservation": str(limits.memory_reservation) if limits.memory_reservation else "",
        "memswap_limit": str(limits.memory_swap) if limits.memory_swap else "",
        "pids_limit": limits.pids,
        "cpu_shares": limits.cpu_shares,
        "cpu_quota": limits.cpu_quota,
        "cpu_period": limits.cpu_period,
        "cpuset": limits.cpuset,
    }


def _healthcheck(check: model.Healthcheck | None) -> dict[str, Any] | None:
    if check is None:
        return None
    if check.disable:
        return {"disable": True}
    times = ("interval", "timeout", "start_period", "start_interval")
    tree = {key: _duration(getattr(check, key)) for key in times}
    return _filled({"test": check.test, **tree, "retries": check.retries})


def _endpoint(endpoint: model.Endpoint) -> dict[str, Any] | None:
    return _filled({key: getattr(endpoint, key) for key in endpoint.__struct_fields__}) or None


def _port(port: model.Port) -> dict[str, Any]:
    return _filled({key: getattr(port, key) for key in port.__struct_fields__})


def _restart(restart: model.Restart) -> str:
    if restart.policy == "no":
        return ""
    return f"{restart.policy}:{restart.attempts}" if restart.attempts else restart.policy


def _grant(grant: model.Grant) -> dict[str, str]:
    return {"source": grant.source, "target": grant.target}


def _mount(mount: model.Mount) -> dict[str, Any]:
    tree: dict[str, Any] = {"type": mount.type, "source": mount.source, "target": mount.target}
    tree["read_only"] = mount.read_only
    if mount.type == "tmpfs":
        mode = f"0{mount.mode:o}" if mount.mode else ""
        tree["tmpfs"] = _filled({"size": mount.size, "mode": mode})
    elif mount.type == "volume":
        tree["volume"] = _filled({"nocopy": mount.nocopy, "subpath": mount.subpath})
    else:
        options = _filled({"propagation": mount.propagation})
        tree["bind"] = {**options, "create_host_path": mount.create_host_path}
    return _filled(tree)


def _network(network: model.Network) -> dict[str, Any]:
    pools = [_filled({k: getattr(s, k) for k in s.__struct_fields__}) for s in network.subnets]
    keys = ("name", "driver", "internal", "attachable", "external", "labels")
    tree = {key: getattr(network, key) for key in keys}
    return _filled({**tree, "driver_opts": network.options, "ipam": _filled({"config": pools})})


def _volume(volume: model.Volume) -> dict[str, Any]:
    tree = {key: getattr(volume, key) for key in ("name", "driver", "external", "labels")}
    return _filled({**tree, "driver_opts": volume.options})


def _file(file: model.FileObject) -> dict[str, Any]:
    tree = _filled({"name": file.name, "file": file.file})
    return tree if file.content is None else {**tree, "content": file.content}
