"""A merged, validated tree -> `model.Project`: names, objects, and what refers to what."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from pannier.compose.convert import Reader, boolean, text
from pannier.compose.model import FileObject, Network, Project, Service, Subnet, Volume
from pannier.compose.mounts import absolute
from pannier.compose.services import Surroundings, read_service
from pannier.compose.source import ComposeError, Map, Seq

_PROJECT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_NETWORK_OF = re.compile(r"(?:service|container):(.+)")


def read_project(
    tree: Map,
    name: str,
    directory: Path,
    variables: Mapping[str, str],
    profiles: Collection[str],
) -> Project:
    """The whole project.

    Args:
        tree: merged, interpolated and validated.
        name: the project's name.
        directory: base of relative paths.
        variables: the environment of the caller, for names without a value.
        profiles: active ones; ``*`` is all.

    Raises:
        ComposeError: a value that cannot be used, or a reference to something undefined.
    """
    root = Reader(tree, "")
    volumes = _volumes(root, name)
    around = Surroundings(directory, variables, volumes)
    services = {
        key: read_service(key, value or Map(tree.mark), around)
        for key, value in _entries(tree, "services")
    }
    if not services:
        raise ComposeError(tree.place("services"), "services", "no service is defined")
    enabled = _enabled(services, profiles)
    project = Project(
        name=name,
        directory=str(directory),
        services=enabled,
        networks=_networks(root, name, enabled),
        volumes=volumes,
        secrets=_files(root, "secrets", name, around),
        configs=_files(root, "configs", name, around),
        disabled=sorted(set(services) - set(enabled)),
    )
    _check_references(project, services, tree)
    return project


def check_project_name(name: str) -> str:
    """*name*, if a project may be called so.

    Raises:
        ComposeError: with Docker's rule.
    """
    if not _PROJECT_NAME.fullmatch(name):
        raise ComposeError(
            None,
            "",
            f"invalid project name '{name}': it must consist of lower case letters, digits, "
            "hyphens and underscores, and start with a letter or digit",
        )
    return name


def _entries(tree: Map, key: str) -> list[tuple[str, Map | None]]:
    value = tree.get(key)
    return list(value.items()) if isinstance(value, Map) else []


def _enabled(services: Mapping[str, Service], profiles: Collection[str]) -> dict[str, Service]:
    if "*" in profiles:
        return dict(services)
    return {
        name: service
        for name, service in services.items()
        if not service.profiles or set(service.profiles) & set(profiles)
    }


def _external(reader: Reader) -> tuple[bool, str]:
    """Whether an object is external, and the name given in the old notation."""
    value = reader.get("external")
    if isinstance(value, Map):
        return True, text(value.get("name") or "")
    return value is not None and boolean(value), ""


def _volumes(root: Reader, project: str) -> dict[str, Volume]:
    result = {}
    for key, _ in _entries(root.tree, "volumes"):
        reader = Reader(root.sub("volumes").sub(key).tree, f"volumes.{key}")
        external, name = _external(reader)
        result[key] = Volume(
            name=reader.text("name") or name or (key if external else f"{project}_{key}"),
            driver=reader.text("driver"),
            options=reader.table("driver_opts"),
            external=external,
            labels=reader.table("labels"),
        )
    return result


def _networks(root: Reader, project: str, services: Mapping[str, Service]) -> dict[str, Network]:
    used = {name for service in services.values() for name in service.networks}
    defined = dict(_entries(root.tree, "networks"))
    result = {}
    for key in [*defined, *(["default"] if "default" not in defined else [])]:
        if key == "default" and key not in used:
            continue
        reader = Reader(root.sub("networks").sub(key).tree, f"networks.{key}")
        external, name = _external(reader)
        result[key] = Network(
            name=reader.text("name") or name or (key if external else f"{project}_{key}"),
            driver=reader.text("driver"),
            options=reader.table("driver_opts"),
            subnets=_subnets(reader),
            internal=reader.boolean("internal"),
            attachable=reader.boolean("attachable"),
            external=external,
            labels=reader.table("labels"),
        )
    return result


def _subnets(reader: Reader) -> list[Subnet]:
    items = reader.sub("ipam").get("config")
    result = []
    for item in items if isinstance(items, Seq) else ():
        entry = Reader(item, f"{reader.path}.ipam.config")
        result.append(
            Subnet(
                subnet=entry.text("subnet"),
                gateway=entry.text("gateway"),
                ip_range=entry.text("ip_range"),
            )
        )
    return result


def _files(root: Reader, key: str, project: str, around: Surroundings) -> dict[str, FileObject]:
    result = {}
    for name, _ in _entries(root.tree, key):
        reader = Reader(root.sub(key).sub(name).tree, f"{key}.{name}")
        external, _old = _external(reader)
        if external:
            raise reader.error("external", "external secrets and configs are not supported")
        content = reader.text("content") if reader.has("content") else None
        if reader.has("environment"):
            variable = reader.text("environment")
            if variable not in around.variables:
                raise reader.error("environment", f"the variable {variable} is not set")
            content = around.variables[variable]
        file = absolute(reader.text("file"), around.directory) if reader.has("file") else ""
        if bool(file) == (content is not None):
            raise reader.error("", "give exactly one of 'file', 'environment' and 'content'")
        result[name] = FileObject(
            name=reader.text("name", f"{project}_{name}"), file=file, content=content
        )
    return result


def _check_references(project: Project, everything: Mapping[str, Service], tree: Map) -> None:
    services: Map = tree["services"]
    for name, service in project.services.items():
        reader = Reader(services[name], f"services.{name}")
        _check_dependencies(service, reader, project, everything)
        for network in service.networks:
            if network not in project.networks:
                raise reader.error(
                    "networks",
                    f"network '{network}' is not defined",
                    f"add '{network}:' under the top-level 'networks:'",
                )
        for key, known in (("secrets", project.secrets), ("configs", project.configs)):
            for grant in getattr(service, key):
                if grant.source not in known:
                    raise reader.error(key, f"'{grant.source}' is not defined at the top level")
        _check_scale(service, reader)


def _check_dependencies(
    service: Service, reader: Reader, project: Project, everything: Mapping[str, Service]
) -> None:
    wanted = dict(service.depends_on)
    match = _NETWORK_OF.fullmatch(service.network_mode)
    if match and service.network_mode.startswith("service:") and match[1] not in project.services:
        raise reader.error("network_mode", f"there is no service '{match[1]}'")
    for other, dependency in wanted.items():
        if other in project.services or not dependency.required:
            continue
        if other in everything:
            needed = ", ".join(everything[other].profiles)
            raise reader.error(
                "depends_on",
                f"service '{other}' is not active",
                f"it belongs to the profile {needed}: add --profile {needed}",
            )
        raise reader.error("depends_on", f"there is no service '{other}'")


def _check_scale(service: Service, reader: Reader) -> None:
    if service.scale > 1 and service.container_name:
        raise reader.error(
            "container_name", f"{service.scale} replicas cannot share one container name"
        )


def without_missing_dependencies(project: Project) -> Project:
    """*project* with optional dependencies on absent services left out."""
    services = {
        name: msgspec.structs.replace(
            service,
            depends_on={k: v for k, v in service.depends_on.items() if k in project.services},
        )
        for name, service in project.services.items()
    }
    return msgspec.structs.replace(project, services=services)
