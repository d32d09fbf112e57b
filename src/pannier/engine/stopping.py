"""``stop``, ``kill``, ``pause``, ``rm``: the ways a container comes to rest."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from contextlib import suppress

from pannier.base.errors import Conflict, NotFound, NotModified
from pannier.engine.ground import Ground
from pannier.engine.kinds.base import StopStep
from pannier.engine.model import Container
from pannier.runtime.model import ExecRequest

_KILL_TIMEOUT_S = 10.0
_OUTPUT_TIMEOUT_S = 1.0  # a full disk holds the rest of it back for longer
_READERS_TIMEOUT_S = 60.0


class Stopper:
    """Stops and removes containers; takes their locks itself."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def stop(
        self, container: Container, timeout: float | None = None, stop_signal: int | None = None
    ) -> None:
        """Ask it to end, kill it after *timeout* seconds (None: its own, -1: never).

        Raises:
            NotModified: it does not run.
        """
        if container.state.status == "restarting":
            # Its next start may be under way: then it is a running one that is to be stopped.
            async with container.lock:
                if container.state.status == "restarting":
                    await self._end_restarts(container)
                    return
        if not container.running:
            raise NotModified(f"container {container.name} is not running")
        self._note_stopped(container)
        await self._thaw(container)
        if timeout is None:
            timeout = container.config.stop_timeout
        if timeout is None:
            timeout = self._ground.kind(container).stop_timeout_s
        await self._ask(container, stop_signal)
        if not await _exited_within(container, None if timeout < 0 else timeout):
            await self._kill_all(container)
        self._ground.publish(container, "stop")

    async def kill(self, container: Container, number: int) -> None:
        """Send one signal to the first process.

        Raises:
            Conflict: it does not run; Docker's wording.
        """
        if not container.running:
            raise Conflict(f"Container {container.id} is not running")
        if number == signal.SIGKILL:
            await self._thaw(container)
        if number in self._ending_signals(container):
            self._note_stopped(container)
        await self._ground.runtime.kill(container.id, number)
        self._ground.publish(container, "kill", signal=str(number))
        if number == signal.SIGKILL:
            await _exited_within(container, _KILL_TIMEOUT_S)

    async def pause(self, container: Container) -> None:
        """Freeze every process (cgroup v2 ``cgroup.freeze``: SIGKILL still works)."""
        async with container.lock:
            if container.state.status == "paused":
                raise Conflict(f"Container {container.id} is already paused")
            if not container.running:
                raise Conflict(f"Container {container.id} is not running")
            path = self._ground.cgroup(container.record)
            await asyncio.to_thread(self._ground.cgroups.freeze, path)
            if container.exited.is_set():
                # Killed meanwhile, which works on frozen processes too.
                await asyncio.to_thread(self._ground.cgroups.thaw, path)
                raise Conflict(f"Container {container.id} is not running")
            container.state.status = "paused"
            self._ground.store.save(container)
        self._ground.publish(container, "pause")

    async def unpause(self, container: Container) -> None:
        async with container.lock:
            if container.state.status != "paused":
                raise Conflict(f"Container {container.id} is not paused")
            await self._thaw(container)
        self._ground.publish(container, "unpause")

    async def remove(
        self, container: Container, *, force: bool = False, volumes: bool = False
    ) -> None:
        """
        Raises:
            Conflict: it runs, and *force* was not given; Docker's wording.
        """
        async with container.lock:
            if container.removed.is_set():
                return
            if container.running or container.state.status == "restarting":
                await self._end_for_removal(container, force=force)
            await self._delete(container, volumes=volumes)
        await container.notify()
        self._ground.publish(container, "destroy")

    async def _end_for_removal(self, container: Container, *, force: bool) -> None:
        if not force:
            status = container.state.status
            raise Conflict(
                f'cannot remove container "/{container.name}": container is {status}: stop the '
                "container before removing or force remove"
            )
        self._note_stopped(container)
        if container.state.status == "restarting":
            await self._end_restarts(container)
        else:
            await self._thaw(container)
            await self._kill_all(container)

    async def _delete(self, container: Container, *, volumes: bool) -> None:
        """The name is free at once; bytes go behind (the stager survives our own end)."""
        # Asked for before they are given back: a forced removal comes before the exit's clean-up.
        hosts = self._ground.links.hosts(container)
        await self._give_back(container)
        await self.sweep(container, hosts)
        for point in container.record.mounts:
            if point.anonymous and (volumes or container.host_config.auto_remove):
                with suppress(NotFound, Conflict):
                    await self._ground.volumes.remove(point.name)

    async def retire(self, container: Container) -> None:
        """Remove an ended container from sight; `sweep` has to follow when it is torn down.

        The caller holds its lock. Its output is complete when this returns.
        """
        with suppress(TimeoutError):
            # An attached client that is slow holds the rest back, and is to get it all the same;
            # one that has stopped reading must not keep a removal waiting for ever.
            patience = _READERS_TIMEOUT_S if container.readers else _OUTPUT_TIMEOUT_S
            async with asyncio.timeout(patience):
                await container.output_done.wait()
        container.output_done.set()
        await self._give_back(container)
        await container.notify()
        self._ground.publish(container, "destroy")

    async def _give_back(self, container: Container) -> None:
        """Its name, addresses and ids; the record goes last: a crash before it is made good."""
        await self._ground.links.release(container)
        self._ground.ranges.release(container.id)
        self._ground.store.remove(container)
        container.removed.set()

    async def sweep(self, container: Container, hosts: Sequence[str] = ()) -> None:
        """Clear away the log and the directories of a removed container, and its links *hosts*."""
        await self._ground.logger.remove(container.id)
        rubbish = self._ground.instance.tmp / f"container-{container.id[:12]}"
        with suppress(FileNotFoundError):
            self._ground.instance.container_data(container.id).rename(rubbish)
        paths = [str(rubbish), str(self._ground.instance.container_run(container.id))]
        await self._ground.stager.teardown(container.id, paths, links=hosts)

    def _note_stopped(self, container: Container) -> None:
        """Written down before it is done: a daemon that dies meanwhile must not restart it."""
        container.state.stopped_by_user = True
        self._ground.store.save(container)

    def _ending_signals(self, container: Container) -> set[int]:
        """Signals after which its restart policy lets it rest, as Docker does."""
        roots = self._ground.roots(container.record)
        steps = self._ground.kind(container).stop_steps(container.record, roots)
        return {signal.SIGKILL, *(step.signal for step in steps if step.signal)}

    async def _end_restarts(self, container: Container) -> None:
        container.state.stopped_by_user = True
        container.state.status = "exited"
        self._ground.store.save(container)
        await container.notify()

    async def _ask(self, container: Container, stop_signal: int | None) -> None:
        if stop_signal:
            await self._step(container, StopStep(signal=stop_signal))
            return
        roots = self._ground.roots(container.record)
        for step in self._ground.kind(container).stop_steps(container.record, roots):
            await self._step(container, step)

    async def _step(self, container: Container, step: StopStep) -> None:
        if step.argv:
            request = ExecRequest.internal(container.id, list(step.argv))
            with suppress(NotFound, Conflict):
                await self._ground.runtime.exec_detached(request)
        elif step.signal:
            # Gone between our look and the signal: that is what was wanted.
            with suppress(NotFound, ProcessLookupError):
                await self._ground.runtime.kill(container.id, step.signal)

    async def _thaw(self, container: Container) -> None:
        if container.state.status == "paused":
            await asyncio.to_thread(
                self._ground.cgroups.thaw, self._ground.cgroup(container.record)
            )
            if container.state.status == "paused":
                container.state.status = "running"
                self._ground.store.save(container)

    async def _kill_all(self, container: Container) -> None:
        with suppress(NotFound, ProcessLookupError):
            await self._ground.runtime.kill(container.id, signal.SIGKILL)
        if not await _exited_within(container, _KILL_TIMEOUT_S):
            raise Conflict(
                f"container {container.name} did not end within {_KILL_TIMEOUT_S:.0f} s of SIGKILL",
                hint="a process may wait for a device or network file system (state D in ps)",
            )


async def _exited_within(container: Container, limit: float | None) -> bool:
    try:
        async with asyncio.timeout(limit):
            await container.exited.wait()
    except TimeoutError:
        return False
    return True
