"""Containers on the wire: what to run (`ContainerConfig`), how this host runs it (`HostConfig`).

Names and meanings: Docker Engine API v1.50, definitions ContainerConfig, HostConfig, Resources,
EndpointSettings, Mount.  Attributes are snake_case, keys are Docker's.  Sizes are bytes, intervals
nanoseconds, timeouts seconds.  Answers built from live state are in `wire.states`.
"""

from __future__ import annotations

from typing import Any

from msgspec import field

from pannier.wire.codec import Body


class Healthcheck(Body, frozen=True):
    """``Test`` is [] (inherit), ["NONE"], ["CMD", arg...] or ["CMD-SHELL", command]."""

    test: list[str] = []
    interval: int = 0  # ns; 0 = 30 s
    timeout: int = 0  # ns; 0 = 30 s
    start_period: int = 0  # ns
    start_interval: int = 0  # ns; 0 = 5 s
    retries: int = 0  # 0 = 3


class ContainerConfig(Body, frozen=True):
    """The part of a container that an image can give defaults for.

    ``cmd`` and ``entrypoint`` are None when the image's are meant; ``entrypoint`` of [] or [""]
    removes the image's.
    """

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, dict[str, Any]] = {}
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] = []
    cmd: list[str] | None = None
    healthcheck: Healthcheck | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: dict[str, dict[str, Any]] = {}
    working_dir: str = ""
    entrypoint: list[str] | None = None
    network_disabled: bool = False
    mac_address: str = ""
    on_build: list[str] = []
    labels: dict[str, str] = {}
    stop_signal: str = ""
    stop_timeout: int | None = None  # seconds
    shell: list[str] | None = None


class RestartPolicy(Body, frozen=True):
    """``Name`` is "", "no", "always", "unless-stopped" or "on-failure"."""

    name: str = ""
    maximum_retry_count: int = 0


class PortBinding(Body, frozen=True):
    """One address and port of the host; ``host_port`` may be "", "8080" or "8000-8010"."""

    host_ip: str = ""
    host_port: str = ""


class LogConfig(Body, frozen=True):
    type: str = ""
    config: dict[str, str] = {}


class DeviceMapping(Body, frozen=True):
    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class DeviceRequest(Body, frozen=True):
    driver: str = ""
    count: int = 0
    device_ids: list[str] = field(name="DeviceIDs", default_factory=list)
    capabilities: list[list[str]] = []
    options: dict[str, str] = {}


class Ulimit(Body, frozen=True):
    name: str = ""
    soft: int = 0
    hard: int = 0


class WeightDevice(Body, frozen=True):
    path: str = ""
    weight: int = 0


class ThrottleDevice(Body, frozen=True):
    path: str = ""
    rate: int = 0


class BindOptions(Body, frozen=True):
    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class DriverConfig(Body, frozen=True):
    name: str = ""
    options: dict[str, str] = {}


class VolumeOptions(Body, frozen=True):
    no_copy: bool = False
    labels: dict[str, str] = {}
    driver_config: DriverConfig | None = None
    subpath: str = ""


class ImageOptions(Body, frozen=True):
    subpath: str = ""


class TmpfsOptions(Body, frozen=True):
    size_bytes: int = 0
    mode: int = 0
    options: list[list[str]] = []


class Mount(Body, frozen=True):
    """``type`` is "bind", "volume", "tmpfs", "image", "npipe" or "cluster"."""

    target: str = ""
    source: str = ""
    type: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    image_options: ImageOptions | None = None
    tmpfs_options: TmpfsOptions | None = None


class Resources(Body, frozen=True):
    """Limits of a container; 0, "" and None mean "no limit" (in an update: "as it is")."""

    cpu_shares: int = 0
    memory: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    blkio_weight_device: list[WeightDevice] = []
    blkio_device_read_bps: list[ThrottleDevice] = []
    blkio_device_write_bps: list[ThrottleDevice] = []
    blkio_device_read_iops: list[ThrottleDevice] = field(
        name="BlkioDeviceReadIOps", default_factory=list
    )
    blkio_device_write_iops: list[ThrottleDevice] = field(
        name="BlkioDeviceWriteIOps", default_factory=list
    )
    cpu_period: int = 0  # us
    cpu_quota: int = 0  # us
    cpu_realtime_period: int = 0  # us
    cpu_realtime_runtime: int = 0  # us
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[DeviceMapping] = []
    device_cgroup_rules: list[str] = []
    device_requests: list[DeviceRequest] = []
    kernel_memory: int = 0
    kernel_memory_tcp: int = field(name="KernelMemoryTCP", default=0)
    memory_reservation: int = 0
    memory_swap: int = 0  # memory + swap; -1 = unlimited swap
    memory_swappiness: int | None = None
    nano_cpus: int = 0  # 10^-9 CPUs
    oom_kill_disable: bool | None = None
    pids_limit: int | None = None  # 0 and -1 = unlimited
    ulimits: list[Ulimit] = []
    cpu_count: int = 0
    cpu_percent: int = 0
    io_maximum_iops: int = field(name="IOMaximumIOps", default=0)
    io_maximum_bandwidth: int = field(name="IOMaximumBandwidth", default=0)


