"""The engine put together: containers of both kinds over images, networks and the runtime."""

from __future__ import annotations

from dataclasses import dataclass

from pannier.base.database import Database
from pannier.base.instance import Instance
from pannier.engine.adoption import Adoption
from pannier.engine.buildrunner import BuildRunner
from pannier.engine.commit import Committer
from pannier.engine.containers import Containers, Parts
from pannier.engine.creation import Creator
from pannier.engine.events import EventBus
from pannier.engine.execs import Execs
from pannier.engine.exits import ExitHandler
from pannier.engine.files import ContainerFiles
from pannier.engine.ground import Ground
from pannier.engine.health import HealthMonitor
from pannier.engine.idranges import IdRanges
from pannier.engine.imageservice import ImageService
from pannier.engine.kinds.app import AppKind
from pannier.engine.kinds.os import OsKind
from pannier.engine.links import NetworkLinks
from pannier.engine.logs import LogReader
from pannier.engine.model import Container
from pannier.engine.networks import NetworkService
from pannier.engine.rollback import Rollback
from pannier.engine.starting import Starter
from pannier.engine.stopping import Stopper
from pannier.engine.store import ContainerStore
from pannier.engine.system import System
from pannier.engine.volumes import Volumes
from pannier.engine.volumeservice import VolumeService
from pannier.images.layers import LayerStore
from pannier.images.store import ImageStore
from pannier.kernel.cgroup import CgroupManager
from pannier.network.manager import NetworkManager
from pannier.runtime.client import Runtime
from pannier.runtime.processes import Logger, Stager


@dataclass(frozen=True, slots=True)
class Below:
    """What the daemon has opened on the floors below."""

    runtime: Runtime
    logger: Logger
    stager: Stager
    cgroups: CgroupManager
    networks: NetworkManager
    images: ImageStore
    layers: LayerStore


class Engine:
    """Everything from floor 4 that the API serves.

    ``await start()`` adopts what is there; afterwards the attributes may be used.
    """

    def __init__(self, instance: Instance, database: Database, below: Below) -> None:
        self.events = EventBus()
        self.store = ContainerStore(database)
        self._volumes = Volumes(database, instance, self.events, self._users_of_volume)
        self.ground = Ground(
            instance=instance,
            store=self.store,
            images=below.images,
            layers=below.layers,
            volumes=self._volumes,
            ranges=IdRanges(database),
            links=NetworkLinks(below.networks),
            runtime=below.runtime,
            logger=below.logger,
            stager=below.stager,
            cgroups=below.cgroups,
            events=self.events,
            kinds={"app": AppKind(), "os": OsKind()},
        )
        below.layers.add_holder(self._held_layers)
        self._build_parts()
        self.networks = NetworkService(self.ground, below.networks)
        self.volumes = VolumeService(self._volumes, self._users_of_volume)
        self.images = ImageService(self.ground)
        self.system = System(self.ground, self.containers, self.images, self.volumes)

    def _build_parts(self) -> None:
        ground = self.ground
        self.execs = Execs(ground)
        self.health = HealthMonitor(ground, self.execs.probe)
        self.logs = LogReader(ground)
        files = ContainerFiles(ground)
        creator = Creator(ground)
        stopper = Stopper(ground)
        self.committer = Committer(ground)
        rollback = Rollback(ground, creator, stopper.stop, self._start)
        self.containers = Containers(
            ground,
            Parts(
                creator=creator,
                starter=Starter(ground),
                stopper=stopper,
                health=self.health,
                logs=self.logs,
                files=files,
                committer=self.committer,
                rollback=rollback,
            ),
        )
        self.exits = ExitHandler(
            ground, self.containers.start_locked, self._remove, stopper.retire, stopper.sweep
        )
        self.build_runner = BuildRunner(ground, self.containers, self.logs)

    async def start(self) -> None:
        """Load the containers, listen to the runtime, adopt."""
        self.store.load()
        runtime, logger = self.ground.runtime, self.ground.logger
        runtime.on_exit = self.exits.on_exit
        runtime.on_exec_exit = self.execs.on_exit
        logger.on_eof = self._on_eof
        await Adoption(self.ground, self.containers, self.exits, self.health).run()

    async def stop(self) -> None:
        """End our own tasks; containers go on."""
        self.health.cancel()
        self.exits.cancel()

    def _held_layers(self) -> set[str]:
        return {
            layer
            for container in self.store
            for root in container.record.roots
            for layer in root.layers
        }

    def users_of_network(self, network_id: str, name: str) -> list[str]:
        return [c.name for c in self.store if {network_id, name} & set(c.record.networks)]

    def _users_of_volume(self, name: str) -> list[str]:
        return [c.id for c in self.store if any(p.name == name for p in c.record.mounts)]

    def _on_eof(self, container_id: str) -> None:
        if container_id in self.store:
            self.store.get(container_id).output_done.set()

    async def _start(self, container: Container) -> None:
        await self.containers.start_container(container)

    async def _remove(self, container: Container) -> None:
        await self.containers.remove(container.id, force=True)
