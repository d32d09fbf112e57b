"""What a build needs from the floors below, as narrow Protocols, and what it hands to them.

The daemon joins them: ``Runner`` is the engine's, ``Pull`` the registry client's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from pannier.images.store import Image
from pannier.wire.system import Progress

Report = Callable[[Progress], None]
Pull = Callable[[str, Report], Awaitable[Image]]
"""Fetch an image by its reference; raises as a pull does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStep:
    """One RUN instruction, to be run as a container.

    Args:
        layers: ids of the layers of its root file system, base first.
        upper: an empty directory with ``work`` beside it, for overlayfs; gets what changes. Nothing
            may stay mounted on it.
        argv: the command.
        env: the whole environment, ``NAME=value``.
        user: as in ``--user``.
        cwd: absolute.
        network: as in ``--network``; "" for the default.
        host_ca: bind the host's bundle of certificates and set the variables that name it.
        extra_hosts: ``name:address`` for /etc/hosts.
        shm_size: bytes of /dev/shm, 0 for the default.
    """

    layers: tuple[str, ...]
    upper: str
    argv: list[str]
    env: list[str]
    user: str = ""
    cwd: str = "/"
    network: str = ""
    host_ca: bool = False
    extra_hosts: tuple[str, ...] = ()
    shm_size: int = 0


class Runner(Protocol):
    """Runs the container of a RUN step to its end.

    Cancelled, it kills the container, and returns only when nothing of it is left.
    """

    async def run(self, step: RunStep, output: Callable[[bytes], None]) -> int:
        """
        Args:
            step: what to run.
            output: called with what the command writes to stdout and stderr, as it comes.

        Returns:
            the exit code, 128+n for signal n.

        Raises:
            PannierError: it could not be started.
        """
        ...
