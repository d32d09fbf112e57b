"""A service -> the request that creates one of its containers, and the like for its objects.

Pure translation between two data models: ``compose.model`` and ``wire``.  What the values mean is
the engine's matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pannier.compose import model
from pannier.stack import labels
from pannier.wire import containers as wire
from pannier.wire.networks import IPAM, IPAMConfig, NetworkCreate
from pannier.wire.volumes import VolumeCreate

_SECOND = 10**9


@dataclass(frozen=True, slots=True)
class Facts:
    """What a container's request needs to know beyond its service.

    Args:
        image: reference or id to run.
        marks: further labels (config hash, image).
        peers: container id by service, for shared namespaces.
        files: host path by ``secrets/KEY`` and ``configs/KEY``.
        kept: anonymous volume by target, taken over from the container that is replaced.
    """

    image: str
    marks: Mapping[str, str] = field(default_factory=dict)
    peers: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)


def container_body(project: model.Project, name: str, number: int, facts: Facts) -> wire.CreateBody:
    """The request for replica *number* of service *name*."""
    service = project.services[name]
    own = {**service.labels, **_marks(project, name, number), **facts.marks}
    return wire.CreateBody(
        image=facts.image,
        hostname=service.hostname,
        domainname=service.domainname,
        user=service.user,
        tty=service.tty,
        open_stdin=service.stdin_open,
        env=[f"{key}={value}" for key, value in service.environment.items()],
        cmd=service.command,
        entrypoint=service.entrypoint,
        working_dir=service.working_dir,
        labels=own,
        exposed_ports=_exposed(service),
        healthcheck=_healthcheck(service.healthcheck),
        stop_signal=service.stop_signal,
        stop_timeout=_whole_seconds(service.stop_grace_period),
        host_config=_host_config(project, service, facts),
        networking_config=_networking(project, name, service),
    )


def network_body(project: model.Project, key: str) -> NetworkCreate:
    """The request for one network of the project."""
    network = project.networks[key]
    pools = [
        IPAMConfig(subnet=s.subnet, gateway=s.gateway, ip_range=s.ip_range) for s in network.subnets
    ]
    return NetworkCreate(
        name=network.name,
        driver=network.driver,
        internal=network.internal,
        attachable=network.attachable,
        options=network.options,
        ipam=IPAM(config=pools),
        labels={**network.labels, **_object_marks(project), labels.NETWORK: key},
    )


def volume_body(project: model.Project, key: str) -> VolumeCreate:
    """The request for one named volume of the project."""
    volume = project.volumes[key]
    return VolumeCreate(
        name=volume.name,
        driver=volume.driver,
        driver_opts=volume.options,
        labels={**volume.labels, **_object_marks(project), labels.VOLUME: key},
    )


def _object_marks(project: model.Project) -> dict[str, str]:
    return {labels.PROJECT: project.name, labels.VERSION: labels.VERSION_VALUE}


def _marks(project: model.Project, name: str, number: int) -> dict[str, str]:
    needs = project.services[name].depends_on
    return {
        **_object_marks(project),
        labels.SERVICE: name,
        labels.NUMBER: str(number),
        labels.ONEOFF: "False",
        labels.DIRECTORY: project.directory,
        labels.FILES: ",".join(project.files),
        labels.DEPENDS_ON: ",".join(
            f"{other}:{need.condition}:{str(need.restart).lower()}" for other, need in needs.items()
        ),
    }


def _exposed(service: model.Service) -> dict[str, dict[str, object]]:
    ports = [f"{port.target}/{port.protocol}" for port in service.ports]
    ports += [port if "/" in port else f"{port}/tcp" for port in service.expose]
    return {port: {} for port in ports}


def _healthcheck(check: model.Healthcheck | None) -> wire.Healthcheck | None:
    if check is None:
        return None
    return wire.Healthcheck(
        test=["NONE"] if check.disable else check.test,
        interval=check.interval,
        timeout=check.timeout,
        start_period=check.start_period,
        start_interval=check.start_interval,
        retries=check.retries,
    )


def _whole_seconds(duration: int | None) -> int | None:
    return None if duration is None else -(-duration // _SECOND)


def _host_config(
    project: model.Project,
    service: model.Service,
    facts: Facts,
) -> wire.HostConfig:
    return wire.HostConfig(
        runtime=service.runtime,
        network_mode=_network_mode(project, service, facts.peers),
        port_bindings=_port_bindings(service),
        restart_policy=wire.RestartPolicy(
            name=service.restart.policy, maximum_retry_count=service.restart.attempts
        ),
        mounts=_mounts(project, service, facts),
        **_resources(service),
        log_config=wire.LogConfig(type=service.logging.driver, config=service.logging.options),
        annotations=service.annotations,
        cap_add=service.cap_add,
        cap_drop=service.cap_drop,
        dns=service.dns,
        dns_options=service.dns_opt,
        dns_search=service.dns_search,
        extra_hosts=service.extra_hosts,
        group_add=service.group_add,
        ipc_mode=_shared(service.ipc, facts.peers),
        pid_mode=_shared(service.pid, facts.peers),
        uts_mode=service.uts,
        userns_mode=service.userns_mode,
        oom_score_adj=service.oom_score_adj,
        privileged=service.privileged,
        readonly_rootfs=service.read_only,
        security_opt=service.security_opt,
        shm_size=service.shm_size,
        sysctls=service.sysctls,
        init=service.init,
    )


def _resources(service: model.Service) -> dict[str, Any]:
    limits = service.limits
    return {
        "nano_cpus": limits.cpus,
        "memory": limits.memory,
        "memory_reservation": limits.memory_reservation,
        "memory_swap": limits.memory_swap,
        "pids_limit": limits.pids or None,
        "cpu_shares": limits.cpu_shares,
        "cpu_quota": limits.cpu_quota,
        "cpu_period": limits.cpu_period,
        "cpuset_cpus": limits.cpuset,
        "ulimits": [
            wire.Ulimit(name=name, soft=limit.soft, hard=limit.hard)
            for name, limit in service.ulimits.items()
        ],
        "devices": [
            wire.DeviceMapping(
                path_on_host=device.source,
                path_in_container=device.target,
                cgroup_permissions=device.permissions,
            )
            for device in service.devices
        ],
    }


def _shared(mode: str, peers: Mapping[str, str]) -> str:
    """``service:db`` names a service; the engine knows only ``container:<id>``."""
    kind, _, name = mode.partition(":")
    return f"container:{peers[name]}" if kind == "service" else mode


def _network_mode(project: model.Project, service: model.Service, peers: Mapping[str, str]) -> str:
    if service.network_mode:
        return _shared(service.network_mode, peers)
    first = next(iter(service.networks), None)
    return project.networks[first].name if first else "none"


def _networking(project: model.Project, name: str, service: model.Service) -> wire.NetworkingConfig:
    endpoints = {
        project.networks[key].name: wire.EndpointSettings(
            aliases=list(dict.fromkeys([name, *endpoint.aliases])),
            mac_address=endpoint.mac_address or service.mac_address,
            ipam_config=wire.EndpointIPAMConfig(ipv4_address=endpoint.ipv4_address)
            if endpoint.ipv4_address
            else None,
        )
        for key, endpoint in service.networks.items()
    }
    return wire.NetworkingConfig(endpoints_config=endpoints)


def _port_bindings(service: model.Service) -> dict[str, list[wire.PortBinding]]:
    result: dict[str, list[wire.PortBinding]] = {}
    for port in service.ports:
        binding = wire.PortBinding(host_ip=port.host_ip, host_port=port.published)
        result.setdefault(f"{port.target}/{port.protocol}", []).append(binding)
    return result


def _mounts(project: model.Project, service: model.Service, facts: Facts) -> list[wire.Mount]:
    mounts = [_mount(project, mount, facts.kept) for mount in service.mounts]
    for kind in ("secrets", "configs"):
        for grant in getattr(service, kind):
            source = facts.files[f"{kind}/{grant.source}"]
            mounts.append(
                wire.Mount(type="bind", source=source, target=grant.target, read_only=True)
            )
    taken = {mount.target for mount in mounts}
    mounts += [
        wire.Mount(type="volume", source=volume, target=target)
        for target, volume in facts.kept.items()
        if target not in taken
    ]
    return mounts


def _mount(project: model.Project, mount: model.Mount, kept: Mapping[str, str]) -> wire.Mount:
    match mount.type:
        case "bind":
            options = wire.BindOptions(
                propagation=mount.propagation, create_mountpoint=mount.create_host_path
            )
            return wire.Mount(
                type="bind",
                source=mount.source,
                target=mount.target,
                read_only=mount.read_only,
                bind_options=options,
            )
        case "tmpfs":
            return wire.Mount(
                type="tmpfs",
                target=mount.target,
                read_only=mount.read_only,
                tmpfs_options=wire.TmpfsOptions(size_bytes=mount.size, mode=mount.mode),
            )
        case "volume":
            named = project.volumes[mount.source].name if mount.source else ""
            return wire.Mount(
                type="volume",
                source=named or kept.get(mount.target, ""),
                target=mount.target,
                read_only=mount.read_only,
                volume_options=wire.VolumeOptions(no_copy=mount.nocopy, subpath=mount.subpath),
            )
