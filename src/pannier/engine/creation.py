"""``create``: from a request to a stored container with its own upper directory and volumes."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import msgspec

from pannier.base.errors import InvalidArgument, NotFound
from pannier.base.ids import check_name, new_id, random_name, short
from pannier.base.undo import AsyncUndoStack
from pannier.engine import mounts, resources, spec, unsupported
from pannier.engine.fill import fill_volume
from pannier.engine.ground import Ground
from pannier.engine.kinds.base import Kind
from pannier.engine.model import Container, MountPoint, Record, Root
from pannier.engine.starting import log_policy
from pannier.engine.users import resolve as resolve_user
from pannier.images.platform import check_platform
from pannier.images.store import Image
from pannier.oci.image import ContainerDefaults
from pannier.wire import containers as wire
from pannier.wire.signals import parse_signal

_LOG_DRIVERS = ("", "json-file", "local", "none")
_RESTART_POLICIES = ("", "no", "always", "unless-stopped", "on-failure")


class Creator:
    """Makes containers."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def create(self, name: str | None, body: wire.CreateBody) -> Container:
        """
        Raises:
            NotFound: ``No such image: x``.
            Conflict: the name is in use.
            Unsupported: the image is for another architecture or operating system.
            InvalidArgument: anything in the request that can be seen to be wrong now.
        """
        image = self._ground.images.get(body.image)
        check_platform(image.config)
        kind = self._kind(body.host_config.runtime)
        name = check_name(name) if name else self._free_name()
        self._ground.store.check_free(name)
        _check(body)
        container_id = new_id()
        async with AsyncUndoStack() as undo:
            record = self._record(container_id, name, kind, image, body)
            self._make_directories(record, undo)
            self._check_runnable(record, kind)
            record.id_base = self._id_base(record)
            undo.push(self._ground.ranges.release, container_id)
            await self._make_volumes(record, undo)
            self._check_still_there(record)
            container = self._ground.store.add(record)
            self._ground.volumes.settle(point.name for point in record.mounts)
            undo.commit()
        return container

    def make_root(self, image: Image, reference: str, generation: int) -> Root:
        layers = tuple(layer.id for layer in image.layers)
        return Root(image.id, reference, layers, generation, image.config.defaults)

    def make_upper(self, container_id: str, root: Root) -> None:
        """The directories of upper and work of one generation."""
        base = self._ground.instance.container_data(container_id) / str(root.generation)
        for part in ("upper", "work"):
            (base / part).mkdir(parents=True, exist_ok=True)
            # The upper's own mode is that of / inside.
            os.chmod(base / part, 0o755)

    def _kind(self, runtime: str) -> Kind:
        kind = self._ground.kinds.get(runtime or "app")
        if kind is None:
            raise InvalidArgument(
                f"unknown or invalid runtime name: {runtime}",
                hint=f"the kinds of containers are: {', '.join(self._ground.kinds)}",
            )
        return kind

    def _free_name(self) -> str:
        while True:
            name = random_name()
            if not any(container.name == name for container in self._ground.store):
                return name

    def _record(
        self, container_id: str, name: str, kind: Kind, image: Image, body: wire.CreateBody
    ) -> Record:
        defaults = image.config.defaults
        host = self._with_peers(body.host_config)
        record = Record(
            id=container_id,
            name=name,
            kind="os" if kind.name == "os" else "app",
            created_ns=time.time_ns(),
            config=_with_image_defaults(body.config(), defaults),
            host_config=host,
            networks=_networks(body),
            root=self.make_root(image, body.image, 0),
        )
        record.hostname = body.hostname or self._usual_hostname(record)
        return record

    def _usual_hostname(self, record: Record) -> str:
        host = record.host_config
        if "host" in (host.uts_mode, host.network_mode):
            return os.uname().nodename
        if host.network_mode.startswith("container:"):
            peer = host.network_mode.removeprefix("container:")
            return self._ground.store.get(peer).record.hostname
        return record.name if record.kind == "os" else short(record.id)

    def _with_peers(self, host: wire.HostConfig) -> wire.HostConfig:
        """Containers whose namespaces are joined, by their ids: names may change hands."""
        joined = {
            name: f"{spec.SHARED}{self._ground.store.get(mode.removeprefix(spec.SHARED)).id}"
            for name in ("network_mode", "pid_mode", "ipc_mode")
            if (mode := getattr(host, name)).startswith(spec.SHARED)
        }
        return msgspec.structs.replace(host, **joined)

    def _check_runnable(self, record: Record, kind: Kind) -> None:
        """Find now what would only fail at the start: no command, no init, an unknown user."""
        roots = self._ground.roots(record)
        plan = kind.process(record, record.root.defaults, roots)
        record.argv = plan.argv
        resolve_user(plan.user, record.host_config.group_add, roots)
        resources.device_rules(record.host_config)
        log_policy(Path(), record.host_config.log_config.config)

    def _check_still_there(self, record: Record) -> None:
        """Others may have removed them while volumes were filled."""
        self._ground.images.get(record.root.image_id)
        for point in record.mounts:
            if point.name:
                self._ground.volumes.get(point.name)

    def _id_base(self, record: Record) -> int:
        if spec.asks_for_host_ids(record):
            return 0
        bases = {self._ground.store.get(peer).record.id_base for peer in spec.peers(record)}
        if len(bases) > 1:
            raise InvalidArgument(
                "cannot join namespaces of containers whose user ids are mapped differently",
                hint="run all of them with --userns host",
            )
        if not bases:
            return self._ground.ranges.allocate(record.id)
        base = bases.pop()
        if base:
            self._ground.ranges.hold(record.id, base)
        return base

    def _make_directories(self, record: Record, undo: AsyncUndoStack) -> None:
        directory = self._ground.instance.container_data(record.id)
        directory.mkdir(mode=0o710)
        undo.push(shutil.rmtree, directory)
        self.make_upper(record.id, record.root)

    async def _make_volumes(self, record: Record, undo: AsyncUndoStack) -> None:
        before = {volume.name for volume in self._ground.volumes.list()}
        try:
            record.mounts = mounts.resolve(
                record.config,
                record.host_config,
                record.root.defaults,
                self._ground.volumes,
                self._ground.store.get,
            )
        finally:
            for volume in self._ground.volumes.list():
                if volume.name not in before:
                    undo.push(self._ground.volumes.remove, volume.name, force=True)
        for point in record.mounts:
            await self._fill(point, record)

    async def _fill(self, point: MountPoint, record: Record) -> None:
        if point.type != "volume" or point.subpath:
            return
        volume = self._ground.volumes.get(point.name)
        if volume.filled or _no_copy(record.host_config, point.destination):
            return
        roots, tmp = self._ground.roots(record), self._ground.instance.tmp
        await self._ground.volumes.fill(
            volume, lambda: fill_volume(roots, point.destination, point.source, tmp)
        )


