"""The tree of one service -> `model.Service`, every short form written out.

Needs to know the rest of the project only by name; what concerns the project as a whole (unknown
networks, circles) is checked in `projects`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pannier.base.errors import NotFound
from pannier.compose.convert import Reader, integer, text
from pannier.compose.dotenv import read_env_file
from pannier.compose.model import (
    Build,
    Condition,
    Dependency,
    Device,
    Endpoint,
    Grant,
    Healthcheck,
    Limits,
    Logging,
    Order,
    Restart,
    Service,
    Ulimit,
    UpdateConfig,
)
from pannier.compose.mounts import absolute, read_mounts
from pannier.compose.ports import read_ports
from pannier.compose.source import Map, Seq

_RESTART = re.compile(r"no|always|unless-stopped|on-failure(?::(\d+))?")
_TEXTS = (
    *("container_name", "domainname", "hostname", "ipc", "mac_address", "network_mode", "pid"),
    *("pull_policy", "runtime", "user", "userns_mode", "uts", "working_dir"),
)
_LISTS = (
    *("cap_add", "cap_drop", "dns", "dns_opt", "dns_search", "expose", "group_add", "profiles"),
    "security_opt",
)
_FLAGS = ("privileged", "read_only", "stdin_open", "tty")
_SIGNAL = re.compile(r"(SIG)?[A-Z0-9+-]+")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a service may refer to.

    Args:
        directory: relative paths are below it.
        variables: values for names without one (``environment: [HOME]``).
        volumes: keys of the named volumes.
    """

    directory: Path
    variables: Mapping[str, str]
    volumes: Collection[str]


def read_service(name: str, tree: Map, around: Surroundings) -> Service:
    """The service *name*.

    Raises:
        ComposeError: with the place of the value that cannot be used.
    """
    reader = Reader(tree, f"services.{name}")
    build = _build(reader, around)
    image = reader.text("image")
    if not image and build is None:
        raise reader.error("", "a service needs an 'image' or a 'build'")
    deploy = reader.sub("deploy")
    plain: dict[str, Any] = {key: reader.text(key) for key in _TEXTS}
    plain |= {key: reader.texts(key) for key in _LISTS}
    plain |= {key: reader.boolean(key) for key in _FLAGS}
    return Service(image=image, build=build, **plain, **_things(reader, deploy, around))


def _things(reader: Reader, deploy: Reader, around: Surroundings) -> dict[str, Any]:
    """The keys whose values need more than one word to read."""
    return {
        "scale": _scale(reader, deploy),
        "command": reader.command("command"),
        "entrypoint": reader.command("entrypoint"),
        "environment": _environment(reader, around),
        "labels": {**_label_files(reader, around), **reader.table("labels")},
        "annotations": reader.table("annotations"),
        "ports": read_ports(reader, "ports"),
        "mounts": read_mounts(reader, around.volumes, around.directory),
        "secrets": _grants(reader, "secrets", "/run/secrets/"),
        "configs": _grants(reader, "configs", "/"),
        "devices": _devices(reader),
        "networks": _networks(reader),
        "extra_hosts": _extra_hosts(reader),
        "depends_on": _dependencies(reader),
        "healthcheck": _healthcheck(reader),
        "restart": _restart(reader, deploy),
        "stop_signal": _signal(reader),
        "stop_grace_period": _optional_duration(reader, "stop_grace_period"),
        "limits": _limits(reader, deploy),
        "ulimits": _ulimits(reader),
        "sysctls": reader.table("sysctls"),
        "shm_size": reader.size("shm_size"),
        "oom_score_adj": reader.integer("oom_score_adj"),
        "init": reader.boolean("init") if reader.has("init") else None,
        "logging": _logging(reader),
        "update": _update(deploy.sub("update_config")),
    }


def _build(reader: Reader, around: Surroundings) -> Build | None:
    if not reader.has("build"):
        return None
    value = reader.get("build")
    if not isinstance(value, Map):
        return Build(context=absolute(text(value), around.directory))
    build = reader.sub("build")
    args = {
        key: given if given is not None else around.variables.get(key)
        for key, given in build.optional_table("args").items()
    }
    return Build(
        context=absolute(build.text("context", "."), around.directory),
        dockerfile=build.text("dockerfile"),
        dockerfile_inline=build.text("dockerfile_inline"),
        args={key: given for key, given in args.items() if given is not None},
        target=build.text("target"),
        labels=build.table("labels"),
        tags=build.texts("tags"),
        no_cache=build.boolean("no_cache"),
        pull=build.boolean("pull"),
    )


