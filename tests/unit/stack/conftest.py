"""An engine in memory: real code with the engine's promises, and a journal of what was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from pannier.base.errors import Conflict, NotFound, NotModified
from pannier.compose.model import Endpoint, Network, Project, Service
from pannier.stack.manager import StackManager
from pannier.stack.ports import Containers, Images, Networks, Volumes
from pannier.wire.containers import CreateBody
from pannier.wire.images import ImageInspect
from pannier.wire.networks import Network as WireNetwork
from pannier.wire.networks import NetworkCreate
from pannier.wire.volumes import Volume, VolumeCreate, VolumeList


@dataclass
class FakeRecord:
    data: bytes


@dataclass
class FakeHealth:
    status: str = "starting"


@dataclass
class FakeState:
    status: str = "created"
    exit_code: int = 0
    restart_count: int = 0
    health: FakeHealth | None = None


@dataclass
class FakeContainer:
    id: str
    name: str
    image_id: str
    body: CreateBody
    state: FakeState = field(default_factory=FakeState)
    named: bool = False

    @property
    def labels(self) -> Mapping[str, str]:
        return self.body.labels


class FakeContainers:
    """``ends`` holds image ids whose containers end with a code, ``sick`` those that get ill."""

    def __init__(self, images: FakeImages, journal: list[str]) -> None:
        self._images = images
        self._journal = journal
        self._all: dict[str, FakeContainer] = {}
        self._count = 0
        self.ends: dict[str, int] = {}
        self.sick: set[str] = set()
        self.least_serving: dict[str, int] = {}

    def all(self) -> list[FakeContainer]:
        return list(self._all.values())

    def get(self, ref: str) -> FakeContainer:
        for container in self._all.values():
            if ref in {container.id, container.name}:
                return container
        raise NotFound(f"No such container: {ref}")

    async def create(self, name: str | None, body: CreateBody) -> FakeContainer:
        assert name
        if any(c.name == name for c in self._all.values()):
            raise Conflict(f"Conflict. The container name {name} is already in use")
        self._count += 1
        image = await self._images.inspect(body.image)
        container = FakeContainer(f"{self._count:012x}".ljust(64, "0"), name, image.id, body)
        self._all[container.id] = container
        self._journal.append(f"create {name}")
        return container

    async def start(self, ref: str) -> None:
        container = self.get(ref)
        if container.state.status == "running":
            raise NotModified("already running")
        await asyncio.sleep(0)
        self._journal.append(f"start {container.name}")
        container.state.status = "running"
        container.named = True
        if container.image_id in self.ends:
            container.state.status = "exited"
            container.state.exit_code = self.ends[container.image_id]
        elif container.body.healthcheck and container.body.healthcheck.test != ["NONE"]:
            ill = container.image_id in self.sick
            container.state.health = FakeHealth()
            word = "unhealthy" if ill else "healthy"
            asyncio.get_running_loop().call_later(0.01, self._become, container, word)
        self._note()

    def _become(self, container: FakeContainer, word: str) -> None:
        assert container.state.health
        container.state.health.status = word

    async def stop(self, ref: str, timeout: float | None = None) -> None:
        container = self.get(ref)
        if container.state.status != "running":
            raise NotModified("already stopped")
        assert self.least_serving.get(self.service(container), 0) == 0 or not container.named
        self._journal.append(f"stop {container.name}")
        container.state.status = "exited"
        container.named = False
        self._note()

    async def restart(self, ref: str, timeout: float | None = None) -> None:
        self._journal.append(f"restart {self.get(ref).name}")

    async def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        container = self.get(ref)
        assert force or container.state.status != "running"
        self._journal.append(f"remove {container.name}")
        del self._all[container.id]
        self._note()

    async def rename(self, ref: str, name: str) -> None:
        if any(c.name == name for c in self._all.values()):
            raise Conflict(f"name {name} in use")
        container = self.get(ref)
        self._journal.append(f"rename {container.name} {name}")
        container.name = name

    async def inspect(self, ref: str) -> Mapping[str, Any]:
        return {"Id": self.get(ref).id, "Mounts": []}

    async def logs(self, ref: str, options: object) -> AsyncIterator[FakeRecord]:
        yield FakeRecord(f"output of {self.get(ref).image_id[7:12]}\n".encode())

    def withdraw(self, ref: str) -> None:
        container = self.get(ref)
        self._journal.append(f"withdraw {container.name}")
        container.named = False
        self._note()

    def announce(self, ref: str) -> None:
        container = self.get(ref)
        self._journal.append(f"announce {container.name}")
        container.named = True

    @staticmethod
    def service(container: FakeContainer) -> str:
        return container.labels["com.docker.compose.service"]

    def serving(self, service: str) -> int:
        return sum(
            c.named
            and c.state.status == "running"
            and (c.state.health is None or c.state.health.status == "healthy")
            for c in self._all.values()
            if self.service(c) == service
        )

    def _note(self) -> None:
        for service, least in self.least_serving.items():
            assert self.serving(service) >= least, f"only {self.serving(service)} serve {service}"


class FakeImages:
    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.remote: dict[str, str] = {}

    async def inspect(self, ref: str) -> ImageInspect:
        if ref in self.known.values():
            return ImageInspect(id=ref)
        if ref not in self.known:
            raise NotFound(f"No such image: {ref}")
        return ImageInspect(id=self.known[ref])

    async def pull(self, ref: str, *, auth: object, platform: str, report: object) -> None:
        if ref not in self.remote:
            raise NotFound(f"pull access denied for {ref}")
        self.known[ref] = self.remote[ref]

    async def remove(self, ref: str, *, force: bool, noprune: bool) -> list[Any]:
        if self.known.pop(ref, None) is None:
            raise NotFound(f"No such image: {ref}")
        return []


class FakeNetworks:
    def __init__(self, journal: list[str]) -> None:
        self.found: dict[str, WireNetwork] = {}
        self._journal = journal

    async def create(self, body: NetworkCreate) -> str:
        self._journal.append(f"create network {body.name}")
        self.found[body.name] = WireNetwork(name=body.name, id=body.name, labels=body.labels)
        return body.name

    async def summaries(self, filters: Mapping[str, list[str]]) -> list[WireNetwork]:
        return [n for n in self.found.values() if _labelled(n.labels, filters)]

    async def remove(self, ref: str) -> None:
        self._journal.append(f"remove network {ref}")
        del self.found[ref]


class FakeVolumes:
    def __init__(self, journal: list[str]) -> None:
        self.found: dict[str, Volume] = {}
        self._journal = journal

    async def create(self, body: VolumeCreate) -> Volume:
        self._journal.append(f"create volume {body.name}")
        self.found[body.name] = Volume(name=body.name, labels=body.labels)
        return self.found[body.name]

    async def summaries(self, filters: Mapping[str, list[str]]) -> VolumeList:
        return VolumeList(volumes=[v for v in self.found.values() if _labelled(v.labels, filters)])

    async def remove(self, name: str, *, force: bool = False) -> None:
        self._journal.append(f"remove volume {name}")
        del self.found[name]


def _labelled(labels: Mapping[str, str], filters: Mapping[str, list[str]]) -> bool:
    pairs = (item.partition("=") for item in filters.get("label", []))
    return all(labels.get(key) == value for key, _, value in pairs)


class FakeEngine:
    def __init__(self) -> None:
        self.journal: list[str] = []
        self.images = FakeImages()
        self.containers = FakeContainers(self.images, self.journal)
        self.networks = FakeNetworks(self.journal)
        self.volumes = FakeVolumes(self.journal)

    def ports(self) -> tuple[Containers, Networks, Volumes, Images]:
        """What the type checker holds the fakes to."""
        return self.containers, self.networks, self.volumes, self.images

    def names(self) -> list[str]:
        return sorted(container.name for container in self.containers.all())

    def forget_journal(self) -> None:
        self.journal.clear()


@pytest.fixture
def engine() -> FakeEngine:
    fake = FakeEngine()
    fake.images.known = {
        "app:1": "sha256:" + "1" * 64,
        "app:2": "sha256:" + "2" * 64,
        "db:1": "sha256:" + "d" * 64,
    }
    return fake


@pytest.fixture
def manager(engine: FakeEngine, tmp_path: Any) -> StackManager:
    return StackManager(tmp_path / "stacks", *engine.ports(), drain=0.01)


@pytest.fixture
def shop() -> Any:
    """Builds a project of services on one default network."""

    def build(**services: Service) -> Project:
        joined = {
            name: service if service.networks or service.network_mode else _on_default(service)
            for name, service in services.items()
        }
        return Project(
            name="shop", services=joined, networks={"default": Network(name="shop_default")}
        )

    return build


def _on_default(service: Service) -> Service:
    import msgspec

    return msgspec.structs.replace(service, networks={"default": Endpoint()})
