"""What is wanted and what is there -> the steps between: ``up`` and ``scale``.  Pure.

Only what differs is touched.  Order comes from the steps' needs: a service's steps wait for the
conditions of its dependencies; replacements of one service go batch by batch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from pannier.compose.model import Condition, Dependency, Project, Service
from pannier.stack.actual import Actual, Replica
from pannier.stack.order import peer_of, start_order
from pannier.stack.steps import Step


@dataclass(frozen=True, slots=True)
class Wanted:
    """The stack as it shall be.

    Args:
        project: with the wanted number of replicas in each service's ``scale``.
        images: image id by service.
        hashes: config hash by service.
        selected: services to work on; None is all.
        recreate: ``changed`` services' containers are replaced, or ``all``, or ``none``.
        start: False only creates.
        remove_orphans: containers of services that are gone.
    """

    project: Project
    images: Mapping[str, str]
    hashes: Mapping[str, str]
    selected: Collection[str] | None = None
    recreate: str = "changed"
    start: bool = True
    remove_orphans: bool = False

    def selects(self, service: str) -> bool:
        return self.selected is None or service in self.selected


@dataclass(slots=True)
class _Plan:
    wanted: Wanted
    actual: Actual
    steps: list[Step] = field(default_factory=list)
    objects: dict[str, tuple[str, ...]] = field(default_factory=dict)
    final: dict[str, tuple[str, ...]] = field(default_factory=dict)
    replaced: set[str] = field(default_factory=set)


def plan_up(wanted: Wanted, actual: Actual) -> list[Step]:
    """The steps that make *actual* be as *wanted*; none when it is so.

    Raises:
        InvalidArgument: the services depend on each other in a circle.
    """
    plan = _Plan(wanted, actual)
    names = [name for name in start_order(wanted.project) if wanted.selects(name)]
    _plan_networks(plan, names)
    _plan_volumes(plan, names)
    for name in names:
        _plan_service(plan, name)
    if wanted.remove_orphans:
        _plan_orphans(plan)
    return plan.steps


def orphans(project: Project, actual: Actual) -> list[Replica]:
    """Containers of the stack whose service is not in the file any more."""
    known = {*project.services, *project.disabled}
    return [replica for replica in actual.replicas if replica.service not in known]


def container_name(project: Project, service: str, number: int) -> str:
    """``shop-web-1``, or the service's own ``container_name``."""
    own = project.services[service].container_name
    return own or f"{project.name}-{service}-{number}"


def starts_first(service: Service) -> bool:
    """Whether an old and a new replica may run side by side during an update.

    Not with a fixed host port or address, which both would need; and not when a single replica
    holds a volume: two databases on one data directory destroy it.
    """
    if service.update.order:
        return service.update.order == "start-first"
    fixed = any(port.published and "-" not in port.published for port in service.ports)
    fixed = fixed or service.network_mode == "host" or bool(service.mac_address)
    fixed = fixed or any(e.ipv4_address or e.mac_address for e in service.networks.values())
    writes = any(
        mount.type != "tmpfs" and not mount.read_only and mount.source for mount in service.mounts
    )
    return not fixed and not (writes and service.scale <= 1)


def _plan_networks(plan: _Plan, names: list[str]) -> None:
    used = {key for name in names for key in plan.wanted.project.services[name].networks}
    for key, network in plan.wanted.project.networks.items():
        if key in used and network.name not in plan.actual.networks:
            # An external one that is missing must be said by the runner, with its name.
            plan.steps.append(
                Step(f"network:{key}", "create-network", key, name=network.name, reason="missing")
            )
            plan.objects[f"network:{key}"] = (f"network:{key}",)


def _plan_volumes(plan: _Plan, names: list[str]) -> None:
    services = plan.wanted.project.services
    used = {mount.source for name in names for mount in services[name].mounts}
    for key, volume in plan.wanted.project.volumes.items():
        if key in used and volume.name not in plan.actual.volumes:
            plan.steps.append(
                Step(f"volume:{key}", "create-volume", key, name=volume.name, reason="missing")
            )
            plan.objects[f"volume:{key}"] = (f"volume:{key}",)


def _object_needs(plan: _Plan, service: Service) -> tuple[str, ...]:
    keys = [f"network:{key}" for key in service.networks]
    keys += [f"volume:{m.source}" for m in service.mounts if m.type == "volume"]
    return tuple(step for key in dict.fromkeys(keys) for step in plan.objects.get(key, ()))


