"""RUN steps of a build: real containers of the engine whose upper directory is the builder's."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Protocol

from pannier.base.errors import NotFound, PannierError
from pannier.base.ids import new_id, short
from pannier.engine.containers import Containers
from pannier.engine.ground import Ground
from pannier.engine.logs import LogReader
from pannier.engine.model import MountPoint, Record, Root
from pannier.oci.image import ContainerDefaults
from pannier.wire import containers as wire

CA_PATH = "/run/pannier/ca.crt"
# Which variable makes which program read it: pip, requests, npm, OpenSSL, curl, git.
CA_VARIABLES = (
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
)
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
BUILD_LABEL = "io.pannier.build"


def host_ca_bundle() -> str:
    """The host's CA bundle.

    Raises:
        NotFound: there is none.
    """
    for path in (os.environ.get("SSL_CERT_FILE", ""), *_BUNDLES):
        if path and os.path.isfile(path):
            return path
    raise NotFound(
        "the host has no bundle of certificate authorities",
        hint="install the package ca-certificates",
    )


def host_ca_mount() -> MountPoint:
    return MountPoint("bind", host_ca_bundle(), CA_PATH, writable=False)


class Step(Protocol):
    """One RUN: what the build package says of it (`build.ports.RunStep` explains the fields)."""

    @property
    def layers(self) -> tuple[str, ...]: ...
    @property
    def upper(self) -> str: ...
    @property
    def argv(self) -> list[str]: ...
    @property
    def env(self) -> list[str]: ...
    @property
    def user(self) -> str: ...
    @property
    def cwd(self) -> str: ...
    @property
    def network(self) -> str: ...
    @property
    def host_ca(self) -> bool: ...
    @property
    def extra_hosts(self) -> tuple[str, ...]: ...
    @property
    def shm_size(self) -> int: ...


class BuildRunner:
    """Runs steps; a cancelled step's container is killed and removed."""

    def __init__(self, ground: Ground, containers: Containers, logs: LogReader) -> None:
        self._ground = ground
        self._containers = containers
        self._logs = logs

    async def run(self, step: Step, output: Callable[[bytes], None]) -> int:
        """Run it and hand its output on as it comes. Returns the exit code."""
        record = self._record(step)
        self._ground.instance.container_data(record.id).mkdir(mode=0o710)
        record.id_base = self._ground.ranges.allocate(record.id)
        container = self._ground.store.add(record)
        try:
            reader = self._logs.open(container, {"stdout", "stderr"}, past=False, live=True)
            await self._containers.start_container(container)
            async for _, data in reader:
                output(data)
            await container.exited.wait()
            return container.state.exit_code
        except PannierError as error:
            code = error.fields.get("exit_code")
            if not isinstance(code, int):
                raise
            output(f"{error.message}\n".encode())
            return code
        finally:
            await asyncio.shield(self._containers.remove(container.id, force=True))

    def _record(self, step: Step) -> Record:
        container_id = new_id()
        env = [*step.env]
        mounts = []
        if step.host_ca:
            mounts.append(host_ca_mount())
            env += [f"{name}={CA_PATH}" for name in CA_VARIABLES]
        mode = step.network or "bridge"
        own_network = mode not in {"none", "host"} and not mode.startswith("container:")
        return Record(
            id=container_id,
            name=f"build_{short(container_id)}",
            kind="app",
            created_ns=time.time_ns(),
            config=wire.ContainerConfig(
                env=env,
                cmd=step.argv,
                entrypoint=[],
                user=step.user,
                working_dir=step.cwd,
                labels={BUILD_LABEL: "1"},
            ),
            host_config=wire.HostConfig(
                network_mode=mode,
                extra_hosts=list(step.extra_hosts),
                shm_size=step.shm_size,
            ),
            networks={mode: wire.EndpointSettings()} if own_network else {},
            root=Root("", "", step.layers, 0, ContainerDefaults(), step.upper),
            mounts=mounts,
            hostname=short(container_id),
            argv=list(step.argv),
        )
