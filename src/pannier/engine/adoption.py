"""A new daemon meets what an earlier one left: running containers, exits, half-done work."""

from __future__ import annotations

import shutil
import time

from pannier.engine.containers import Containers
from pannier.engine.exits import ExitHandler
from pannier.engine.ground import Ground
from pannier.engine.health import HealthMonitor
from pannier.engine.model import Container
from pannier.runtime.model import Exit, Known

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
        for container in self._ground.store:
            entry = known.pop(container.id, None)
            if container.record.root.upper:
                await self._containers.remove(container.id, force=True)
            elif container.state.status in {"running", "paused"}:
                await self._settle(container, entry)
            elif entry is not None:
                await self._discard(container.id)
            elif container.state.status == "restarting":
                self._exits.resume(container)
        for container_id in known:
            # Made by a daemon that died before it had written the container down.
            await self._discard(container_id)

    async def _settle(self, container: Container, entry: Known | None) -> None:
        if entry is not None and entry.running:
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
        self._exits.on_exit(ended or _unknown(container))

    async def _discard(self, container_id: str) -> None:
        await self._ground.runtime.discard(container_id)

    def _remove_leftovers(self) -> None:
        """What the engine keeps below tmp was half-done when its daemon ended."""
        for prefix in ("fill-", "files-", "container-", "volume-"):
            for path in self._ground.instance.tmp.glob(f"{prefix}*"):
                shutil.rmtree(path)
        known = {container.id for container in self._ground.store}
        for path in self._ground.instance.containers.iterdir():
            if path.name not in known:
                shutil.rmtree(path)


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
