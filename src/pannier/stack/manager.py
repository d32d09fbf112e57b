"""``StackManager``: the way in for the API; what happens in which order when a stack is changed.

Each change first writes down what is wanted, then plans and runs the difference, and last notes
what runs now.  So an interrupted change is taken up again by planning once more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path

import msgspec

from pannier.base.errors import NotFound, PannierError
from pannier.base.ids import short
from pannier.compose.model import Project
from pannier.stack import labels
from pannier.stack.changing import Changer
from pannier.stack.images import ImageFinder
from pannier.stack.operations import Emit, Operations
from pannier.stack.order import start_order, with_needs
from pannier.stack.ports import Containers, Images, Networks, Volumes
from pannier.stack.projects import read_project, scaled
from pannier.stack.revisions import roll_back
from pannier.stack.running import Objects
from pannier.stack.state import Pending, StackStore, Stored
from pannier.stack.status import stack_containers, stack_status
from pannier.wire.stacks import (
    StackDown,
    StackEvent,
    StackRollback,
    StackScale,
    StackStatus,
    StackUp,
)


class StackManager:
    """All stacks of one engine.

    Args:
        directory: where stacks are remembered.
        containers: the engine's, and so on.
        drain: seconds between withdrawing a name and stopping its container; at least the
            time-to-live of DNS answers, plus what load balancers keep them on top.
    """

    def __init__(
        self,
        directory: Path,
        containers: Containers,
        networks: Networks,
        volumes: Volumes,
        images: Images,
        drain: float,
    ) -> None:
        self._store = StackStore(directory)
        self._containers = containers
        objects = Objects(containers, networks, volumes)
        self._changer = Changer(self._store, objects, ImageFinder(images), drain)
        self._operations = Operations()

    async def up(self, name: str, body: StackUp) -> AsyncIterator[StackEvent]:
        """Make the stack as the project in *body* says.

        Raises:
            InvalidArgument: the project is none, is of another name, or has a dependency cycle.
            NotFound: an image is not here and cannot be pulled.
            PannierError: what failed; what ran before runs on.
        """
        project = scaled(read_project(name, body.project), body.scale)
        start_order(project)
        selected = with_needs(project, body.services) if body.services else None

        async def work(emit: Emit) -> None:
            stored = self._wanted(project, selected)
            pending = Pending(
                kind="up",
                services=None if selected is None else sorted(selected),
                start=not body.no_start,
                remove_orphans=body.remove_orphans,
                timeout=body.timeout,
            )
            recreate = "all" if body.force_recreate else "none" if body.no_recreate else "changed"
            await self._changer.converge(stored, pending, emit, recreate=recreate)
            if body.wait and not body.no_start:
                await self._changer.wait_ready(project, selected, body.wait_timeout)

        async for event in self._operations.follow(name, "up", work):
            yield event

    async def scale(self, name: str, body: StackScale) -> AsyncIterator[StackEvent]:
        """Change numbers of replicas of a stack that is up."""
        self._known(name)

        async def work(emit: Emit) -> None:
            stored = self._known(name)
            stored.project = scaled(stored.project, body.scale)
            pending = Pending(kind="up", services=sorted(body.scale), timeout=body.timeout)
            await self._changer.converge(stored, pending, emit)

        async for event in self._operations.follow(name, "scale", work):
            yield event

    async def rollback(self, name: str, body: StackRollback) -> AsyncIterator[StackEvent]:
        """Put services back to what they ran before, or undo that.

        Raises:
            NotFound: no such stack or service, or nothing to go back to.
        """
        self._known(name)

        async def work(emit: Emit) -> None:
            stored, before = self._known(name), self._known(name)
            services = roll_back(stored, body.services, undo=body.undo)
            for service in services:
                image = stored.pinned[service]
                status = "rolling forward" if body.undo else "rolling back"
                message = f"image {short(image)}"
                emit(StackEvent(kind="service", name=service, status=status, message=message))
            pending = Pending(kind="up", services=services, timeout=body.timeout)
            try:
                await self._changer.converge(stored, pending, emit)
            except PannierError:
                self._store.save(before)  # the replicas that were to go still serve
                raise

        async for event in self._operations.follow(name, "rollback", work):
            yield event

    async def down(self, name: str, body: StackDown) -> AsyncIterator[StackEvent]:
        """Stop and remove the stack's containers and networks; volumes and images when asked."""
        pending = Pending(
            kind="down",
            services=list(body.services) or None,
            remove_orphans=body.remove_orphans,
            volumes=body.volumes,
            images=body.images,
            timeout=body.timeout,
        )

        async def work(emit: Emit) -> None:
            stored = self._store.load(name)
            if body.project is not None and stored is None:
                stored = Stored(project=read_project(name, body.project))
            await self._changer.take_down(name, stored, pending, emit)

        async for event in self._operations.follow(name, "down", work):
            yield event

    async def status(self, name: str) -> StackStatus:
        """
        Raises:
            NotFound: nothing is known of it, and no container carries its label.
        """
        stored = self._store.load(name)
        found = stack_containers(name, self._containers.all())
        if stored is None and not found:
            raise NotFound(f"No such stack: {name}", hint="pannier compose ls lists them")
        return stack_status(name, stored.project if stored else None, found)

    async def summaries(self) -> Sequence[StackStatus]:
        names = set(self._store.names())
        names |= {
            container.labels[labels.PROJECT]
            for container in self._containers.all()
            if labels.PROJECT in container.labels
        }
        return [await self.status(name) for name in sorted(names)]

    def resume(self) -> list[str]:
        """Take up again what a dead engine left half done; returns the names of those stacks."""
        resumed = []
        for name in self._store.names():
            stored = self._store.load(name)
            if stored and stored.pending:
                self._resume(name, stored, stored.pending)
                resumed.append(name)
        return resumed

    async def close(self) -> None:
        """Stop working; what is under way is taken up again by `resume`."""
        await self._operations.close()

    def images_in_use(self) -> dict[str, list[str]]:
        """Names of stacks by the image they may be rolled back to: prunes must leave those."""
        result: dict[str, list[str]] = {}
        for name in self._store.names():
            stored = self._store.load(name)
            for image_id in stored.image_ids() if stored else ():
                result.setdefault(image_id, []).append(name)
        return result

    def _resume(self, name: str, stored: Stored, pending: Pending) -> None:
        async def work(emit: Emit) -> None:
            if pending.kind == "down":
                await self._changer.take_down(name, stored, pending, emit)
            else:
                await self._changer.converge(stored, pending, emit)

        self._operations.begin_unattended(name, pending.kind, work)

    def _known(self, name: str) -> Stored:
        stored = self._store.load(name)
        if stored is None:
            raise NotFound(
                f"No such stack: {name}", hint="bring it up first: pannier compose up -d"
            )
        return stored

    def _wanted(self, project: Project, selected: Collection[str] | None) -> Stored:
        """What is remembered, with the services that are worked on as in *project*."""
        stored = self._store.load(project.name)
        if stored is None:
            return Stored(project=project)
        older = stored.project.services
        services = {
            name: service if selected is None or name in selected else older.get(name, service)
            for name, service in project.services.items()
        }
        stored.project = msgspec.structs.replace(project, services=services)
        stored.pinned = {
            name: image
            for name, image in stored.pinned.items()
            if selected is not None and name not in selected
        }
        return stored
