"""Where one engine keeps its things; engines on one host differ in name and directories."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pannier.base.errors import KernelError

_DATA = Path("/var/lib/pannier")
_RUN = Path("/run/pannier")


@dataclass(frozen=True, slots=True)
class Instance:
    """One engine: its name (for cgroups, firewall, bridges), lasting and volatile directory."""

    name: str = "pannier"
    data: Path = _DATA
    run: Path = _RUN

    @classmethod
    def from_env(cls) -> Self:
        """Read PANNIER_NAME, PANNIER_DATA and PANNIER_RUN; what is not set keeps its default."""
        env = os.environ
        return cls(
            env.get("PANNIER_NAME", "pannier"),
            Path(env.get("PANNIER_DATA", _DATA)),
            Path(env.get("PANNIER_RUN", _RUN)),
        )

    @property
    def socket(self) -> Path:
        return self.run / "pannier.sock"

    @property
    def keeper_socket(self) -> Path:
        return self.run / "keeper.sock"

    @property
    def supervisor_socket(self) -> Path:
        return self.run / "supervisor.sock"

    @property
    def logger_socket(self) -> Path:
        return self.run / "logger.sock"

    @property
    def stager_socket(self) -> Path:
        return self.run / "stager.sock"

    @property
    def zones(self) -> Path:
        return self.run / "zones"

    @property
    def database(self) -> Path:
        return self.data / "pannier.db"

    @property
    def blobs(self) -> Path:
        return self.data / "blobs"

    @property
    def layers(self) -> Path:
        return self.data / "layers"

    @property
    def containers(self) -> Path:
        return self.data / "containers"

    @property
    def volumes(self) -> Path:
        return self.data / "volumes"

    @property
    def tmp(self) -> Path:
        return self.data / "tmp"

    def container_run(self, container_id: str) -> Path:
        return self.run / "containers" / container_id

    def container_data(self, container_id: str) -> Path:
        return self.containers / container_id

    def make_directories(self) -> None:
        """Create them for root alone; the socket's group may enter the run directory.

        Raises:
            KernelError: one of them cannot be made.
        """
        try:
            self._make_directories()
        except OSError as error:
            hint = "PANNIER_DATA and PANNIER_RUN say where they are to be"
            number = error.errno or errno.EIO
            raise KernelError(number, "cannot make the directory", error.filename, hint) from error

    def _make_directories(self) -> None:
        for path in (self.data, self.blobs, self.layers, self.containers, self.volumes, self.tmp):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, mode in (
            (self.run, 0o755),
            (self.run / "containers", 0o711),
            (self.zones, 0o700),
        ):
            path.mkdir(mode=mode, parents=True, exist_ok=True)