def _check(body: wire.CreateBody) -> None:
    host = body.host_config
    resources.check(host)
    unsupported.check(host)
    resources.rlimits(host)
    check_restart_policy(host)
    if body.working_dir and not body.working_dir.startswith("/"):
        raise InvalidArgument(
            f"the working directory '{body.working_dir}' is invalid, it needs to be an absolute "
            "path"
        )
    if body.stop_signal:
        parse_signal(body.stop_signal)
    if (driver := host.log_config.type) not in _LOG_DRIVERS:
        raise InvalidArgument(
            f"logger: no log driver named '{driver}' is registered",
            hint=f"known are {', '.join(_LOG_DRIVERS[1:])}",
        )
    for device in host.devices:
        if not os.path.exists(device.path_on_host):
            raise NotFound(
                f"error gathering device information while adding custom device "
                f'"{device.path_on_host}": no such file or directory'
            )


def check_restart_policy(host: wire.HostConfig) -> None:
    """
    Raises:
        InvalidArgument: Docker's wording.
    """
    if host.restart_policy.name not in _RESTART_POLICIES:
        raise InvalidArgument(
            f"invalid restart policy: unknown policy '{host.restart_policy.name}'"
        )
    if host.restart_policy.maximum_retry_count and host.restart_policy.name != "on-failure":
        raise InvalidArgument(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        )
    if host.auto_remove and host.restart_policy.name not in {"", "no"}:
        raise InvalidArgument("can't create 'AutoRemove' container with restart policy")


def _with_image_defaults(
    config: wire.ContainerConfig, defaults: ContainerDefaults
) -> wire.ContainerConfig:
    """What ``inspect`` shows: the image's labels, ports, signal and check where none were given."""
    check = config.healthcheck
    if (check is None or not check.test) and defaults.healthcheck:
        inherited = msgspec.convert(msgspec.to_builtins(defaults.healthcheck), wire.Healthcheck)
        given = {
            name: value
            for name in ("interval", "timeout", "start_period", "start_interval", "retries")
            if check is not None and (value := getattr(check, name))
        }
        check = msgspec.structs.replace(inherited, **given)
    return msgspec.structs.replace(
        config,
        labels={**(defaults.labels or {}), **config.labels},
        exposed_ports={**(defaults.exposed_ports or {}), **config.exposed_ports},
        stop_signal=config.stop_signal or defaults.stop_signal,
        healthcheck=check,
    )


def _networks(body: wire.CreateBody) -> dict[str, wire.EndpointSettings]:
    mode = body.host_config.network_mode
    if body.network_disabled or mode in {"none", "host"} or mode.startswith("container:"):
        return {}
    primary = "bridge" if mode in {"", "default", "bridge"} else mode
    given = body.networking_config.endpoints_config
    networks = {primary: given.get(mode) or given.get(primary) or wire.EndpointSettings()}
    for name, settings in given.items():
        networks.setdefault("bridge" if name == "default" else name, settings)
    return networks


def _no_copy(host: wire.HostConfig, destination: str) -> bool:
    for mount in host.mounts:
        if mount.target == destination and mount.volume_options:
            return mount.volume_options.no_copy
    return any(
        bind.split(":")[1:2] == [destination] and "nocopy" in bind.split(":")[-1].split(",")
        for bind in host.binds
    )