def _plan_service(plan: _Plan, name: str) -> None:
    service = plan.wanted.project.services[name]
    steps = _replica_steps(plan, name, service)
    if any(step.verb in {"create", "start", "replace", "restart"} for step in steps):
        before = (*_object_needs(plan, service), *_dependency_needs(plan, name, service))
        steps = [_later(step, before) for step in steps]
    plan.steps += steps
    plan.final[name] = tuple(step.id for step in steps if step.verb not in {"remove", "rename"})


def _later(step: Step, before: tuple[str, ...]) -> Step:
    return replace(step, needs=tuple(dict.fromkeys((*before, *step.needs))))


def _dependency_needs(plan: _Plan, name: str, service: Service) -> tuple[str, ...]:
    """Steps to wait for; adds the ``await`` steps of conditions that nobody waits for yet."""
    if not plan.wanted.start:
        return ()
    needs: list[str] = []
    for other, dependency in service.depends_on.items():
        if plan.wanted.selects(other) or plan.actual.of(other):
            needs += _dependency_need(plan, other, dependency)
    peer = peer_of(service)
    if peer and peer not in service.depends_on:
        needs += plan.final.get(peer, ())
    return tuple(needs)


def _dependency_need(plan: _Plan, other: str, dependency: Dependency) -> tuple[str, ...]:
    nothing = plan.wanted.project.services[other].scale == 0
    if dependency.condition == "service_started" or nothing:
        return plan.final.get(other, ())
    return (_await_step(plan, other, dependency.condition, optional=not dependency.required),)


def _await_step(plan: _Plan, service: str, condition: Condition, *, optional: bool) -> str:
    step_id = f"await:{service}:{condition}{':optional' if optional else ''}"
    if all(step.id != step_id for step in plan.steps):
        plan.steps.append(
            Step(
                step_id,
                "await",
                service,
                needs=plan.final.get(service, ()),
                condition=condition,
                optional=optional,
                reason="others depend on it",
            )
        )
    return step_id


def _replica_steps(plan: _Plan, name: str, service: Service) -> list[Step]:
    kept, surplus = _sort_out(plan, name, service)
    running = any(replica.running for replica in kept.values())
    missing = [number for number in _numbers(kept, service.scale) if number not in kept]
    steps = [_create(plan, name, number, gated=running) for number in missing]
    steps += _changes(plan, name, service, kept)
    twins = [_removal(replica) for replica in surplus if replica.number in kept]
    gone = tuple(step.id for step in twins)
    # Their provisional names are needed again, and one of two containers must not write on.
    steps = [_later(step, gone) for step in steps]
    created = tuple(step.id for step in steps if step.verb in {"create", "replace"})
    others = [_removal(r, created) for r in surplus if r.number not in kept]
    return twins + steps + others + _renames(plan, name, kept, steps, gone)


def _removal(replica: Replica, needs: tuple[str, ...] = ()) -> Step:
    return Step(
        f"remove:{replica.service}:{replica.id[:12]}",
        "remove",
        replica.service,
        replica.number,
        replica.id,
        needs=needs,
        name=replica.name,
        drain=replica.running,
        reason="one replica too many",
    )


def _numbers(kept: Mapping[int, Replica], scale: int) -> list[int]:
    """Numbers of the wanted replicas: those in use, then the lowest free ones."""
    free = (number for number in range(1, scale + len(kept) + 1) if number not in kept)
    missing = max(0, scale - len(kept))
    return sorted([*kept, *(next(free) for _ in range(missing))])


def _sort_out(plan: _Plan, name: str, service: Service) -> tuple[dict[int, Replica], list[Replica]]:
    """The replica to keep for each number, and those to remove.

    Two containers with one number are what an interrupted replacement leaves: the one that is as
    wanted and works stays.  When scaling down, outdated and high numbers go first.
    """

    def worth(replica: Replica) -> tuple[bool, bool, bool, int]:
        good = replica.running and replica.healthy
        return (good, _current(plan, name, replica), replica.running, -replica.number)

    everyone = sorted(plan.actual.of(name), key=worth, reverse=True)
    kept: dict[int, Replica] = {}
    for replica in everyone:
        if replica.number not in kept and len(kept) < service.scale:
            kept[replica.number] = replica
    chosen = {replica.id for replica in kept.values()}
    return dict(sorted(kept.items())), [r for r in everyone if r.id not in chosen]