def _scale(reader: Reader, deploy: Reader) -> int:
    for holder, key in ((reader, "scale"), (deploy, "replicas")):
        if holder.has(key):
            count = holder.integer(key)
            if count < 0:
                raise holder.error(key, "the number of replicas is negative")
            return count
    return 1


def _environment(reader: Reader, around: Surroundings) -> dict[str, str]:
    result: dict[str, str | None] = {}
    for path, required in _env_files(reader, around):
        try:
            result |= read_env_file(path, around.variables)
        except NotFound as error:
            if required:
                raise reader.error("env_file", error.message) from error
    own = reader.optional_table("environment")
    result |= {k: around.variables.get(k) if v is None else v for k, v in own.items()}
    # A name without a value anywhere is not set in the container at all.
    return {key: value for key, value in result.items() if value is not None}


def _env_files(reader: Reader, around: Surroundings) -> list[tuple[Path, bool]]:
    value = reader.get("env_file")
    items = value if isinstance(value, Seq) else [value] if value is not None else []
    result = []
    for item in items:
        entry = Reader(item, f"{reader.path}.env_file") if isinstance(item, Map) else None
        path = entry.text("path") if entry else text(item)
        required = entry.boolean("required", True) if entry else True
        result.append((Path(absolute(path, around.directory)), required))
    return result


def _label_files(reader: Reader, around: Surroundings) -> dict[str, str]:
    result: dict[str, str] = {}
    for item in reader.texts("label_file"):
        try:
            found = read_env_file(Path(absolute(item, around.directory)), {})
        except NotFound as error:
            raise reader.error("label_file", f"label file {item} not found") from error
        result |= {key: value or "" for key, value in found.items()}
    return result


def _grants(reader: Reader, key: str, below: str) -> list[Grant]:
    items = reader.get(key)
    result = []
    for index, item in enumerate(items if isinstance(items, Seq) else ()):
        if not isinstance(item, Map):
            result.append(Grant(source=text(item), target=f"{below}{item}"))
            continue
        entry = Reader(item, f"{reader.path}.{key}.{index}")
        source = entry.text("source")
        if not source:
            raise entry.error("", "the key 'source' is missing")
        target = entry.text("target", source)
        result.append(
            Grant(source=source, target=target if target.startswith("/") else f"{below}{target}")
        )
    return result


def _devices(reader: Reader) -> list[Device]:
    result = []
    items = reader.get("devices")
    for item in items if isinstance(items, Seq) else ():
        if isinstance(item, Map):
            entry = Reader(item, f"{reader.path}.devices")
            source = entry.text("source")
            parts = [source, entry.text("target", source), entry.text("permissions", "rwm")]
        else:
            parts = text(item).split(":")
        if not 1 <= len(parts) <= 3:
            raise reader.error("devices", f"'{item}' is not a device")
        target = parts[1] if len(parts) > 1 else parts[0]
        permissions = parts[2] if len(parts) > 2 else "rwm"
        result.append(Device(source=parts[0], target=target, permissions=permissions))
    return result


def _networks(reader: Reader) -> dict[str, Endpoint]:
    value = reader.get("networks")
    if value is not None and reader.has("network_mode"):
        raise reader.error("network_mode", "cannot be used together with 'networks'")
    if isinstance(value, Map):
        return {name: _endpoint(reader.sub("networks").sub(name)) for name in value}
    if isinstance(value, Seq):
        return {text(name): Endpoint() for name in value}
    return {} if reader.has("network_mode") else {"default": Endpoint()}


def _endpoint(reader: Reader) -> Endpoint:
    return Endpoint(
        aliases=reader.texts("aliases"),
        ipv4_address=reader.text("ipv4_address"),
        mac_address=reader.text("mac_address"),
    )


def _extra_hosts(reader: Reader) -> list[str]:
    value = reader.get("extra_hosts")
    if isinstance(value, Map):
        pairs = [
            (name, address)
            for name, given in value.items()
            for address in (given if isinstance(given, Seq) else [given])
        ]
        return [f"{name}:{address}" for name, address in pairs]
    result = []
    for item in reader.texts("extra_hosts"):
        name, separator, address = item.replace("=", ":", 1).partition(":")
        if not separator or not name or not address:
            raise reader.error("extra_hosts", f"'{item}' is not of the form name:address")
        result.append(f"{name}:{address.strip('[]')}")
    return result