class HostConfig(Resources, frozen=True):
    """How this host runs the container; ``runtime`` "" or "app" or "os" chooses the kind."""

    binds: list[str] = []  # source:target[:options]
    container_id_file: str = field(name="ContainerIDFile", default="")
    log_config: LogConfig = LogConfig()
    network_mode: str = ""  # "" and "default" are the default bridge
    port_bindings: dict[str, list[PortBinding]] = {}  # "80/tcp" -> where on the host
    restart_policy: RestartPolicy = RestartPolicy()
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: list[str] = []
    mounts: list[Mount] = []
    console_size: tuple[int, int] = (0, 0)  # rows, columns
    annotations: dict[str, str] = {}
    cap_add: list[str] = []
    cap_drop: list[str] = []
    cgroupns_mode: str = ""
    dns: list[str] = []
    dns_options: list[str] = []
    dns_search: list[str] = []
    extra_hosts: list[str] = []  # name:address; address may be "host-gateway"
    group_add: list[str] = []
    ipc_mode: str = ""
    cgroup: str = ""
    links: list[str] = []
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] = []
    storage_opt: dict[str, str] = {}
    tmpfs: dict[str, str] = {}  # target -> mount options
    uts_mode: str = field(name="UTSMode", default="")
    userns_mode: str = ""  # "host" = the host's user namespace
    shm_size: int = 0  # bytes; 0 = 64 MiB
    sysctls: dict[str, str] = {}
    runtime: str = ""
    isolation: str = ""
    masked_paths: list[str] | None = None  # None = the defaults, [] = none
    readonly_paths: list[str] | None = None
    init: bool | None = None


class EndpointIPAMConfig(Body, frozen=True):
    ipv4_address: str = field(name="IPv4Address", default="")
    ipv6_address: str = field(name="IPv6Address", default="")
    link_local_ips: list[str] = field(name="LinkLocalIPs", default_factory=list)


class EndpointSettings(Body, frozen=True):
    """One container on one network: wishes in a request, facts in an answer."""

    ipam_config: EndpointIPAMConfig | None = field(name="IPAMConfig", default=None)
    links: list[str] = []
    aliases: list[str] = []
    mac_address: str = ""
    driver_opts: dict[str, str] = {}
    gw_priority: int = 0
    network_id: str = field(name="NetworkID", default="")
    endpoint_id: str = field(name="EndpointID", default="")
    gateway: str = ""
    ip_address: str = field(name="IPAddress", default="")
    ip_prefix_len: int = field(name="IPPrefixLen", default=0)
    ipv6_gateway: str = field(name="IPv6Gateway", default="")
    global_ipv6_address: str = field(name="GlobalIPv6Address", default="")
    global_ipv6_prefix_len: int = field(name="GlobalIPv6PrefixLen", default=0)
    dns_names: list[str] = field(name="DNSNames", default_factory=list)


class NetworkingConfig(Body, frozen=True):
    endpoints_config: dict[str, EndpointSettings] = {}


class CreateBody(ContainerConfig, frozen=True):
    """``POST /containers/create``."""

    host_config: HostConfig = HostConfig()
    networking_config: NetworkingConfig = NetworkingConfig()

    def config(self) -> ContainerConfig:
        """The image-like part alone, as it is stored and inspected."""
        return ContainerConfig(
            **{name: getattr(self, name) for name in ContainerConfig.__struct_fields__}
        )


class UpdateBody(Resources, frozen=True):
    """``POST /containers/{id}/update``: what is 0, "" or None stays as it is."""

    restart_policy: RestartPolicy | None = None


class ReplaceImage(Body, frozen=True):
    """``POST /pannier/containers/{id}/image``."""

    image: str


class ExecConfig(Body, frozen=True):
    """``POST /containers/{id}/exec``."""

    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    console_size: tuple[int, int] | None = None  # rows, columns
    detach_keys: str = ""
    tty: bool = False
    env: list[str] = []
    cmd: list[str] = []
    privileged: bool = False
    user: str = ""
    working_dir: str = ""


class ExecStart(Body, frozen=True):
    """``POST /exec/{id}/start``."""

    detach: bool = False
    tty: bool = False
    console_size: tuple[int, int] | None = None  # rows, columns


class CommitConfig(ContainerConfig, frozen=True):
    """``POST /commit``: the body is a container config that overrides the container's."""


class RunAttach(Body, frozen=True):
    """Which streams of `RunBody` the caller wants on the connection."""

    stdin: bool = field(name="stdin", default=False)
    stdout: bool = field(name="stdout", default=True)
    stderr: bool = field(name="stderr", default=True)


class RunBody(Body, frozen=True, kw_only=True):
    """``POST /pannier/run``: create, attach, start and wait in one request.

    ``detach_keys`` as in attach; the caller's terminal size goes into ``HostConfig.ConsoleSize``.
    """

    name: str = ""
    body: CreateBody
    attach: RunAttach = RunAttach()
    detach_keys: str = ""
