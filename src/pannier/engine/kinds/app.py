"""App containers: one service from image and arguments, Docker's defaults everywhere."""

from __future__ import annotations

from collections.abc import Sequence

from pannier.base.errors import InvalidArgument
from pannier.engine.kinds.base import ProcessPlan, StopStep, Verdict, merge_env
from pannier.engine.model import Record
from pannier.oci import defaults as oci
from pannier.oci.image import ContainerDefaults
from pannier.oci.runtime import Mount
from pannier.wire.signals import parse_signal


class AppKind:
    """Implements `kinds.base.Kind`."""

    name = "app"
    stop_timeout_s = 10.0  # Docker's

    def process(
        self, record: Record, defaults: ContainerDefaults, roots: Sequence[str]
    ) -> ProcessPlan:
        host = record.host_config
        argv = command(record, defaults)
        if not argv:
            raise InvalidArgument(
                "No command specified",
                hint="the image has neither CMD nor ENTRYPOINT: name a command after the image",
            )
        return ProcessPlan(
            argv=argv,
            env=merge_env(_base_env(record), defaults.env or [], record.config.env),
            cwd=record.config.working_dir or defaults.working_dir or "/",
            user=record.config.user or defaults.user or "",
            terminal=record.config.tty,
            capabilities=capabilities(record, oci.DEFAULT_CAPABILITIES),
            mounts=_mounts(record),
            masked_paths=_paths(host.privileged, host.masked_paths, oci.MASKED_PATHS),
            readonly_paths=_paths(host.privileged, host.readonly_paths, oci.READONLY_PATHS),
            sysctls=oci.DEFAULT_SYSCTLS,
            cgroup_owned=False,
        )

    def stop_steps(self, record: Record, roots: Sequence[str]) -> list[StopStep]:
        return [StopStep(signal=parse_signal(record.config.stop_signal or "SIGTERM"))]

    def on_exit(self, exit_code: int, ended_by: int) -> Verdict:
        return Verdict.CRASHED if exit_code else Verdict.STOPPED

    def scrub_clone(self, upper: int) -> None:
        return

    def readiness(self) -> tuple[str, ...] | None:
        return None


def command(record: Record, defaults: ContainerDefaults) -> list[str]:
    """ENTRYPOINT and CMD as Docker combines them: a given entrypoint drops the image's CMD."""
    config = record.config
    entrypoint = config.entrypoint if config.entrypoint is not None else defaults.entrypoint
    cmd = config.cmd
    if cmd is None:
        cmd = defaults.cmd if config.entrypoint is None else []
    return [word for word in entrypoint or [] if word or len(entrypoint or []) > 1] + list(
        cmd or []
    )


def capabilities(record: Record, base: Sequence[str]) -> tuple[str, ...]:
    """``--privileged``, ``--cap-add`` and ``--cap-drop`` applied to *base*.

    Raises:
        InvalidArgument: an unknown name.
    """
    host = record.host_config
    wanted = set(oci.ALL_CAPABILITIES if host.privileged else base)
    drop, add = ([_capability(n) for n in names] for names in (host.cap_drop, host.cap_add))
    if "ALL" in add:
        wanted = set(oci.ALL_CAPABILITIES)
    if "ALL" in drop:
        wanted = set()
    wanted = (wanted - set(drop)) | (set(add) - {"ALL"})
    return tuple(name for name in oci.ALL_CAPABILITIES if name in wanted)


def _capability(name: str) -> str:
    name = name.upper()
    if name == "ALL":
        return name
    full = name if name.startswith("CAP_") else f"CAP_{name}"
    if full not in oci.ALL_CAPABILITIES:
        raise InvalidArgument(f'invalid capability: "{name}"')
    return full


def _base_env(record: Record) -> list[str]:
    env = [f"PATH={oci.DEFAULT_PATH}", f"HOSTNAME={record.hostname}"]
    return [*env, "TERM=xterm"] if record.config.tty else env


def _paths(
    privileged: bool,
    asked: Sequence[str] | None,
    usual: Sequence[str],
) -> Sequence[str]:
    if asked is not None:
        return asked
    return () if privileged else usual


def _mounts(record: Record) -> list[Mount]:
    shm = record.host_config.shm_size or oci.DEFAULT_SHM_SIZE
    mounts: list[Mount] = []
    for mount in oci.DEFAULT_MOUNTS:
        options = list(mount["options"])
        if mount["destination"] == "/dev/shm":
            options = [f"size={shm}" if o.startswith("size=") else o for o in options]
        if record.host_config.privileged and "ro" in options:
            options = ["rw" if o == "ro" else o for o in options]
        mounts.append({**mount, "options": options})
    return mounts
