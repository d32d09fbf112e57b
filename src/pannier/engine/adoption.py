"""A new daemon meets what an earlier one left: running containers, exits, half-done work."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time

from pannier.base.errors import PannierError
from pannier.engine.containers import Containers
from pannier.engine.exits import ExitHandler
from pannier.engine.ground import Ground
from pannier.engine.health import HealthMonitor
from pannier.engine.model import Container
from pannier.runtime.model import Exit, Known

_log = logging.getLogger(__name__)

_UNKNOWN = 255  # Docker's code for an end that nobody saw


class Adoption:
    """Run once, after the keeper is connected and before requests are served."""

    def __init__(
        self, ground: Ground, containers: Containers, exits: ExitHandler, health: HealthMonitor
    ) -> None:
        self._ground = ground
        self._containers = containers
        self._exits = exits
        self._health = health

    async def run(self) -> None:
        """Adopt every container that the keeper holds; settle every one that it does not."""
        self._remove_leftovers()
        known = {entry.id: entry for entry in await self._ground.runtime.list()}
        await self._release_leftovers()
        for container in self._ground.store:
            try:
                await self._adopt(container, known.pop(container.id, None))
            except PannierError as error:
                # One of them must not keep all others from being served.
                _log.error("cannot adopt container %s: %s", container.name, error.message)
        for container_id in known:
            # Made by a daemon that died before it had written the container down.
            await self._discard(container_id)
        await self._sweep_leftovers()

    async def _adopt(self, container: Container, entry: Known | None) -> None:
        if container.running:
            await self._settle(container, entry)
        else:
            if entry is not None:
                await self._discard(container.id)
            # Of a start, or of the clearing away after an end, that was cut short.
            await self._ground.links.detach(container)
            await self._go_on(container)
        if container.record.root.upper:
            await self._containers.remove(container.id, force=True)

    async def _go_on(self, container: Container) -> None:
        """What the earlier daemon would have done next, and what policies say of a new daemon's
        start: "always" means also those that were stopped."""
        state, host = container.state, container.host_config
        failed = state.status == "exited" and not state.stopped_by_user
        wanted = {"always": state.status == "exited", "unless-stopped": failed}
        if state.status == "restarting" or wanted.get(host.restart_policy.name):
            self._exits.resume(container)
        elif state.status in {"created", "exited"} and host.auto_remove:
            await self._containers.remove(container.id, force=True)

    async def _settle(self, container: Container, entry: Known | None) -> None:
        if entry is not None and entry.running:
            if container.state.status == "running":
                # Frozen for a commit, or for a pause that was not written down yet.
                path = self._ground.cgroup(container.record)
                await asyncio.to_thread(self._ground.cgroups.thaw, path)
            if entry.pid != container.state.pid:
                # Rebooted from inside while no daemon was there: the keeper started it again.
                container.state.pid = entry.pid
                container.state.started_ns = entry.started_ns
                self._ground.store.save(container)
            self._ground.links.announce(container)
            self._health.watch(container)
            return
        container.output_done.set()
        ended = entry.exit if entry is not None else None
        if ended is not None:
            # It may have been another run: after a reboot from inside that nobody saw.
            container.state.pid = ended.pid
        self._exits.on_exit(ended or _unknown(container))

    async def _discard(self, container_id: str) -> None:
        await self._ground.runtime.discard(container_id)

    def _remove_leftovers(self) -> None:
        """What the engine keeps below tmp was half-done when its daemon ended."""
        for prefix in ("fill-", "files-", "container-", "volume-"):
            for path in self._ground.instance.tmp.glob(f"{prefix}*"):
                # The stager may be at it too: it has outlived our predecessor.
                shutil.rmtree(path, ignore_errors=True)
        known = {container.id for container in self._ground.store}
        for path in self._ground.instance.containers.iterdir():
            if path.name not in known:
                shutil.rmtree(path, ignore_errors=True)

    async def _sweep_leftovers(self) -> None:
        """What is left on the host of removed containers: their clearing away was cut short."""
        run, store = self._ground.instance.run / "containers", self._ground.store
        found = {path.name for path in run.iterdir() if path.suffix != ".removing"}
        found |= {entry["id"] for entry in await self._ground.logger.list()}
        for container_id in found:
            if container_id not in store:
                await self._ground.logger.remove(container_id)
                directory = self._ground.instance.container_run(container_id)
                await self._ground.stager.teardown(container_id, [str(directory)])

    async def _release_leftovers(self) -> None:
        """Addresses, ids and half filled volumes of creations and removals cut short."""
        known = {container.id: container.record.id_base for container in self._ground.store}
        self._ground.ranges.keep_only(known)
        await self._ground.links.keep_only(known)
        await self._ground.volumes.drop_pending()
        await self._ground.volumes.empty_half_filled()


def _unknown(container: Container) -> Exit:
    return Exit(
        id=container.id,
        pid=container.state.pid,
        exit_code=_UNKNOWN,
        signal=0,
        oom_killed=False,
        time_ns=time.time_ns(),
        known=False,
    )
