"""Every object of the engine, built by hand in one place, and the socket they are served on.

The only module that knows all packages. Order matters: what is opened first is closed last.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import grp
import hashlib
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from aiohttp import web

import pannier
from pannier.api.app import make_app, make_runner
from pannier.base.database import Database
from pannier.base.errors import Conflict
from pannier.base.instance import Instance
from pannier.daemon.backend import DaemonBackend
from pannier.engine.engine import Below, Engine
from pannier.images.layers import LayerStore
from pannier.images.store import ImageStore
from pannier.kernel import cgroup
from pannier.network.manager import NetworkManager
from pannier.oci import defaults as oci
from pannier.runtime.client import Runtime
from pannier.runtime.processes import Logger, Stager, ensure_supervisor, keep_supervisor, shut_down

_SOURCE = Path(pannier.__file__ or "").parent


class Service:
    """One running engine.

    Args:
        group: owns the socket beside root, if the host has it.
    """

    def __init__(self, instance: Instance, group: str) -> None:
        self._instance = instance
        self._group = group
        self.ended = asyncio.Event()
        self._for_good = False
        self._runner: web.AppRunner | None = None
        self._lock = -1

    async def start(self) -> None:
        """Open everything and serve.

        Raises:
            Conflict: another daemon uses the same data.
        """
        instance = self._instance
        instance.make_directories()
        self._take_lock()
        self._database = Database(instance.database)
        layout = cgroup.probe()
        self._cgroups = cgroup.CgroupManager(layout, instance.name, oci.DEFAULT_DEVICE_RULES)
        self._cgroups.setup()
        commands = process_commands(instance)
        builds = build_names(commands)
        await ensure_supervisor(instance, commands, builds)
        self._guard = asyncio.create_task(keep_supervisor(instance, commands, builds))
        self._runtime = Runtime(instance)
        self._logger = Logger(instance)
        self._stager = Stager(instance)
        for process in (self._runtime, self._logger, self._stager):
            await process.connect()
        layers = LayerStore(self._database, instance)
        images = ImageStore(self._database, instance, layers)
        self._networks = NetworkManager(self._database, instance)
        await self._networks.start()
        below = Below(
            runtime=self._runtime,
            logger=self._logger,
            stager=self._stager,
            cgroups=self._cgroups,
            networks=self._networks,
            images=images,
            layers=layers,
        )
        self.engine = Engine(instance, self._database, below)
        await self.engine.start()
        await layers.gc()
        self._backend = DaemonBackend(instance, self._database, self.engine)
        self.engine.system.end = self._end_for_good
        await self._serve()
        self._backend.stacks.resume()

    async def stop(self) -> None:
        """End serving; containers, their logs, names and ports go on without us.

        After ``pannier system shutdown`` none runs, and everything else goes as well.
        """
        if self._runner:
            await self._runner.cleanup()
        with suppress(FileNotFoundError):
            self._instance.socket.unlink()
        await self._backend.stacks.close()
        await self.engine.stop()
        self._guard.cancel()
        if self._for_good:
            await self._networks.purge()
            await shut_down(self._instance)
            self._cgroups.remove(self._instance.name)
        else:
            await self._networks.stop()
        for process in (self._stager, self._logger, self._runtime):
            process.close()
        self._database.close()
        os.close(self._lock)

    def _end_for_good(self) -> None:
        self._for_good = True
        self.ended.set()

    async def _serve(self) -> None:
        self._runner = make_runner(make_app(self._backend))
        await self._runner.setup()
        path = self._instance.socket
        # Bound under another name and renamed: nobody meets it before its rights are set.
        fresh = path.with_suffix(".new")
        with suppress(FileNotFoundError):
            fresh.unlink()
        await web.UnixSite(self._runner, str(fresh)).start()
        os.chmod(fresh, 0o660)
        os.chown(fresh, 0, _group_id(self._group))
        os.rename(fresh, path)

    def _take_lock(self) -> None:
        path = self._instance.data / "lock"
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            if error.errno not in {errno.EAGAIN, errno.EACCES}:
                raise
            raise Conflict(
                f"another pannierd uses {self._instance.data}",
                hint="stop it first, or set PANNIER_DATA and PANNIER_RUN to other directories",
            ) from error


def process_commands(instance: Instance) -> dict[str, list[str]]:
    """The small processes and how the supervisor starts each: bare, without site-packages."""
    python = [sys.executable, "-I", "-S"]
    return {
        "keeper": [*python, str(_SOURCE / "runtime" / "keeper.py"), str(instance.run)],
        "logger": [*python, str(_SOURCE / "runtime" / "logger.py"), str(instance.run)],
        "stager": [*python, str(_SOURCE / "runtime" / "stager.py"), str(instance.run)],
        "resolver": [*python, str(_SOURCE / "network" / "resolver.py"), str(instance.run)],
    }


def build_names(commands: Iterable[str]) -> dict[str, str]:
    """Names the code of each small process: the same as long as no file of it changes.

    The resolver is told apart: while it is replaced, look-ups fail for a moment.
    """
    runtime = _digest("base", "kernel", "runtime")
    resolver = _digest("network")
    return {name: resolver if name == "resolver" else runtime for name in commands}


def _digest(*packages: str) -> str:
    digest = hashlib.sha256()
    for package in packages:
        for path in sorted((_SOURCE / package).glob("*.py")):
            facts = path.stat()
            digest.update(f"{path.name} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _group_id(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return 0
