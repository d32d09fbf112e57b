"""Containers as the API drives them: finds the one meant, and hands on to the part that does it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pannier.base.errors import Conflict, NotFound, NotModified, PannierError
from pannier.base.ids import check_name
from pannier.engine import resources, stats, views
from pannier.engine.attach import ContainerAttachment
from pannier.engine.commit import Committer, CommitWish
from pannier.engine.creation import Creator, check_restart_policy
from pannier.engine.files import ContainerFiles
from pannier.engine.ground import Ground
from pannier.engine.health import HealthMonitor
from pannier.engine.logs import LogReader, LogWish
from pannier.engine.model import Container
from pannier.engine.pipes import feed_from, read_through
from pannier.engine.rollback import Rollback
from pannier.engine.starting import Starter
from pannier.engine.stopping import Stopper
from pannier.engine.volumes import disk_usage
from pannier.engine.waiting import Condition, wait
from pannier.runtime.logfile import LogRecord
from pannier.wire import containers as wire
from pannier.wire.states import Change, ContainerSummary, PathStat

Filters = Mapping[str, list[str]]
Bytes = AsyncIterator[bytes]


@dataclass(slots=True)
class Parts:
    """What `Containers` hands on to; put together by `engine.Engine`."""

    creator: Creator
    starter: Starter
    stopper: Stopper
    health: HealthMonitor
    logs: LogReader
    files: ContainerFiles
    committer: Committer
    rollback: Rollback


class Containers:
    """Implements the API's ``Containers``; see the Protocol there for what each method promises."""

    def __init__(self, ground: Ground, parts: Parts) -> None:
        self._ground = ground
        self._parts = parts

    def get(self, ref: str) -> Container:
        return self._ground.store.get(ref)

    def all(self) -> list[Container]:
        return list(self._ground.store)

    async def create(self, name: str | None, body: wire.CreateBody) -> Container:
        container = await self._parts.creator.create(name, body)
        container.warnings = self._ground.links.exposure(container)
        self._ground.publish(container, "create")
        return container

    async def start(self, ref: str) -> None:
        await self._start_or_remove(self._ground.store.get(ref))

    async def _start_or_remove(self, container: Container) -> None:
        try:
            await self.start_container(container)
        except NotModified:
            raise
        except (PannierError, OSError):
            if container.host_config.auto_remove and not container.running:
                await self._parts.stopper.remove(container, force=True)
            raise

    async def start_container(self, container: Container) -> None:
        """Start under the container's lock, and watch its health; its restarts count anew."""
        await container.drained.wait()
        async with container.lock:
            if not container.running:
                container.state.restart_count = 0
            await self.start_locked(container)

    async def start_locked(self, container: Container) -> None:
        await self._parts.starter.start(container)
        self._parts.health.watch(container)

    async def stop(self, ref: str, timeout: float | None = None, signal: int | None = None) -> None:
        await self._parts.stopper.stop(self._ground.store.get(ref), timeout, signal)

    async def restart(
        self, ref: str, timeout: float | None = None, signal: int | None = None
    ) -> None:
        container = self._ground.store.get(ref)
        container.comes_back = True
        try:
            with suppress(NotModified):
                await self._parts.stopper.stop(container, timeout, signal)
            await self._start_or_remove(container)
        finally:
            container.comes_back = False
        self._ground.publish(container, "restart")

    async def kill(self, ref: str, signal: int = signal.SIGKILL) -> None:
        await self._parts.stopper.kill(self._ground.store.get(ref), signal)

    async def pause(self, ref: str) -> None:
        await self._parts.stopper.pause(self._ground.store.get(ref))

    async def unpause(self, ref: str) -> None:
        await self._parts.stopper.unpause(self._ground.store.get(ref))

    async def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        container = self._ground.store.get(ref)
        await self._parts.stopper.remove(container, force=force, volumes=volumes)
        self._parts.health.forget(container.id)

    async def rename(self, ref: str, name: str) -> None:
        container = self._ground.store.get(ref)
        old = container.name
        self._ground.store.rename(container, check_name(name))
        if container.running:
            self._ground.links.announce(container)
        self._ground.publish(container, "rename", oldName=f"/{old}")

    async def update(self, ref: str, body: wire.UpdateBody) -> Sequence[str]:
        """Live limits and the restart policy; kept over restarts."""
        container = self._ground.store.get(ref)
        resources.check(body)
        wanted = resources.merged(container.host_config, body)
        resources.check(wanted)
        check_restart_policy(wanted)
        async with container.lock:
            if container.running:
                limits = resources.to_oci(wanted)
                path = self._ground.cgroup(container.record)
                await asyncio.to_thread(self._ground.cgroups.apply, path, limits)
            container.record.host_config = wanted
            self._ground.store.save(container)
        self._ground.publish(container, "update")
        return []

    def wait(self, ref: str, condition: Condition = "not-running") -> Awaitable[int]:
        return wait(self._ground.store.get(ref), condition)

    async def summaries(
        self, *, all_: bool, filters: Filters, limit: int = 0, size: bool = False
    ) -> Sequence[ContainerSummary]:
        chosen = []
        show_all = all_ or limit > 0 or "status" in filters or "exited" in filters
        newest_first = sorted(self._ground.store, key=lambda c: c.record.created_ns, reverse=True)
        for container in newest_first:
            wanted = show_all or container.running or container.state.status == "restarting"
            if wanted and views.matches(container, filters):
                chosen.append(container)
        return [
            views.summary(
                container,
                self._ground.links.endpoints(container),
                sizes=await self._sizes(container) if size else None,
            )
            for container in chosen[: limit or None]
        ]

    async def inspect(self, ref: str, *, size: bool = False) -> dict[str, Any]:
        container = self._ground.store.get(ref)
        directory = self._ground.instance.container_data(container.id)
        view = views.inspect(container, self._ground.links.endpoints(container), directory)
        if size:
            view["SizeRw"], view["SizeRootFs"] = await self._sizes(container)
        return view

    def logs(self, ref: str, options: LogWish) -> AsyncIterator[LogRecord]:
        return self._parts.logs.read(self._ground.store.get(ref), options)

    async def attach(
        self,
        ref: str,
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        logs: bool = False,
        stream: bool = True,
    ) -> ContainerAttachment:
        container = self._ground.store.get(ref)
        if container.state.status == "paused":
            raise Conflict(
                f"Container {container.id} is paused, unpause the container before attach."
            )
        streams = {n for n, on in (("stdout", stdout), ("stderr", stderr)) if on}
        reader = self._parts.logs.open(container, streams, past=logs, live=stream)
        return ContainerAttachment(
            container, self._ground.runtime, reader, stdin=stdin and container.config.open_stdin
        )

    async def resize(self, ref: str, rows: int, columns: int) -> None:
        container = self._ground.store.get(ref)
        if not container.running:
            raise Conflict(f"Container {container.id} is not running")
        await self._ground.runtime.resize(container.id, None, rows, columns)

    async def top(self, ref: str, ps_args: str) -> dict[str, Any]:
        container = self._ground.store.get(ref)
        path = self._ground.cgroup(container.record)
        return await asyncio.to_thread(stats.top, container, self._ground.cgroups, path, ps_args)

    async def stats(self, ref: str) -> dict[str, Any]:
        container = self._ground.store.get(ref)
        return stats.sample(container, self._ground.cgroups, self._ground.cgroup(container.record))

    async def changes(self, ref: str) -> Sequence[Change]:
        container = self._ground.store.get(ref)
        lowers = self._ground.roots(container.record)
        found = await self._ground.layers.changes(self._ground.upper(container.record), lowers)
        return [Change(path=path, kind=kind) for kind, path in found]

    async def archive_stat(self, ref: str, path: str) -> PathStat:
        container = self._ground.store.get(ref)
        async with _steady(container):
            return await asyncio.to_thread(self._parts.files.stat, container, path)

    async def archive_get(self, ref: str, path: str) -> tuple[PathStat, Bytes]:
        container = self._ground.store.get(ref)
        found = await self.archive_stat(container.id, path)

        def write(out: IO[bytes]) -> None:
            self._parts.files.write_tar(container, path, out)

        return found, _steadily(container, read_through(write))

    async def archive_put(
        self, ref: str, path: str, tar: Bytes, *, keep_kind: bool = False, copy_ids: bool = False
    ) -> None:
        container = self._ground.store.get(ref)

        def extract(source: IO[bytes]) -> None:
            self._parts.files.extract(container, path, source, keep_kind=keep_kind)

        async with _steady(container):
            await feed_from(tar, extract)

    async def export(self, ref: str) -> Bytes:
        container = self._ground.store.get(ref)

        def write(out: IO[bytes]) -> None:
            self._parts.files.export(container, out)

        return _steadily(container, read_through(write))

    async def commit(self, ref: str, options: CommitWish) -> str:
        return await self._parts.committer.commit(self._ground.store.get(ref), options)

    async def rollback(self, ref: str, *, undo: bool = False) -> dict[str, Any]:
        return await self._parts.rollback.rollback(self._ground.store.get(ref), undo=undo)

    async def replace_image(self, ref: str, image: str) -> dict[str, Any]:
        return await self._parts.rollback.replace_image(self._ground.store.get(ref), image)

    async def prune(self, filters: Filters) -> tuple[Sequence[str], int]:
        """Remove stopped app containers; OS containers only when asked for by ``kind=os``.

        A system that is powered off is not rubbish: what changed in it is kept until `remove`.
        """
        kinds = filters.get("kind") or ["app"]
        removed, freed = [], 0
        for container in self._ground.store:
            resting = container.state.status in {"created", "exited", "dead"}
            if resting and container.kind in kinds and views.matches(container, filters):
                freed += await asyncio.to_thread(
                    disk_usage, Path(self._ground.upper(container.record))
                )
                # Started meanwhile, or removed by another: not ours any more.
                with suppress(Conflict, NotFound):
                    await self._parts.stopper.remove(container)
                    removed.append(container.id)
        return removed, freed

    def withdraw(self, ref: str) -> None:
        """Take its names out of DNS; it keeps running and keeps its connections."""
        self._ground.links.withdraw(self._ground.store.get(ref))

    def announce(self, ref: str) -> None:
        self._ground.links.announce(self._ground.store.get(ref))

    async def _sizes(self, container: Container) -> tuple[int, int]:
        own = await asyncio.to_thread(disk_usage, Path(self._ground.upper(container.record)))
        return own, own + self._ground.image_size(container.record)


@asynccontextmanager
async def _steady(container: Container) -> AsyncIterator[None]:
    """A resting container is mounted by us, so it must not start meanwhile: two overlays on one
    upper directory are undefined, and the kernel does not refuse them."""
    if container.running:
        yield
        return
    await container.drained.wait()
    async with container.lock:
        if container.removed.is_set():
            raise NotFound(f"No such container: {container.id}")
        yield


async def _steadily(container: Container, source: AsyncGenerator[bytes, None]) -> Bytes:
    async with _steady(container), aclosing(source):
        async for chunk in source:
            yield chunk
