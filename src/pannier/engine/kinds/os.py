"""OS containers: a light virtual machine with an init as its first process.

Facts about inits (signals, environment, mounts) come from systemd's CONTAINER_INTERFACE document
and from trying each of them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import PurePosixPath

from pannier.base.errors import InvalidArgument
from pannier.engine.kinds.app import capabilities
from pannier.engine.kinds.base import ProcessPlan, StopStep, Verdict, merge_env
from pannier.engine.model import Record
from pannier.kernel.rooted import open_in_root
from pannier.oci import defaults as oci
from pannier.oci.image import ContainerDefaults
from pannier.oci.runtime import Mount
from pannier.wire.signals import parse_signal

_INITS = (
    "/sbin/init",
    "/usr/sbin/init",
    "/lib/systemd/systemd",
    "/usr/lib/systemd/systemd",
    "/init",
)
_MOST_LINKS = 8
# Docker's profile refuses the keyring and personality calls that systemd makes for each service.
_INIT_CALLS = ("add_key", "keyctl", "request_key", "personality", "name_to_handle_at")


class OsKind:
    """Implements `kinds.base.Kind`."""

    name = "os"
    stop_timeout_s = 60.0  # all its services have to end; LXC waits as long

    def process(
        self, record: Record, defaults: ContainerDefaults, roots: Sequence[str]
    ) -> ProcessPlan:
        env = [
            f"PATH={oci.DEFAULT_PATH}",
            "TERM=linux",
            "container=pannier",
            # systemd takes it as the machine id when /etc/machine-id is empty.
            f"container_uuid={_uuid(record.id)}",
        ]
        usual = [c for c in oci.ALL_CAPABILITIES if c not in oci.OS_DROPPED_CAPABILITIES]
        return ProcessPlan(
            argv=_init_command(record, roots),
            env=merge_env(env, record.config.env),
            cwd="/",
            user="0",
            terminal=True,
            capabilities=capabilities(record, usual),
            mounts=_mounts(record),
            masked_paths=record.host_config.masked_paths or (),
            readonly_paths=record.host_config.readonly_paths or (),
            sysctls={},
            cgroup_owned=True,
            seccomp_extra=_INIT_CALLS,
        )

    def stop_steps(self, record: Record, roots: Sequence[str]) -> list[StopStep]:
        if record.config.stop_signal:
            return [StopStep(signal=parse_signal(record.config.stop_signal))]
        match init_flavour(roots):
            case "systemd":
                return [StopStep(signal=signal.SIGRTMIN + 3)]
            case "busybox":
                return [StopStep(signal=signal.SIGUSR2)]
            case "sysvinit" | "runit":
                return [StopStep(argv=("/sbin/init", "0"))]
            case _:
                return [StopStep(signal=signal.SIGRTMIN + 3), StopStep(signal=signal.SIGTERM)]

    def on_exit(self, exit_code: int, ended_by: int) -> Verdict:
        # reboot(2) inside a pid namespace ends its init by SIGHUP for a restart, SIGINT for a halt.
        if ended_by == signal.SIGHUP:
            return Verdict.REBOOT
        if ended_by == signal.SIGINT:
            return Verdict.POWERED_OFF
        if exit_code == 0:
            return Verdict.STOPPED
        return Verdict.CRASHED

    def scrub_clone(self, upper: int) -> None:
        """Machine id, ssh host keys, random seed: each system makes its own at its first boot."""
        _rewrite(upper, "etc/machine-id")
        _remove(upper, "var/lib/systemd/random-seed")
        _remove(upper, "var/lib/dbus/machine-id")
        for name in _names(upper, "etc/ssh"):
            if name.startswith("ssh_host_"):
                _remove(upper, f"etc/ssh/{name}")

    def readiness(self) -> tuple[str, ...] | None:
        # A shell, so that an init without systemctl counts as ready once it can run programs.
        script = (
            "command -v systemctl >/dev/null || exit 0; "
            "s=$(systemctl is-system-running 2>/dev/null); [ $s = running ] || [ $s = degraded ]"
        )
        return ("/bin/sh", "-c", script)


def init_flavour(roots: Sequence[str]) -> str:
    """Which init the root file system has: systemd, busybox, runit, sysvinit, or ``""``."""
    for init in _INITS:
        target = _resolve(roots, init)
        if target is None:
            continue
        name = PurePosixPath(target).name
        for flavour in ("systemd", "busybox", "runit"):
            if name.startswith(flavour):
                return flavour
        return "sysvinit" if _resolve(roots, "/etc/inittab") else ""
    return ""


def _init_command(record: Record, roots: Sequence[str]) -> list[str]:
    given = [*(record.config.entrypoint or []), *(record.config.cmd or [])]
    if given:
        return given
    for init in _INITS:
        if _resolve(roots, init):
            return [init]
    raise InvalidArgument(
        f"image {record.root.image_ref} holds no init to boot",
        hint="use an image with an init (pannier image bootstrap debian:12 --init systemd), or "
        "build one: RUN apt-get install -y systemd-sysv; to run one program use 'pannier run'",
    )


def _resolve(roots: Sequence[str], path: str) -> str | None:
    """Follow links by name through the layers; None when nothing is there."""
    for _ in range(_MOST_LINKS):
        linked, found = _step(roots, path)
        if linked is None:
            return found
        path = linked
    return None


def _step(roots: Sequence[str], path: str) -> tuple[str | None, str | None]:
    """Resolve the first link on the way; returns (new path or None, final path or None)."""
    parts = PurePosixPath(path).parts[1:]
    for depth in range(1, len(parts) + 1):
        here = "/".join(parts[:depth])
        target = _lookup(roots, here)
        if target is None:
            return None, None
        if target:
            parent = "/" + "/".join(parts[: depth - 1])
            rest = "/".join(parts[depth:])
            return os.path.normpath(os.path.join(parent, target, rest)), None
    return None, path


def _lookup(roots: Sequence[str], relative: str) -> str | None:
    """The link's target, ``""`` for anything else, None when no layer has it."""
    for root in roots:
        full = os.path.join(root, relative)
        if os.path.islink(full):
            return os.readlink(full)
        if os.path.lexists(full):
            return ""
    return None


