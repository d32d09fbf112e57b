"""What is there -> the steps that take it away: ``down``.  Pure.

Dependents go before what they depend on, then networks, then (when asked) volumes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pannier.compose.model import Project
from pannier.stack.actual import Actual
from pannier.stack.order import needs_of
from pannier.stack.steps import Step, Verb


@dataclass(frozen=True, slots=True)
class DownWish:
    """What to take away.

    Args:
        needs: service -> services it needs; from the project, or from the containers' labels.
        networks: key -> engine name, of those the stack made.
        volumes: likewise; empty leaves the data where it is.
        selected: services to take away, leaving the rest and the networks; None is all.
        keep: services whose containers stay (orphans that nobody asked to remove).
    """

    needs: Mapping[str, Collection[str]]
    networks: Mapping[str, str]
    volumes: Mapping[str, str]
    selected: Collection[str] | None = None
    keep: Collection[str] = ()


def needs_in(project: Project) -> dict[str, list[str]]:
    return {name: needs_of(service) for name, service in project.services.items()}


def plan_down(wish: DownWish, actual: Actual) -> list[Step]:
    """The steps, each service's containers after those of the services that need it."""
    going = [
        replica
        for replica in actual.replicas
        if replica.service not in wish.keep
        and (wish.selected is None or replica.service in wish.selected)
    ]
    by_service: dict[str, list[str]] = {}
    for replica in going:
        by_service.setdefault(replica.service, []).append(f"remove:{replica.id[:12]}")
    steps = [
        Step(
            f"remove:{replica.id[:12]}",
            "remove",
            replica.service,
            replica.number,
            replica.id,
            needs=_dependents(replica.service, wish, by_service),
            name=replica.name,
            # With its clients going too, nobody needs time to let go of it.
            drain=wish.selected is not None and replica.running,
        )
        for replica in going
    ]
    if wish.selected is None:
        containers = tuple(step.id for step in steps)
        steps += _objects("network", wish.networks, actual.networks, containers)
        steps += _objects("volume", wish.volumes, actual.volumes, containers)
    return steps


def _dependents(
    service: str, wish: DownWish, by_service: Mapping[str, list[str]]
) -> tuple[str, ...]:
    return tuple(
        step
        for other, needed in wish.needs.items()
        if service in needed and other != service
        for step in by_service.get(other, ())
    )


def _objects(
    kind: str, names: Mapping[str, str], there: Collection[str], needs: tuple[str, ...]
) -> list[Step]:
    verb: Verb = "remove-network" if kind == "network" else "remove-volume"
    return [
        Step(f"{kind}:{key}", verb, key, needs=needs, name=name)
        for key, name in names.items()
        if name in there
    ]
