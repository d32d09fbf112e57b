"""Projects as they come in from a client: read, checked, scaled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from pannier.base.errors import InvalidArgument
from pannier.compose.model import Project


def read_project(name: str, data: Mapping[str, Any]) -> Project:
    """The project in a request for the stack *name*.

    Raises:
        InvalidArgument: not a resolved project, or one of another name.
    """
    try:
        project = msgspec.convert(dict(data), Project)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"not a resolved compose project: {error}") from error
    if project.name != name:
        raise InvalidArgument(
            f"the project is called '{project.name}', the request is for '{name}'"
        )
    return project


def scaled(project: Project, scale: Mapping[str, int]) -> Project:
    """*project* with other numbers of replicas.

    Raises:
        InvalidArgument: an unknown service, a negative number, or replicas that cannot be.
    """
    services = dict(project.services)
    for name, count in scale.items():
        if name not in services:
            raise InvalidArgument(
                f"no such service: {name}", hint=f"there are: {', '.join(services)}"
            )
        service = services[name]
        if count < 0:
            raise InvalidArgument(f"service {name}: the number of replicas is negative")
        if count > 1 and service.container_name:
            raise InvalidArgument(
                f"service {name}: {count} replicas cannot share the name {service.container_name}",
                hint="remove container_name from the service",
            )
        fixed = [p.published for p in service.ports if p.published and "-" not in p.published]
        if count > 1 and fixed:
            raise InvalidArgument(
                f"service {name}: {count} replicas cannot share the host port {fixed[0]}",
                hint="remove the published port, or put a load balancer before the service",
            )
        services[name] = msgspec.structs.replace(service, scale=count)
    return msgspec.structs.replace(project, services=services)
