"""The flags of run and create whose values need parsing; see `cli.run_body` for the plain ones."""

from __future__ import annotations

import os

from pannier.base.errors import InvalidArgument, NotFound
from pannier.base.units import parse_duration, parse_size
from pannier.cli import specs
from pannier.cli.run_body import environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    Body: TypeAlias = dict[str, Any]

_SIZES = {
    "memory": "Memory",
    "memory-reservation": "MemoryReservation",
    "memory-swap": "MemorySwap",
    "shm-size": "ShmSize",
}
_MAPS = {"annotation": "Annotations", "storage-opt": "StorageOpt", "sysctl": "Sysctls"}
_THROTTLES = {
    "device-read-bps": "BlkioDeviceReadBps",
    "device-read-iops": "BlkioDeviceReadIOps",
    "device-write-bps": "BlkioDeviceWriteBps",
    "device-write-iops": "BlkioDeviceWriteIOps",
}
_HEALTH_TIMES = {
    "health-interval": "Interval",
    "health-start-interval": "StartInterval",
    "health-start-period": "StartPeriod",
    "health-timeout": "Timeout",
}
_NETWORK_FLAGS = ("network-alias", "ip", "ip6", "link-local-ip")
_CA_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
_CA_INSIDE = "/run/pannier/ca.crt"
# Which program reads which: openssl, curl, pip and requests, npm, git.
_CA_VARIABLES = (
    "SSL_CERT_FILE", "CURL_CA_BUNDLE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
)  # fmt: skip


def apply(config: Body, values: Body) -> None:
    """Put *values* (by flag name) into a create body.

    Raises:
        InvalidArgument: a value that cannot be understood.
    """
    host = config["HostConfig"]
    for flag in ("net", "net-alias"):
        if flag in values:
            values.setdefault(flag.replace("net", "network", 1), []).extend(values.pop(flag))
    health = {name: values.pop(name) for name in list(values) if "health" in name}
    if health:
        config["Healthcheck"] = _healthcheck(health)
    if "network" in values or any(name in values for name in _NETWORK_FLAGS):
        _networks(config, values)
    for name, value in values.items():
        if name in _SIZES:
            host[_SIZES[name]] = -1 if value == "-1" else parse_size(value)
        elif name in _MAPS:
            host[_MAPS[name]] = pairs(value)
        elif name in _THROTTLES:
            host[_THROTTLES[name]] = [
                specs.throttle(item, size=name.endswith("bps")) for item in value
            ]
        elif name in _HANDLERS:
            _HANDLERS[name](config, value)


def pairs(items: list[str]) -> dict[str, str]:
    """``a=b`` -> {a: b}; a key alone has an empty value."""
    return {key: value for key, _, value in (item.partition("=") for item in items)}


def read_list(path: str) -> list[str]:
    """Lines of a file of variables or labels, without comments and empty lines.

    Raises:
        NotFound: no such file.
    """
    try:
        with open(path, encoding="utf-8-sig") as stream:
            lines = [line.strip() for line in stream]
    except FileNotFoundError:
        raise NotFound(f"open {path}: no such file or directory") from None
    return [line for line in lines if line and not line.startswith("#")]


def restart_policy(text: str) -> Body:
    """``on-failure:3``."""
    name, _, count = text.partition(":")
    if count and (name != "on-failure" or not count.isdigit()):
        raise InvalidArgument(
            f"invalid restart policy format: {text}",
            hint="no, always, unless-stopped or on-failure[:TIMES]",
        )
    return {"Name": name, "MaximumRetryCount": int(count or 0)}


def nano_cpus(text: str) -> int:
    """``1.5`` -> 1500000000."""
    try:
        return round(float(text) * 10**9)
    except ValueError:
        raise InvalidArgument(
            f'invalid argument "{text}" for "--cpus" flag: not a number'
        ) from None


