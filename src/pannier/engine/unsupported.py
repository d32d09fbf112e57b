"""Settings of Docker's API that this engine does not have: refused, never silently dropped."""

from __future__ import annotations

from pannier.base.errors import Unsupported
from pannier.wire import containers as wire

# attribute, Docker's name, what to do instead
_REFUSED = (
    ("cgroup_parent", "CgroupParent", "the engine's name is the parent: PANNIER_NAME"),
    ("cpu_realtime_period", "CpuRealtimePeriod", "use --cpus or --cpu-shares"),
    ("cpu_realtime_runtime", "CpuRealtimeRuntime", "use --cpus or --cpu-shares"),
    ("storage_opt", "StorageOpt", "the disk space of a container has no limit yet"),
)


def check(host: wire.HostConfig) -> None:
    """
    Raises:
        Unsupported: names the setting; Docker's wording for GPUs and volume drivers.
    """
    for attribute, name, hint in _REFUSED:
        if getattr(host, attribute):
            raise Unsupported(f"{name} is not supported", hint=hint)
    for wish in host.device_requests:
        raise Unsupported(
            f'could not select device driver "{wish.driver}" with capabilities: '
            f"{wish.capabilities}",
            hint="hand device nodes in by path: --device",
        )
    if host.volume_driver not in {"", "local"}:
        raise Unsupported(
            f'error looking up volume plugin {host.volume_driver}: plugin "{host.volume_driver}" '
            "not found",
            hint="the only driver is local",
        )
