"""One replica's life within a stack: made, made ready, put into service, taken out of it.

Taking out of service is one path for scale, update, rollback and stop: withdraw the name, wait
until resolvers have forgotten it, stop, remove (DESIGN: "new one ready" comes before).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from pannier.base.errors import NotFound, NotModified, PannierError, Unavailable
from pannier.compose.model import Project
from pannier.stack import labels
from pannier.stack.bodies import Facts, container_body
from pannier.stack.diagnosis import explained
from pannier.stack.ports import Container, Containers
from pannier.stack.steps import Step

# Between two looks at a container's state, which is an attribute in this process.
_LOOK_S = 0.05
# Without a health check, a replica that lives this long counts as ready during an update.
_SETTLED_S = 0.5
_SECOND = 10**9
_ANONYMOUS = re.compile(r"[0-9a-f]{64}")

Report = Callable[[str, str, str], None]  # name of the container, status, message


@dataclass(frozen=True, slots=True)
class Making:
    """From what the containers of a run are made.

    Args:
        project: the wanted one.
        images: what to run by service: a reference or an id.
        image_ids: the id behind it.
        hashes: config hash by service.
        files: see `bodies.Facts`.
    """

    project: Project
    images: Mapping[str, str]
    image_ids: Mapping[str, str]
    hashes: Mapping[str, str]
    files: Mapping[str, str]


class Replicas:
    """Carries out what one step asks for one replica.

    Args:
        containers: the engine's.
        drain: seconds that clients may go on using a name after it was withdrawn: at least the
            time-to-live of its DNS answers.
        report: told of each change.
    """

    def __init__(self, containers: Containers, drain: float, report: Report) -> None:
        self._containers = containers
        self._drain = drain
        self._report = report

    async def create(self, making: Making, step: Step, *, name: str = "") -> Container:
        """Make the container of *step*, under *name* or the step's own name."""
        name = name or step.name
        self._report(name, "creating", step.reason)
        facts = Facts(
            image=making.images[step.subject],
            marks={
                labels.CONFIG_HASH: making.hashes[step.subject],
                labels.IMAGE: making.image_ids[step.subject],
            },
            peers=self._peers(making.project),
            files=making.files,
            kept=await self._anonymous_volumes(step.container),
        )
        body = container_body(making.project, step.subject, step.number, facts)
        container = await self._containers.create(name, body)
        self._report(name, "created", "")
        return container

    async def start(self, ref: str, name: str, *, gated: bool) -> None:
        """Start it; *gated* keeps its names back until `ready`."""
        self._report(name, "starting", "")
        with suppress(NotModified):
            await self._containers.start(ref)
        if gated:
            self._containers.withdraw(ref)
        self._report(name, "started", "")

    async def ready(
        self,
        ref: str,
        name: str,
        *,
        monitor: int = 0,
        may_end: bool = False,
        restarts: int = 0,
    ) -> None:
        """Wait until it can serve, then announce its names.

        Args:
            ref: the container.
            name: for reports.
            monitor: nanoseconds it must live on after that.
            may_end: a job that ends with 0 is fine too.
            restarts: how often its restart policy may have brought it back: not at all when new.

        Raises:
            Unavailable: it ended or is unhealthy; says which and its exit code.
        """
        container = self._containers.get(ref)
        loop = asyncio.get_running_loop()
        settled = loop.time() + _SETTLED_S
        while True:
            if may_end and _has_succeeded(container):
                return
            _refuse_broken(container, name, restarts)
            health = container.state.health
            if health is None and loop.time() >= settled:
                break
            if health is not None and health.status == "healthy":
                self._report(name, "healthy", "")
                break
            await asyncio.sleep(_LOOK_S)
        self._containers.announce(ref)
        await self._watch(container, name, monitor / _SECOND, restarts)

    async def retire(
        self, ref: str, name: str, *, timeout: float | None, drain: bool, volumes: bool = False
    ) -> None:
        """Take it out of service and remove it.

        Args:
            ref: the container.
            name: for reports.
            timeout: seconds between its stop signal and SIGKILL; None is its own setting.
            drain: whether clients need time to let go of it.
            volumes: also its anonymous volumes.
        """
        with suppress(NotFound):
            if drain:
                self._report(name, "draining", "")
                self._containers.withdraw(ref)
                await asyncio.sleep(self._drain)
            await self.stop(ref, name, timeout=timeout)
            await self._containers.remove(ref, force=True, volumes=volumes)
        self._report(name, "removed", "")

    async def stop(self, ref: str, name: str, *, timeout: float | None) -> None:
        self._report(name, "stopping", "")
        with suppress(NotModified):
            await self._containers.stop(ref, timeout)
        self._report(name, "stopped", "")

    async def replace(self, making: Making, step: Step, *, timeout: float | None) -> None:
        """A new container in the place of an old one.

        With ``start_first`` the old one serves until the new one is ready, and is withdrawn then;
        `finish_replacement` is to follow.  If the new one fails, it is removed and the old one
        serves (again).
        """
        provisional = provisional_name(step)
        new = await self.create(making, step, name=provisional)
        monitor = making.project.services[step.subject].update.monitor
        try:
            if not step.start_first:
                await self._stop_old(step, timeout)
            await self.start(new.id, provisional, gated=step.start_first)
            await self.ready(new.id, provisional, monitor=monitor, may_end=not step.start_first)
        except PannierError as error:
            failure = await explained(error, self._containers, new.id)
            await asyncio.shield(self._back_out(new, step))
            raise failure from error.__cause__
        except asyncio.CancelledError:
            await asyncio.shield(self._back_out(new, step))
            raise
        if step.start_first:
            with suppress(NotFound):
                self._containers.withdraw(step.container)
        else:
            await self.finish_replacement(step, timeout=timeout)

    async def finish_replacement(self, step: Step, *, timeout: float | None) -> None:
        """Remove the old container, give its name to the new one."""
        await self.retire(step.container, step.name, timeout=timeout, drain=step.start_first)
        with suppress(NotFound):
            await self._containers.rename(provisional_name(step), step.name)
            self._report(step.name, "replaced", "")

    async def _stop_old(self, step: Step, timeout: float | None) -> None:
        with suppress(NotFound):
            self._containers.withdraw(step.container)
            await self.stop(step.container, step.name, timeout=timeout)

    async def _back_out(self, new: Container, step: Step) -> None:
        with suppress(NotFound):
            await self._containers.remove(new.id, force=True)
        self._report(new.name, "removed", "it did not become ready")
        if not step.start_first:
            with suppress(NotModified, NotFound):
                await self._containers.start(step.container)
                self._report(step.name, "started", "the previous container serves again")

    async def _watch(self, container: Container, name: str, seconds: float, restarts: int) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            _refuse_broken(container, name, restarts)
            await asyncio.sleep(_LOOK_S)

    def _peers(self, project: Project) -> dict[str, str]:
        return {
            container.labels[labels.SERVICE]: container.id
            for container in self._containers.all()
            if container.labels.get(labels.PROJECT) == project.name
            and labels.SERVICE in container.labels
        }

    async def _anonymous_volumes(self, ref: str) -> dict[str, str]:
        """Volumes nobody named hold data too: the next container gets them, as with Docker."""
        if not ref:
            return {}
        try:
            view = await self._containers.inspect(ref)
        except NotFound:
            return {}
        return {
            str(mount["Destination"]): str(mount["Name"])
            for mount in view.get("Mounts", ())
            if mount.get("Type") == "volume" and _ANONYMOUS.fullmatch(str(mount.get("Name")))
        }


def _has_succeeded(container: Container) -> bool:
    return container.state.status == "exited" and container.state.exit_code == 0


def _refuse_broken(container: Container, name: str, restarts: int) -> None:
    state = container.state
    if state.status in {"exited", "dead"} or state.restart_count > restarts:
        raise Unavailable(
            f"container {name} exited ({state.exit_code}) before it was ready",
            hint=f"see its output with: pannier logs {name}",
        )
    if state.health is not None and state.health.status == "unhealthy":
        raise Unavailable(
            f"container {name} is unhealthy",
            hint=f"see what its health check says with: pannier inspect {name}",
        )


def provisional_name(step: Step) -> str:
    """What a replacement is called until the old container is gone, as with docker compose."""
    return f"{step.container[:12]}_{step.name}"
