"""A stack as it is shown: wanted and running replicas by service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from pannier.compose.model import Project
from pannier.stack import labels
from pannier.stack.ports import Container
from pannier.wire.stacks import ServiceStatus, StackStatus


def stack_containers(name: str, containers: Iterable[Container]) -> list[Container]:
    """The containers of stack *name*, one-off ones left out, sorted by name."""
    found = [
        container
        for container in containers
        if container.labels.get(labels.PROJECT) == name
        and container.labels.get(labels.ONEOFF) != "True"
    ]
    return sorted(found, key=lambda container: container.name)


def stack_status(name: str, project: Project | None, found: Sequence[Container]) -> StackStatus:
    """Args:
    name: of the stack.
    project: what is wanted, when this engine knows it.
    found: its containers.
    """
    services = list(project.services) if project else []
    services += sorted({c.labels.get(labels.SERVICE, "") for c in found} - set(services))
    return StackStatus(
        name=name,
        services=[_service(service, project, found) for service in services],
        status=_summary(found),
        config_files=",".join(project.files) if project else _files(found),
    )


def _service(name: str, project: Project | None, found: Sequence[Container]) -> ServiceStatus:
    own = [c for c in found if c.labels.get(labels.SERVICE) == name]
    known = project.services.get(name) if project else None
    return ServiceStatus(
        name=name,
        image=project.image_of(name) if project and known else "",
        wanted=known.scale if known else len(own),
        running=sum(c.state.status == "running" for c in own),
        healthy=sum(_serves(c) for c in own),
        containers=[_container(container) for container in own],
    )


def _serves(container: Container) -> bool:
    health = container.state.health
    running = container.state.status == "running"
    return running and (health is None or health.status == "healthy")


def _container(container: Container) -> dict[str, object]:
    health = container.state.health
    return {
        "Id": container.id,
        "Name": container.name,
        "ImageID": container.image_id,
        "State": container.state.status,
        "Health": health.status if health else "",
        "ExitCode": container.state.exit_code,
        "Number": container.labels.get(labels.NUMBER, ""),
    }


def _summary(found: Sequence[Container]) -> str:
    """``running(3), exited(1)``, as ``docker compose ls`` writes it."""
    counts = Counter(container.state.status for container in found)
    return ", ".join(f"{status}({count})" for status, count in sorted(counts.items()))


def _files(found: Sequence[Container]) -> str:
    return next((c.labels[labels.FILES] for c in found if labels.FILES in c.labels), "")
