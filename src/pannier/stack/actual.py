"""What is there of a stack: its containers, networks and volumes, found by their labels."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from pannier.stack import labels
from pannier.stack.ports import Container


@dataclass(frozen=True, slots=True)
class Replica:
    """One container of a service, as it was when looked at."""

    id: str
    name: str
    service: str
    number: int
    config_hash: str
    image_id: str
    status: str
    healthy: bool = True  # also without a health check

    @property
    def running(self) -> bool:
        return self.status in {"running", "restarting"}


@dataclass(frozen=True, slots=True)
class Actual:
    """Everything of one stack; networks and volumes by the engine's names."""

    replicas: tuple[Replica, ...] = ()
    networks: Collection[str] = ()
    volumes: Collection[str] = ()

    def of(self, service: str) -> list[Replica]:
        found = [replica for replica in self.replicas if replica.service == service]
        return sorted(found, key=lambda replica: replica.number)


def replicas_of(project: str, containers: Iterable[Container]) -> tuple[Replica, ...]:
    """The containers of *project*; one-off ones (``compose run``) are nobody's replica."""
    return tuple(
        _replica(container)
        for container in containers
        if container.labels.get(labels.PROJECT) == project
        and container.labels.get(labels.SERVICE)
        and container.labels.get(labels.ONEOFF, "False") != "True"
    )


def _replica(container: Container) -> Replica:
    marks = container.labels
    number = marks.get(labels.NUMBER, "")
    health = container.state.health
    return Replica(
        id=container.id,
        name=container.name.removeprefix("/"),
        service=marks[labels.SERVICE],
        number=int(number) if number.isdigit() else 1,
        config_hash=marks.get(labels.CONFIG_HASH, ""),
        image_id=container.image_id,
        status=container.state.status,
        healthy=health is None or health.status == "healthy",
    )