def _healthcheck(values: Body) -> Body:
    if values.get("no-healthcheck"):
        if len(values) > 1:
            raise InvalidArgument("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    out: Body = {}
    if "health-cmd" in values:
        out["Test"] = ["CMD-SHELL", values["health-cmd"]]
    if "health-retries" in values:
        out["Retries"] = values["health-retries"]
    for name, key in _HEALTH_TIMES.items():
        if name in values:
            out[key] = parse_duration(values[name])
    return out


def _networks(config: Body, values: Body) -> None:
    endpoints: Body = {}
    first = ""
    for spec in values.get("network", []):
        name, endpoint = _network(spec)
        first = first or name
        endpoints[name] = endpoint
    name = first or "default"
    endpoint = endpoints.setdefault(name, {})
    if "network-alias" in values:
        endpoint.setdefault("Aliases", []).extend(values["network-alias"])
    addresses = {
        "IPv4Address": values.get("ip"),
        "IPv6Address": values.get("ip6"),
        "LinkLocalIPs": values.get("link-local-ip"),
    }
    addresses = {key: value for key, value in addresses.items() if value}
    if addresses:
        endpoint.setdefault("IPAMConfig", {}).update(addresses)
    config["HostConfig"]["NetworkMode"] = name
    if len(endpoints) > 1 or endpoint:
        config["NetworkingConfig"] = {"EndpointsConfig": endpoints}


def _network(spec: str) -> tuple[str, Body]:
    """``NAME`` or ``name=NAME,alias=A,ip=I,mac-address=M,driver-opt=K=V``."""
    if "=" not in spec:
        return spec, {}
    name = ""
    out: Body = {}
    for item in spec.split(","):
        key, _, value = item.partition("=")
        if key == "name":
            name = value
        elif key == "alias":
            out.setdefault("Aliases", []).append(value)
        elif key in {"ip", "ip6"}:
            address = "IPv4Address" if key == "ip" else "IPv6Address"
            out.setdefault("IPAMConfig", {})[address] = value
        elif key == "mac-address":
            out["MacAddress"] = value
        elif key == "driver-opt":
            out.setdefault("DriverOpts", {}).update(pairs([value]))
        elif key == "gw-priority":
            out["GwPriority"] = int(value)
        else:
            raise InvalidArgument(f"invalid field {key} in --network {spec}")
    if not name:
        raise InvalidArgument(f"network name is missing in --network {spec}")
    return name, out


def _publish(config: Body, value: list[str]) -> None:
    exposed, bindings = specs.ports(value)
    config.setdefault("ExposedPorts", {}).update(exposed)
    config["HostConfig"]["PortBindings"] = bindings


def _volume(config: Body, value: list[str]) -> None:
    binds, anonymous = specs.volumes(value)
    config["HostConfig"].setdefault("Binds", []).extend(binds)
    if anonymous:
        config["Volumes"] = anonymous


def _env_file(config: Body, value: list[str]) -> None:
    lines = [line for path in value for line in read_list(path)]
    config["Env"] = environment(lines) + config.get("Env", [])


def _label_file(config: Body, value: list[str]) -> None:
    labels = pairs([line for path in value for line in read_list(path)])
    config["Labels"] = labels | config.get("Labels", {})


def _log_options(config: Body, value: list[str]) -> None:
    config["HostConfig"].setdefault("LogConfig", {})["Config"] = pairs(value)


def _ulimits(config: Body, value: list[str]) -> None:
    out = []
    for item in value:
        name, _, limits = item.partition("=")
        soft, _, hard = limits.partition(":")
        try:
            out.append({"Name": name, "Soft": int(soft), "Hard": int(hard or soft)})
        except ValueError:
            raise InvalidArgument(
                f"invalid ulimit argument: {item}", hint="--ulimit nofile=1024:4096"
            ) from None
    config["HostConfig"]["Ulimits"] = out


def _security(config: Body, value: list[str]) -> None:
    """A seccomp profile is a file of the caller's, so its text is sent."""
    out = []
    for item in value:
        key, separator, rest = item.partition("=")
        if not separator:
            key, separator, rest = item.partition(":")
        if key == "seccomp" and rest not in {"unconfined", "builtin", ""}:
            try:
                with open(rest, encoding="utf-8") as stream:
                    rest = stream.read()
            except OSError as error:
                raise InvalidArgument(
                    f"opening seccomp profile ({rest}) failed: {error.strerror}"
                ) from error
        out.append(f"{key}={rest}" if separator else item)
    config["HostConfig"]["SecurityOpt"] = out


def _tmpfs(config: Body, value: list[str]) -> None:
    mounts = (item.partition(":") for item in value)
    config["HostConfig"]["Tmpfs"] = {path: options for path, _, options in mounts}


def _hosts(config: Body, value: list[str]) -> None:
    lines = []
    for item in value:
        name, separator, address = item.partition("=" if "=" in item else ":")
        if not (name and separator and address):
            raise InvalidArgument(f"bad format for add-host: '{item}'", hint="--add-host NAME:IP")
        lines.append(f"{name}:{address}")
    config["HostConfig"]["ExtraHosts"] = lines


def _host_ca(config: Body, value: bool) -> None:
    """The host's bundle, read-only, and the variables that common programs look at."""
    if not value:
        return
    bundle = next((path for path in _CA_BUNDLES if os.path.exists(path)), None)
    if bundle is None:
        raise NotFound(
            "--host-ca: this host has no bundle of certificate authorities",
            hint="install the package ca-certificates",
        )
    config["HostConfig"].setdefault("Binds", []).append(f"{bundle}:{_CA_INSIDE}:ro")
    config["Env"] = [f"{name}={_CA_INSIDE}" for name in _CA_VARIABLES] + config.get("Env", [])


def _set_host(key: str, convert: Callable[[Any], Any]) -> Callable[[Body, Any], None]:
    def put(config: Body, value: Any) -> None:
        config["HostConfig"][key] = convert(value)

    return put


_HANDLERS: dict[str, Callable[[Body, Any], None]] = {
    "add-host": _hosts,
    "cpus": _set_host("NanoCpus", nano_cpus),
    "device": _set_host("Devices", lambda items: [specs.device(item) for item in items]),
    "env-file": _env_file,
    "expose": lambda config, value: config.setdefault("ExposedPorts", {}).update(
        specs.exposed_ports(value)
    ),
    "host-ca": _host_ca,
    "label": lambda config, value: config.setdefault("Labels", {}).update(pairs(value)),
    "label-file": _label_file,
    "log-driver": lambda config, value: (
        config["HostConfig"].setdefault("LogConfig", {}).update(Type=value)
    ),
    "log-opt": _log_options,
    "mount": _set_host("Mounts", lambda items: [specs.mount(item) for item in items]),
    "publish": _publish,
    "restart": _set_host("RestartPolicy", restart_policy),
    "security-opt": _security,
    "tmpfs": _tmpfs,
    "ulimit": _ulimits,
    "volume": _volume,
}
