"""What every part of the engine stands on: the stores and processes that the daemon has opened."""

from __future__ import annotations

from dataclasses import dataclass

from pannier.base.instance import Instance
from pannier.engine.events import EventBus
from pannier.engine.idranges import IdRanges
from pannier.engine.kinds.base import Kind
from pannier.engine.links import NetworkLinks
from pannier.engine.model import Container, Record
from pannier.engine.store import ContainerStore
from pannier.engine.volumes import Volumes
from pannier.images.layers import LayerStore
from pannier.images.store import ImageStore
from pannier.kernel.cgroup import CgroupManager
from pannier.oci import defaults as oci
from pannier.runtime.client import Runtime
from pannier.runtime.processes import Logger, Stager


@dataclass(frozen=True, slots=True)
class Ground:
    """Made once by `engine.Engine`. ``kinds`` is by the name in ``HostConfig.Runtime``."""

    instance: Instance
    store: ContainerStore
    images: ImageStore
    layers: LayerStore
    volumes: Volumes
    ranges: IdRanges
    links: NetworkLinks
    runtime: Runtime
    logger: Logger
    stager: Stager
    cgroups: CgroupManager
    events: EventBus
    kinds: dict[str, Kind]

    @property
    def storage_mode(self) -> str:
        """``idmapped``: layers stay unshifted on disk and are mapped for each container."""
        return "idmapped"

    def roots(self, record: Record) -> list[str]:
        """Directories of the container's image layers, uppermost first."""
        return self.layers.lower_paths(record.root.layers)

    def image_size(self, record: Record) -> int:
        """Bytes of the container's image layers."""
        return sum(self.layers.get(layer).size for layer in record.root.layers)

    def upper(self, record: Record) -> str:
        """The private upper directory of the root file system in place."""
        own = self.instance.container_data(record.id) / str(record.root.generation) / "upper"
        return record.root.upper or str(own)

    def cgroup(self, record: Record) -> str:
        """The container's cgroup, as `kernel.cgroup` names it; the same in every hierarchy."""
        host = record.host_config
        # Not by looking the devices up: one may have gone since, and the cgroup is where it was.
        special = host.privileged or host.devices or host.device_cgroup_rules
        return self.cgroups.path_for(record.id, None if special else oci.DEFAULT_DEVICE_RULES)

    def kind(self, container: Container) -> Kind:
        return self.kinds[container.kind]

    def publish_start(self, container: Container) -> None:
        """Once for each start, and before its end, which may come before the start returns."""
        if container.start_untold:
            container.start_untold = False
            self.publish(container, "start")

    def publish(self, container: Container, action: str, **facts: str) -> None:
        """Tell of something that happened to *container*."""
        image = container.record.root.image_ref
        known = {**container.labels, "name": container.name, "image": image}
        self.events.publish("container", action, container.id, {**known, **facts})