def _dependencies(reader: Reader) -> dict[str, Dependency]:
    value = reader.get("depends_on")
    if isinstance(value, Seq):
        return {text(name): Dependency() for name in value}
    result = {}
    for name in value or ():
        entry = reader.sub("depends_on").sub(name)
        result[name] = Dependency(
            condition=cast(Condition, entry.text("condition")),
            restart=entry.boolean("restart"),
            required=entry.boolean("required", True),
        )
    return result


def _healthcheck(reader: Reader) -> Healthcheck | None:
    if not reader.has("healthcheck"):
        return None
    check = reader.sub("healthcheck")
    test = check.get("test")
    words = check.texts("test")
    if isinstance(test, str):
        words = ["CMD-SHELL", test]
    elif words and words[0] not in {"NONE", "CMD", "CMD-SHELL"}:
        raise check.error("test", "the first item must be NONE, CMD or CMD-SHELL")
    disable = check.boolean("disable") or words == ["NONE"]
    if disable and words and words != ["NONE"]:
        raise check.error("disable", "cannot be used together with 'test'")
    return Healthcheck(
        test=[] if disable else words,
        interval=check.duration("interval"),
        timeout=check.duration("timeout"),
        start_period=check.duration("start_period"),
        start_interval=check.duration("start_interval"),
        retries=check.integer("retries"),
        disable=disable,
    )


def _restart(reader: Reader, deploy: Reader) -> Restart:
    if reader.has("restart"):
        word = reader.text("restart")
        match = _RESTART.fullmatch(word)
        if not match:
            hint = "one of no, always, on-failure[:N], unless-stopped"
            raise reader.error("restart", f"'{word}' is not a restart policy", hint)
        return Restart(policy=word.partition(":")[0], attempts=int(match[1] or 0))  # type: ignore[arg-type]
    policy = deploy.sub("restart_policy")
    if not deploy.has("restart_policy"):
        return Restart()
    attempts = policy.integer("max_attempts")
    match policy.text("condition", "any"):
        case "none":
            return Restart()
        case "on-failure":
            return Restart(policy="on-failure", attempts=attempts)
        case "any":
            return Restart(policy="always")
        case other:
            hint = "one of none, on-failure, any"
            raise policy.error("condition", f"'{other}' is not a condition", hint)


def _signal(reader: Reader) -> str:
    word = reader.text("stop_signal")
    if word and not _SIGNAL.fullmatch(word):
        raise reader.error("stop_signal", f"'{word}' is not a signal", "write SIGTERM or 15")
    return word


def _optional_duration(reader: Reader, key: str) -> int | None:
    return reader.duration(key) if reader.has(key) else None


def _limits(reader: Reader, deploy: Reader) -> Limits:
    limits = deploy.sub("resources").sub("limits")
    reservations = deploy.sub("resources").sub("reservations")
    return Limits(
        cpus=limits.cpus("cpus", reader.cpus("cpus")),
        memory=limits.size("memory", reader.size("mem_limit")),
        memory_reservation=reservations.size("memory", reader.size("mem_reservation")),
        memory_swap=reader.size("memswap_limit"),
        pids=limits.integer("pids", reader.integer("pids_limit")),
        cpu_shares=reader.integer("cpu_shares"),
        cpu_quota=reader.integer("cpu_quota"),
        cpu_period=reader.integer("cpu_period"),
        cpuset=reader.text("cpuset"),
    )


def _ulimits(reader: Reader) -> dict[str, Ulimit]:
    result = {}
    ulimits = reader.sub("ulimits")
    for name, value in ulimits.tree.items():
        if isinstance(value, Map):
            pair = ulimits.sub(name)
            result[name] = Ulimit(soft=pair.integer("soft"), hard=pair.integer("hard"))
        else:
            both = ulimits.integer(name)
            result[name] = Ulimit(soft=both, hard=both)
    return result


def _logging(reader: Reader) -> Logging:
    logging = reader.sub("logging")
    return Logging(driver=logging.text("driver"), options=logging.table("options"))


def _update(reader: Reader) -> UpdateConfig:
    action = reader.text("failure_action", "pause")
    if action not in {"pause", "continue", "rollback"}:
        hint = "one of pause, continue, rollback"
        raise reader.error("failure_action", f"'{action}' is not an action", hint)
    return UpdateConfig(
        parallelism=integer(reader.get("parallelism") if reader.has("parallelism") else 1),
        delay=reader.duration("delay"),
        order=cast(Order, reader.text("order")),
        failure_action=action,  # type: ignore[arg-type]
        monitor=reader.duration("monitor"),
    )
