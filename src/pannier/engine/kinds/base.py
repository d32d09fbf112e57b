"""What makes a container an app or an OS container: a small policy behind one Protocol.

Code of the engine never asks which kind a container is; it asks the kind what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from pannier.engine.model import Record
from pannier.oci.image import ContainerDefaults
from pannier.oci.runtime import Mount


class Verdict(Enum):
    """What the end of the first process means."""

    STOPPED = "stopped"
    POWERED_OFF = "powered off"  # by its own user, as with `pannier stop`
    CRASHED = "crashed"
    REBOOT = "reboot"


@dataclass(frozen=True, slots=True)
class StopStep:
    """One way to ask for an end.

    Args:
        signal: sent to the first process, or None.
        argv: run inside instead, or None.
    """

    signal: int | None = None
    argv: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """What the kind decides about the first process and its surroundings."""

    argv: list[str]
    env: list[str]
    cwd: str
    user: str
    terminal: bool
    capabilities: tuple[str, ...]
    mounts: Sequence[Mount]
    masked_paths: Sequence[str]
    readonly_paths: Sequence[str]
    sysctls: Mapping[str, str]
    cgroup_owned: bool
    seccomp_extra: Sequence[str] = ()


class Kind(Protocol):
    """The policy of one kind."""

    name: str
    stop_timeout_s: float  # before it is killed, unless the container has its own

    def process(
        self, record: Record, defaults: ContainerDefaults, roots: Sequence[str]
    ) -> ProcessPlan:
        """Decide what runs and what it sees.

        Args:
            record: the container.
            defaults: the image's.
            roots: directories of the root file system, uppermost first, to look for an init.

        Raises:
            InvalidArgument: there is nothing to run, or no init in an image to be booted.
        """
        ...

    def stop_steps(self, record: Record, roots: Sequence[str]) -> list[StopStep]:
        """How to ask the first process to end, in this order, before it is killed."""
        ...

    def on_exit(self, exit_code: int, ended_by: int) -> Verdict:
        """What it means that the first process ended.

        Args:
            exit_code: Docker's: the status, or 128 + signal.
            ended_by: the signal, or 0.
        """
        ...

    def scrub_clone(self, upper: int) -> None:
        """Take out of a copied upper directory what must not be the same in two containers.

        Args:
            upper: its descriptor; the content is the container's, so hostile.
        """
        ...

    def readiness(self) -> tuple[str, ...] | None:
        """A command that succeeds inside once the container is ready; None: as soon as it runs."""
        ...


def merge_env(*lists: Sequence[str]) -> list[str]:
    """Later lists win; order of first appearance is kept; ``NAME`` without ``=`` removes it."""
    merged: dict[str, str | None] = {}
    for entries in lists:
        for entry in entries:
            name, equals, value = entry.partition("=")
            merged[name] = value if equals else None
    return [f"{name}={value}" for name, value in merged.items() if value is not None]
