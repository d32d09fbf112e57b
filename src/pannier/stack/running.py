"""Carries out a plan: steps run side by side as soon as what they need is done.

A failed step stops only what needs it; the failure is raised when everything else has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from pannier.base.errors import Conflict, NotFound, PannierError, Unavailable
from pannier.stack.actual import replicas_of
from pannier.stack.bodies import network_body, volume_body
from pannier.stack.diagnosis import explained
from pannier.stack.ports import Containers, Networks, Volumes
from pannier.stack.replicas import Making, Replicas, Report
from pannier.stack.steps import Step

ReportObject = Callable[[str, str, str, str], None]  # kind, name, status, message

_SECOND = 10**9
# Between two looks at states, which are attributes of objects in this process.
_LOOK_S = 0.05
# More starts at once only compete for the same disk.
_AT_ONCE = 10


@dataclass(frozen=True, slots=True)
class Objects:
    """The engine's managers."""

    containers: Containers
    networks: Networks
    volumes: Volumes


@dataclass(slots=True)
class _Progress:
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    succeeded: bool = False


class Runner:
    """Runs plans of one stack.

    Args:
        objects: what steps act on.
        making: what containers are made of; None for plans that make none.
        drain: seconds, see `Replicas`.
        report: (kind, name, status, message).
        timeout: seconds between stop signal and SIGKILL; None is each container's own.
        start: False leaves created containers unstarted.
    """

    def __init__(
        self,
        objects: Objects,
        making: Making | None,
        drain: float,
        report: ReportObject,
        *,
        timeout: float | None = None,
        start: bool = True,
        volumes: bool = False,
    ) -> None:
        self._objects = objects
        self._made_of = making
        self._report = report
        self._timeout = timeout
        self._start = start
        self._remove_volumes = volumes
        self._replicas = Replicas(objects.containers, drain, self._container_report())
        self._limit = asyncio.Semaphore(_AT_ONCE)
        self._project = making.project.name if making else ""

    def _container_report(self) -> Report:
        def report(name: str, status: str, message: str) -> None:
            self._report("container", name, status, message)

        return report

    async def run(self, steps: Sequence[Step]) -> None:
        """Carry out all *steps*.

        Raises:
            PannierError: the first failure; further ones are its notes.
        """
        progress = {step.id: _Progress() for step in steps}
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._attempt(step, progress)) for step in steps]
        failures = [failure for task in tasks if (failure := task.result())]
        if not failures:
            return
        first = failures[0]
        for other in failures[1:]:
            first.add_note(other.message)
        raise first

    async def _attempt(self, step: Step, progress: dict[str, _Progress]) -> PannierError | None:
        own = progress[step.id]
        needs = [progress[name] for name in step.needs if name in progress]
        try:
            for need in needs:
                await need.ended.wait()
            if not all(need.succeeded for need in needs):
                return None  # what it needs has failed and says so
            await asyncio.sleep(step.delay / _SECOND)
            if step.verb == "await":
                await self._do(step)
            else:
                async with self._limit:
                    await self._do(step)
            own.succeeded = True
        except PannierError as error:
            own.succeeded = step.optional
            self._report(_kind(step), step.name or step.subject, "failed", error.message)
            return None if step.optional else error
        finally:
            own.ended.set()
        return None

    async def _do(self, step: Step) -> None:
        match step.verb:
            case "create":
                await self._create(step)
            case "replace":
                await self._replace(step)
            case "retire":
                await self._replicas.finish_replacement(step, timeout=self._timeout)
            case "remove":
                await self._replicas.retire(
                    step.container,
                    step.name,
                    timeout=self._timeout,
                    drain=step.drain,
                    volumes=self._remove_volumes,
                )
            case "await":
                await self._await(step)
            case "start" | "restart" | "rename" | "stop":
                await self._do_existing(step)
            case _:
                await self._do_object(step)

    async def _do_existing(self, step: Step) -> None:
        match step.verb:
            case "start":
                await self._replicas.start(step.container, step.name, gated=False)
            case "restart":
                self._report("container", step.name, "restarting", step.reason)
                await self._objects.containers.restart(step.container, self._timeout)
                self._report("container", step.name, "started", "")
            case "rename":
                await self._objects.containers.rename(step.container, step.name)
            case _:
                await self._replicas.stop(step.container, step.name, timeout=self._timeout)

    @property
    def _making(self) -> Making:
        assert self._made_of is not None, "a plan that makes containers needs a project"
        return self._made_of

    async def _do_object(self, step: Step) -> None:
        kind = _kind(step)
        removing = step.verb.startswith("remove")
        self._report(kind, step.name, "removing" if removing else "creating", "")
        match step.verb:
            case "create-network":
                await self._create_network(step)
            case "create-volume":
                await self._create_volume(step)
            case "remove-network":
                await self._remove_network(step)
            case _:
                with suppress(NotFound):
                    await self._objects.volumes.remove(step.name, force=True)
        self._report(kind, step.name, "removed" if removing else "created", "")

    async def _create_network(self, step: Step) -> None:
        if self._making.project.networks[step.subject].external:
            raise NotFound(
                f"network {step.name} declared as external, but could not be found",
                hint=f"make it with: pannier network create {step.name}",
            )
        await self._objects.networks.create(network_body(self._making.project, step.subject))

    async def _create_volume(self, step: Step) -> None:
        if self._making.project.volumes[step.subject].external:
            raise NotFound(
                f"external volume {step.name} not found",
                hint=f"make it with: pannier volume create {step.name}",
            )
        await self._objects.volumes.create(volume_body(self._making.project, step.subject))

    async def _remove_network(self, step: Step) -> None:
        try:
            await self._objects.networks.remove(step.name)
        except NotFound:
            return
        except Conflict as error:
            # Something outside the stack is on it (an OS container, say): not ours to cut off.
            self._report("network", step.name, "warning", error.message)

    async def _create(self, step: Step) -> None:
        container = await self._replicas.create(self._making, step)
        if not self._start:
            return
        try:
            await self._replicas.start(container.id, step.name, gated=step.gated)
            if step.gated:
                await self._replicas.ready(container.id, step.name)
        except PannierError as error:
            if not step.gated:
                raise
            # The others serve: a replica that cannot must not stay half in service.
            failure = await explained(error, self._objects.containers, container.id)
            await self._objects.containers.remove(container.id, force=True)
            raise failure from error.__cause__

    async def _replace(self, step: Step) -> None:
        if self._start:
            await self._replicas.replace(self._making, step, timeout=self._timeout)
            return
        await self._replicas.retire(
            step.container, step.name, timeout=self._timeout, drain=step.start_first
        )
        await self._replicas.create(self._making, step)

    async def _await(self, step: Step) -> None:
        self._report("service", step.subject, "waiting", step.condition)
        while not self._condition_holds(step):  # noqa: ASYNC110 - see _LOOK_S
            await asyncio.sleep(_LOOK_S)
        done = "healthy" if step.condition == "service_healthy" else "completed"
        self._report("service", step.subject, done, "")

    def _condition_holds(self, step: Step) -> bool:
        """
        Raises:
            Unavailable: it cannot come true any more.
        """
        containers = self._objects.containers
        replicas = [
            replica
            for replica in replicas_of(self._project, containers.all())
            if replica.service == step.subject
        ]
        if not replicas:
            raise Unavailable(f"dependency failed to start: no container for {step.subject}")
        return all(
            _completed(containers, replica.id, replica.name)
            if step.condition == "service_completed_successfully"
            else _healthy(containers, replica.id, replica.name)
            for replica in replicas
        )


def _kind(step: Step) -> str:
    if step.verb == "await":
        return "service"
    for kind in ("network", "volume"):
        if step.verb.endswith(kind):
            return kind
    return "container"


def _completed(containers: Containers, ref: str, name: str) -> bool:
    state = containers.get(ref).state
    if state.status != "exited":
        return False
    if state.exit_code != 0:
        raise Unavailable(
            f"service didn't complete successfully: container {name} exited ({state.exit_code})",
            hint=f"see its output with: pannier logs {name}",
        )
    return True


def _healthy(containers: Containers, ref: str, name: str) -> bool:
    state = containers.get(ref).state
    if state.status in {"exited", "dead"}:
        raise Unavailable(
            f"dependency failed to start: container {name} exited ({state.exit_code})",
            hint=f"see its output with: pannier logs {name}",
        )
    if state.health is None:
        if state.status == "running":
            raise Unavailable(
                f"dependency failed to start: container {name} has no healthcheck configured",
                hint="give the service a 'healthcheck', or wait for service_started",
            )
        return False
    if state.health.status == "unhealthy":
        raise Unavailable(
            f"dependency failed to start: container {name} is unhealthy",
            hint=f"see what its health check says with: pannier inspect {name}",
        )
    return state.health.status == "healthy"
