"""Makes a stack be as wanted, or be gone: looks, plans, runs, and writes down how far it came."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from pannier.base.errors import PannierError, Unavailable
from pannier.compose.model import Project
from pannier.stack import labels
from pannier.stack.actual import Actual, replicas_of
from pannier.stack.hashing import config_hash
from pannier.stack.images import ImageFinder
from pannier.stack.operations import Emit
from pannier.stack.planning import Wanted, orphans, plan_up
from pannier.stack.replicas import Making, Replicas
from pannier.stack.revisions import want
from pannier.stack.running import Objects, ReportObject, Runner
from pannier.stack.state import Pending, Revision, StackStore, Stored
from pannier.stack.teardown import DownWish, needs_in, plan_down
from pannier.wire.stacks import StackEvent


class Changer:
    """Changes one stack at a time; the caller sees to it that nobody else does.

    Args:
        store: where stacks are remembered.
        objects: the engine's managers.
        images: finds and pulls.
        drain: seconds, see `replicas.Replicas`.
    """

    def __init__(
        self, store: StackStore, objects: Objects, images: ImageFinder, drain: float
    ) -> None:
        self._store = store
        self._objects = objects
        self._images = images
        self._drain = drain

    async def converge(
        self, stored: Stored, pending: Pending, emit: Emit, *, recreate: str = "changed"
    ) -> None:
        """Make the stack as *stored* wants it.

        When cancelled, the operation stays pending, so that it can be taken up again.

        Raises:
            PannierError: what failed first.
        """
        stored.pending = pending
        self._store.save(stored)
        try:
            await self._reach(stored, pending, emit, recreate)
        except PannierError as error:
            if self._want_current(stored, pending):
                emit(_event("stack", stored.project.name, "rolling back", error.message))
                await self._reach(stored, pending, emit, "changed")
            self._finish(stored)
            raise
        self._finish(stored)

    async def take_down(
        self, name: str, stored: Stored | None, pending: Pending, emit: Emit
    ) -> None:
        """Take the stack away, or some of its services."""
        if stored is not None:
            stored.pending = pending
            self._store.save(stored)
        actual, networks, volumes = await self._belongings(name, with_volumes=pending.volumes)
        wish = DownWish(
            needs=needs_in(stored.project) if stored else {},
            networks=networks,
            volumes=volumes,
            selected=pending.services,
            keep=self._kept_orphans(stored, pending, actual),
        )
        steps = plan_down(wish, actual)
        if not steps:
            emit(_event("stack", name, "warning", "no resource found to remove"))
        runner = Runner(
            self._objects,
            None,
            self._drain,
            _reporter(emit),
            timeout=pending.timeout,
            volumes=pending.volumes,
        )
        await runner.run(steps)
        if stored is None:
            return
        if pending.services is not None:
            self._finish(stored)
            return
        await self._remove_images(stored.project, pending.images, emit)
        self._store.forget(name)

    async def wait_ready(
        self, project: Project, selected: Collection[str] | None, timeout: float | None
    ) -> None:
        """Wait until every replica can serve.

        Raises:
            Unavailable: one cannot, or the time (seconds) is over.
        """
        waiting = Replicas(self._objects.containers, self._drain, lambda *_: None)
        replicas = replicas_of(project.name, self._objects.containers.all())
        try:
            async with asyncio.timeout(timeout):
                for replica in replicas:
                    if selected is None or replica.service in selected:
                        before = self._objects.containers.get(replica.id).state.restart_count
                        await waiting.ready(replica.id, replica.name, may_end=True, restarts=before)
        except TimeoutError as error:
            raise Unavailable(
                f"not every service of {project.name} was ready within {timeout:g} s"
            ) from error

    async def _reach(self, stored: Stored, pending: Pending, emit: Emit, recreate: str) -> None:
        project = stored.project
        names = [n for n in project.services if pending.services is None or n in pending.services]
        report = _reporter(emit)
        choices = await self._images.choose(
            project, names, stored.pinned, lambda ref, s, m: report("image", ref, s, m)
        )
        making = Making(
            project=project,
            images={name: choice.reference for name, choice in choices.items()},
            image_ids={name: choice.id for name, choice in choices.items()},
            hashes={name: config_hash(project, name) for name in names},
            files=self._store.write_files(project),
        )
        wanted = Wanted(
            project=project,
            images=making.image_ids,
            hashes=making.hashes,
            selected=pending.services,
            recreate=recreate,
            start=pending.start,
            remove_orphans=pending.remove_orphans,
        )
        actual = await self._actual(project.name)
        self._warn_of_orphans(project, actual, pending, emit)
        runner = Runner(
            self._objects,
            making,
            self._drain,
            report,
            timeout=pending.timeout,
            start=pending.start,
        )
        steps = plan_up(wanted, actual)
        _report_unchanged(actual, names, {step.container for step in steps}, report)
        await runner.run(steps)
        if pending.start:
            for name in names:
                revision = Revision(project.services[name], making.image_ids[name])
                stored.settle(name, revision)

    def _want_current(self, stored: Stored, pending: Pending) -> bool:
        """Want again what ran last, for services whose file says so; whether there were any."""
        reverted = False
        for name, service in stored.project.services.items():
            selected = pending.services is None or name in pending.services
            last = stored.current.get(name)
            if selected and last is not None and service.update.failure_action == "rollback":
                reverted |= last.service != service or stored.pinned.get(name) != last.image_id
                want(stored, name, last)
        return reverted

    def _finish(self, stored: Stored) -> None:
        stored.pending = None
        self._store.save(stored)

    async def _actual(self, name: str) -> Actual:
        networks = await self._objects.networks.summaries({})
        volumes = await self._objects.volumes.summaries({})
        return Actual(
            replicas_of(name, self._objects.containers.all()),
            {network.name for network in networks},
            {volume.name for volume in volumes.volumes},
        )

    async def _belongings(
        self, name: str, *, with_volumes: bool
    ) -> tuple[Actual, dict[str, str], dict[str, str]]:
        """What is there, and the networks and volumes that bear the stack's label."""
        filters = {"label": [f"{labels.PROJECT}={name}"]}
        networks = {n.name: n.name for n in await self._objects.networks.summaries(filters)}
        volumes = {}
        if with_volumes:
            found = await self._objects.volumes.summaries(filters)
            volumes = {volume.name: volume.name for volume in found.volumes}
        return await self._actual(name), networks, volumes

    def _kept_orphans(self, stored: Stored | None, pending: Pending, actual: Actual) -> set[str]:
        if stored is None or pending.remove_orphans or pending.services is not None:
            return set()
        return {replica.service for replica in orphans(stored.project, actual)}

    def _warn_of_orphans(
        self, project: Project, actual: Actual, pending: Pending, emit: Emit
    ) -> None:
        left = [] if pending.remove_orphans else orphans(project, actual)
        if left:
            listed = ", ".join(replica.name for replica in left)
            message = f"found orphan containers ({listed}); --remove-orphans removes them"
            emit(_event("stack", project.name, "warning", message))

    async def _remove_images(self, project: Project, which: str, emit: Emit) -> None:
        if not which:
            return
        for name, service in project.services.items():
            if which == "all" or not service.image:
                reference = project.image_of(name)
                if await self._images.remove(reference):
                    emit(_event("image", reference, "removed", ""))


def _report_unchanged(
    actual: Actual, services: Collection[str], touched: Collection[str], report: ReportObject
) -> None:
    for replica in actual.replicas:
        if replica.service in services and replica.running and replica.id not in touched:
            report("container", replica.name, "running", "")


def _event(kind: str, name: str, status: str, message: str) -> StackEvent:
    return StackEvent(kind=kind, name=name, status=status, message=message)


def _reporter(emit: Emit) -> ReportObject:
    def report(kind: str, name: str, status: str, message: str) -> None:
        emit(_event(kind, name, status, message))

    return report
