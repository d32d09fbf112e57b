"""The engine as a whole: version, info, disk usage."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pannier.base.errors import Conflict
from pannier.engine.containers import Containers
from pannier.engine.ground import Ground
from pannier.engine.imageservice import ImageService
from pannier.engine.volumeservice import VolumeService
from pannier.wire import system as wire
from pannier.wire.codec import to_plain


class System:
    """Implements the API's ``System``; ``end`` is the daemon's own, set by it.

    Args:
        build_cache: the build package's records (it stands above).
    """

    def __init__(
        self,
        ground: Ground,
        containers: Containers,
        images: ImageService,
        volumes: VolumeService,
    ) -> None:
        self._ground = ground
        self._containers = containers
        self._images = images
        self._volumes = volumes
        self.end: Callable[[], None] = lambda: None
        self.build_cache: Callable[[], Sequence[wire.BuildCacheRecord]] = tuple

    def version(self) -> wire.Version:
        number = _package_version()
        arch, kernel = _architecture(), os.uname().release
        # Docker's client prints these details, not the fields of the same names beside them.
        details = {
            "ApiVersion": wire.API_VERSION,
            "MinAPIVersion": wire.MIN_API_VERSION,
            "Os": "linux",
            "Arch": arch,
            "KernelVersion": kernel,
            "Experimental": "false",
        }
        engine = wire.Component(name="Engine", version=number, details=details)
        return wire.Version(version=number, components=[engine], arch=arch, kernel_version=kernel)

    async def info(self) -> dict[str, Any]:
        """Docker's keys with this host's values; pannier's own facts under ``Pannier``."""
        every = self._containers.all()
        uname = os.uname()
        layout = self._ground.cgroups.layout
        return {
            "ID": self._ground.instance.name,
            "Containers": len(every),
            "ContainersRunning": sum(c.state.status == "running" for c in every),
            "ContainersPaused": sum(c.state.status == "paused" for c in every),
            "ContainersStopped": sum(not c.running for c in every),
            "Images": len(self._ground.images.list()),
            "Driver": "overlay2",
            "DriverStatus": [["Storage mode", self._ground.storage_mode]],
            "Plugins": {
                "Volume": ["local"],
                "Network": ["bridge", "host", "none"],
                "Log": ["json-file"],
            },
            "MemoryLimit": True,
            "SwapLimit": True,
            "CpuCfsPeriod": True,
            "CpuCfsQuota": True,
            "CPUShares": True,
            "CPUSet": True,
            "PidsLimit": True,
            "IPv4Forwarding": _is_on("/proc/sys/net/ipv4/ip_forward"),
            "OomKillDisable": "memory" in layout.v1,
            "LoggingDriver": "json-file",
            "CgroupDriver": "cgroupfs",
            "CgroupVersion": "1" if layout.v1 else "2",
            "KernelVersion": uname.release,
            "OperatingSystem": _os_name(),
            "OSType": "linux",
            "Architecture": uname.machine,
            "NCPU": os.cpu_count() or 1,
            "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "DockerRootDir": str(self._ground.instance.data),
            "Name": uname.nodename,
            "ServerVersion": _package_version(),
            "Runtimes": {"app": {"path": "pannier"}, "os": {"path": "pannier"}},
            "DefaultRuntime": "app",
            "LiveRestoreEnabled": True,
            "Isolation": "",
            "InitBinary": "tini",
            "SecurityOptions": ["name=seccomp,profile=builtin", "name=userns"],
            "Swarm": {"LocalNodeState": "inactive"},
            "RegistryConfig": {"IndexConfigs": {}, "InsecureRegistryCIDRs": ["127.0.0.0/8"]},
            "Warnings": None,
            "Pannier": {"CgroupMode": layout.mode},
        }

    async def shutdown(self, *, force: bool = False) -> None:
        """End the engine for good: every process, firewall rule and bridge of it.

        Raises:
            Conflict: containers run, and *force* was not given.
        """
        running = [container for container in self._containers.all() if container.running]
        if running and not force:
            names = ", ".join(container.name for container in running)
            raise Conflict(f"containers are running: {names}", hint="stop them, or use --force")
        async with asyncio.TaskGroup() as group:
            for container in running:
                group.create_task(self._containers.stop(container.id))
        self.end()

    async def disk_usage(self) -> wire.DiskUsage:
        images = await self._images.usage()
        containers = await self._containers.summaries(all_=True, filters={}, size=True)
        return wire.DiskUsage(
            layers_size=self._ground.layers.total_size(),
            images=[to_plain(image) for image in images],
            containers=[to_plain(container) for container in containers],
            volumes=[to_plain(volume) for volume in await self._volumes.usage()],
            build_cache=list(self.build_cache()),
        )


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def _is_on(path: str) -> bool:
    try:
        return Path(path).read_text().strip() == "1"
    except FileNotFoundError:
        return False


def _package_version() -> str:
    from importlib.metadata import version  # noqa: PLC0415 - a megabyte, for one line of text

    return version("pannier")