def _uuid(container_id: str) -> str:
    digits = container_id[:32]
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _mounts(record: Record) -> list[Mount]:
    """proc and sysfs writable (harmless in a user namespace); of cgroups version 2 alone."""
    shm = record.host_config.shm_size or oci.DEFAULT_SHM_SIZE
    secure = ["nosuid", "noexec", "nodev"]
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": secure},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": secure},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "mode=755"],
        },
        *(m for m in oci.DEFAULT_MOUNTS if m["destination"] in {"/dev/pts", "/dev/mqueue"}),
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": ["nosuid", "nodev", "mode=1777", f"size={shm}"],
        },
        {
            "destination": "/run",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "nodev", "mode=755"],
        },
        {
            "destination": "/sys/fs/cgroup",
            "type": "cgroup2",
            "source": "cgroup2",
            "options": [*secure, "rw"],
        },
    ]


def _open_directory(upper: int, path: str) -> int | None:
    """A directory of the upper; None if it has none there. Links are followed inside only."""
    try:
        return open_in_root(upper, path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None


def _names(upper: int, directory: str) -> list[str]:
    fd = _open_directory(upper, directory)
    if fd is None:
        return []
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


def _remove(upper: int, path: str) -> None:
    parent, name = os.path.split(path)
    fd = _open_directory(upper, parent)
    if fd is None:
        return
    try:
        with suppress(FileNotFoundError, IsADirectoryError):
            os.unlink(name, dir_fd=fd)
    finally:
        os.close(fd)


def _rewrite(upper: int, path: str) -> None:
    """Make a file of the upper empty; one that is only in the image is left to the image."""
    parent, name = os.path.split(path)
    fd = _open_directory(upper, parent)
    if fd is None:
        return
    try:
        if name in os.listdir(fd):
            os.unlink(name, dir_fd=fd)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o444, dir_fd=fd))
    finally:
        os.close(fd)