def _current(plan: _Plan, name: str, replica: Replica) -> bool:
    wanted = plan.wanted
    return replica.config_hash == wanted.hashes[name] and replica.image_id == wanted.images[name]


def _create(plan: _Plan, name: str, number: int, *, gated: bool) -> Step:
    return Step(
        f"create:{name}:{number}",
        "create",
        name,
        number,
        name=container_name(plan.wanted.project, name, number),
        gated=gated,
        reason="missing",
    )


def _changes(plan: _Plan, name: str, service: Service, kept: Mapping[int, Replica]) -> list[Step]:
    """Replacements in batches, starts and restarts of the replicas that stay."""
    outdated = [r for r in kept.values() if _must_replace(plan, name, service, r)]
    steps: list[Step] = []
    batch_size = service.update.parallelism or len(outdated) or 1
    before: tuple[str, ...] = ()
    for start in range(0, len(outdated), batch_size):
        batch = [
            _replace(plan, name, service, replica, before)
            for replica in outdated[start : start + batch_size]
        ]
        steps += batch
        steps += [_retirement(step) for step in batch if step.start_first]
        before = tuple(step.id for step in batch)
    if outdated:
        plan.replaced.add(name)
    rest = [replica for replica in kept.values() if replica not in outdated]
    return steps + _wakings(plan, name, service, rest)


def _must_replace(plan: _Plan, name: str, service: Service, replica: Replica) -> bool:
    if peer_of(service) in plan.replaced:
        return True  # it sits in a namespace that goes away
    if plan.wanted.recreate == "none":
        return False
    return plan.wanted.recreate == "all" or not _current(plan, name, replica)


def _replace(
    plan: _Plan, name: str, service: Service, replica: Replica, before: tuple[str, ...]
) -> Step:
    changed = "image" if replica.image_id != plan.wanted.images[name] else "configuration"
    forced = _current(plan, name, replica)
    return Step(
        f"replace:{name}:{replica.number}",
        "replace",
        name,
        replica.number,
        replica.id,
        needs=before,
        name=container_name(plan.wanted.project, name, replica.number),
        start_first=starts_first(service) and replica.running,
        gated=True,
        delay=service.update.delay if before else 0,
        reason="asked for" if forced else f"its {changed} has changed",
    )


def _retirement(step: Step) -> Step:
    return replace(
        step, id=step.id.replace("replace:", "retire:", 1), verb="retire", needs=(step.id,), delay=0
    )


def _wakings(plan: _Plan, name: str, service: Service, rest: list[Replica]) -> list[Step]:
    if not plan.wanted.start:
        return []
    touched = {other for other, d in service.depends_on.items() if d.restart} & plan.replaced
    steps = []
    for replica in rest:
        if not replica.running:
            verb, reason = "start", f"it is {replica.status}"
        elif touched:
            verb, reason = "restart", f"{', '.join(sorted(touched))} is replaced"
        else:
            continue
        steps.append(
            Step(
                f"{verb}:{name}:{replica.number}",
                "start" if verb == "start" else "restart",
                name,
                replica.number,
                replica.id,
                name=replica.name,
                reason=reason,
            )
        )
    return steps


def _renames(
    plan: _Plan,
    name: str,
    kept: Mapping[int, Replica],
    steps: list[Step],
    gone: tuple[str, ...],
) -> list[Step]:
    """For containers that kept the provisional name of an interrupted replacement."""
    replaced = {step.container for step in steps if step.verb == "replace"}
    result = []
    for number, replica in kept.items():
        right = container_name(plan.wanted.project, name, number)
        if replica.name != right and replica.id not in replaced:
            step_id = f"rename:{name}:{number}"
            reason = "an update was interrupted"
            step = Step(
                step_id, "rename", name, number, replica.id, needs=gone, name=right, reason=reason
            )
            result.append(step)
    return result


def _plan_orphans(plan: _Plan) -> None:
    for replica in orphans(plan.wanted.project, plan.actual):
        step = replace(_removal(replica), reason="its service is not in the file any more")
        plan.steps.append(step)
