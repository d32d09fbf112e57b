"""What the API is handed: the engine's parts, the builder and the stacks, under the API's names."""

from __future__ import annotations

from pannier.base.database import Database
from pannier.base.instance import Instance
from pannier.build.builder import Builder
from pannier.build.changes import apply_changes
from pannier.build.ports import Report
from pannier.engine.engine import Engine
from pannier.images.store import Image
from pannier.network.zones import TTL_S
from pannier.stack.manager import StackManager

# After a name is withdrawn: answers live as long as their TTL; load balancers that look names up
# anew (nginx: valid=1s) add theirs.
_DRAIN_S = TTL_S + 1.5


class DaemonBackend:
    """Implements `api.backend.Backend`."""

    def __init__(self, instance: Instance, database: Database, engine: Engine) -> None:
        self._engine = engine
        self.containers = engine.containers
        self.execs = engine.execs
        self.images = engine.images
        self.networks = engine.networks
        self.volumes = engine.volumes
        self.events = engine.events
        self.system = engine.system
        images = engine.ground.images
        self.builder = Builder(images, engine.build_runner, self._pull, database, instance)
        self.stacks = StackManager(
            instance.data / "stacks",
            engine.containers,
            engine.networks,
            engine.volumes,
            engine.images,
            _DRAIN_S,
        )
        engine.system.build_cache = self.builder.cache_records
        engine.images.stacks_using = self.stacks.images_in_use
        engine.committer.apply = engine.images.apply = apply_changes

    async def _pull(self, ref: str, report: Report) -> Image:
        await self._engine.images.pull(ref, report=report)
        return self._engine.ground.images.get(ref)
