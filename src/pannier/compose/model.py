"""A compose project, resolved: every short form written out, every path absolute, plain data.

This is what the CLI sends and the engine keeps.  Sizes are bytes, durations nanoseconds.  How a
file becomes a project is in `load`; what is done with it is the business of ``pannier.stack``.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from pannier.base.errors import InvalidArgument

Condition: TypeAlias = Literal[
    "service_started", "service_healthy", "service_completed_successfully"
]
Order: TypeAlias = Literal["start-first", "stop-first"]


class _Data(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base: immutable, defaults left out of JSON, so that new keys keep old hashes stable."""


class Build(_Data, frozen=True):
    """How the image of a service is made; ``context`` is an absolute path on the caller's side."""

    context: str
    dockerfile: str = ""
    dockerfile_inline: str = ""
    args: dict[str, str] = {}
    target: str = ""
    labels: dict[str, str] = {}
    tags: list[str] = []
    no_cache: bool = False
    pull: bool = False


class Port(_Data, frozen=True):
    """A published port; an empty ``published`` lets the engine choose."""

    target: int
    published: str = ""
    protocol: str = "tcp"
    host_ip: str = ""


class Mount(_Data, frozen=True):
    """A volume (``source`` is a key of the project's volumes), a bind or a tmpfs."""

    type: Literal["bind", "volume", "tmpfs"]
    target: str
    source: str = ""
    read_only: bool = False
    create_host_path: bool = False
    propagation: str = ""
    nocopy: bool = False
    subpath: str = ""
    size: int = 0  # bytes, of a tmpfs
    mode: int = 0  # of a tmpfs


class Endpoint(_Data, frozen=True):
    """A service on a network."""

    aliases: list[str] = []
    ipv4_address: str = ""
    mac_address: str = ""


class Dependency(_Data, frozen=True):
    condition: Condition = "service_started"
    restart: bool = False
    required: bool = True


class Healthcheck(_Data, frozen=True):
    """``test`` starts with CMD or CMD-SHELL, or is [] to keep the image's."""

    test: list[str] = []
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0
    disable: bool = False


class Limits(_Data, frozen=True):
    """Resources; 0 is no limit.  ``cpus`` in 10^-9 CPUs, memory in bytes."""

    cpus: int = 0
    memory: int = 0
    memory_reservation: int = 0
    memory_swap: int = 0
    pids: int = 0
    cpu_shares: int = 0
    cpu_quota: int = 0
    cpu_period: int = 0
    cpuset: str = ""


class Ulimit(_Data, frozen=True):
    soft: int
    hard: int


class UpdateConfig(_Data, frozen=True):
    """How replicas are replaced; ``order`` "" leaves the choice to the planner."""

    parallelism: int = 1  # 0 = all at once
    delay: int = 0
    order: Order | Literal[""] = ""
    failure_action: Literal["pause", "continue", "rollback"] = "pause"
    monitor: int = 0


class Restart(_Data, frozen=True):
    policy: Literal["no", "always", "on-failure", "unless-stopped"] = "no"
    attempts: int = 0  # of on-failure; 0 = without end


class Grant(_Data, frozen=True):
    """A config or secret of the project, to be seen as the file ``target``."""

    source: str
    target: str


class Logging(_Data, frozen=True):
    driver: str = ""
    options: dict[str, str] = {}


class Device(_Data, frozen=True):
    source: str
    target: str
    permissions: str = "rwm"


class Service(_Data, frozen=True):
    """One tier: ``scale`` replicas of one container description."""

    image: str = ""
    build: Build | None = None
    pull_policy: str = ""
    scale: int = 1
    runtime: str = ""
    command: list[str] | None = None
    entrypoint: list[str] | None = None
    environment: dict[str, str] = {}
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    container_name: str = ""
    hostname: str = ""
    domainname: str = ""
    user: str = ""
    working_dir: str = ""
    ports: list[Port] = []
    expose: list[str] = []
    mounts: list[Mount] = []
    secrets: list[Grant] = []
    configs: list[Grant] = []
    devices: list[Device] = []
    networks: dict[str, Endpoint] = {}
    network_mode: str = ""
    mac_address: str = ""
    dns: list[str] = []
    dns_search: list[str] = []
    dns_opt: list[str] = []
    extra_hosts: list[str] = []
    depends_on: dict[str, Dependency] = {}
    healthcheck: Healthcheck | None = None
    restart: Restart = Restart()
    stop_signal: str = ""
    stop_grace_period: int | None = None
    limits: Limits = Limits()
    ulimits: dict[str, Ulimit] = {}
    sysctls: dict[str, str] = {}
    shm_size: int = 0
    oom_score_adj: int = 0
    cap_add: list[str] = []
    cap_drop: list[str] = []
    privileged: bool = False
    read_only: bool = False
    security_opt: list[str] = []
    group_add: list[str] = []
    userns_mode: str = ""
    ipc: str = ""
    pid: str = ""
    uts: str = ""
    init: bool | None = None
    tty: bool = False
    stdin_open: bool = False
    logging: Logging = Logging()
    profiles: list[str] = []
    update: UpdateConfig = UpdateConfig()


class Subnet(_Data, frozen=True):
    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""


class Network(_Data, frozen=True):
    """``name`` is the engine's name; ``external`` ones are neither made nor removed."""

    name: str
    driver: str = ""
    options: dict[str, str] = {}
    subnets: list[Subnet] = []
    internal: bool = False
    attachable: bool = False
    external: bool = False
    labels: dict[str, str] = {}


class Volume(_Data, frozen=True):
    """``name`` is the engine's name; ``external`` ones are neither made nor removed."""

    name: str
    driver: str = ""
    options: dict[str, str] = {}
    external: bool = False
    labels: dict[str, str] = {}


class FileObject(_Data, frozen=True):
    """A config or secret: a file of the host, or a text to be written into one."""

    name: str
    file: str = ""
    content: str | None = None
    external: bool = False


class Project(_Data, frozen=True):
    """Everything of one stack; keys of the maps are the names in the file."""

    name: str
    directory: str = ""
    files: list[str] = []
    services: dict[str, Service] = {}
    networks: dict[str, Network] = {}
    volumes: dict[str, Volume] = {}
    secrets: dict[str, FileObject] = {}
    configs: dict[str, FileObject] = {}
    disabled: list[str] = []  # services whose profile is not active

    def image_of(self, service: str) -> str:
        """The reference a service runs: its own, or that of the image built for it."""
        return self.services[service].image or f"{self.name}-{service}"


def to_json(project: Project) -> bytes:
    """The project as it travels and is stored."""
    return msgspec.json.encode(project)


def from_json(data: bytes | str) -> Project:
    """The project in *data*.

    Raises:
        InvalidArgument: not a project, or of another version.
    """
    try:
        return msgspec.json.decode(data, type=Project)
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"not a resolved compose project: {error}") from error
