"""What happens when a first process ends: the record, the restart policy, the clean-up."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine

from pannier.base.errors import PannierError
from pannier.engine.ground import Ground
from pannier.engine.kinds.base import Verdict
from pannier.engine.model import Container
from pannier.runtime.model import Exit

_log = logging.getLogger(__name__)

Act = Callable[[Container], Awaitable[None]]

# Docker's back-off: 100 ms, doubled each time up to a minute, forgotten after 10 s of running.
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 60.0
_STABLE_NS = 10 * 10**9


class ExitHandler:
    """Handles exits in the order they are told, one task for each.

    Args:
        start: starts a container again; the caller of it holds the lock.
        remove: removes a container that was run with ``--rm``.
        retire: removes one from sight, ahead of its teardown; the caller of it holds the lock.
        sweep: clears away what is left of that one.
    """

    def __init__(self, ground: Ground, start: Act, remove: Act, retire: Act, sweep: Act) -> None:
        self._ground = ground
        self._start = start
        self._remove = remove
        self._retire = retire
        self._sweep = sweep
        self._delays: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def on_exit(self, exit_record: Exit) -> None:
        """Called by the runtime for each exit; returns at once."""
        if exit_record.id not in self._ground.store:
            return
        container = self._ground.store.get(exit_record.id)
        if container.state.pid != exit_record.pid or container.exited.is_set():
            return
        verdict = self._record(container, exit_record)
        self._spawn(self._after(container, verdict))

    def resume(self, container: Container) -> None:
        """Go on with the restarts that an earlier daemon had begun, or would have begun."""
        container.state.status = "restarting"
        self._ground.store.save(container)
        self._spawn(self._restart(container, at_once=True))

    async def wait_idle(self) -> None:
        """Until every exit told so far is handled."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _record(self, container: Container, ended: Exit) -> Verdict:
        """Write down what happened, before anything else and without waiting."""
        state = container.state
        state.status = "exited"
        state.exit_code = ended.exit_code
        state.oom_killed = ended.oom_killed
        state.finished_ns = ended.time_ns
        state.pid = 0
        verdict = self._ground.kind(container).on_exit(ended.exit_code, ended.signal)
        if verdict is not Verdict.CRASHED:
            # A halt from inside is an orderly end, whatever signal the kernel tells it by.
            state.exit_code = 0 if ended.signal else ended.exit_code
        if self._wants_restart(container, verdict):
            # At once: a stop that comes now has to find it so, and so has a new daemon.
            state.status = "restarting"
        self._ground.store.save(container)
        container.exits += 1
        container.drained.clear()
        self._ground.publish_start(container)
        if ended.oom_killed:
            self._ground.publish(container, "oom")
        self._ground.publish(container, "die", exitCode=str(state.exit_code))
        container.exited.set()
        return verdict

    async def _after(self, container: Container, verdict: Verdict) -> None:
        await container.notify()
        try:
            async with container.lock:
                await self._clean_up(container, verdict)
        except PannierError as error:
            # What is left over is no reason to stay down.
            _log.warning("after the end of container %s: %s", container.name, error.message)
        finally:
            container.drained.set()
        if container.host_config.auto_remove:
            await container.wait_read()
        if container.removed.is_set():
            await self._sweep(container)
        elif container.state.status == "restarting":
            await self._restart(container, at_once=verdict is Verdict.REBOOT)
        elif container.host_config.auto_remove and not container.comes_back:
            await self._remove(container)
        if container.state.status == "exited" or container.removed.is_set():
            self._delays.pop(container.id, None)

    async def _clean_up(self, container: Container, verdict: Verdict) -> None:
        hosts = self._ground.links.hosts(container)
        if self._goes_at_once(container, verdict):
            await self._retire(container)
        else:
            await self._ground.links.detach(container)
        await self._ground.runtime.forget(container.id)
        await self._ground.stager.teardown(container.id, links=hosts)

    def _goes_at_once(self, container: Container, verdict: Verdict) -> bool:
        """Whether nobody has to wait for what is cleared away behind it: only its own volumes have
        to be gone when we say that it is."""
        return (
            container.host_config.auto_remove
            and verdict is not Verdict.REBOOT
            and not container.comes_back
            and not container.removed.is_set()
            and not any(point.anonymous for point in container.record.mounts)
        )

    def _wants_restart(self, container: Container, verdict: Verdict) -> bool:
        if container.state.stopped_by_user:
            return False
        if verdict is Verdict.REBOOT:
            return True
        policy = container.host_config.restart_policy
        match policy.name:
            case "always":
                return True
            case "unless-stopped":
                return verdict is not Verdict.POWERED_OFF
            case "on-failure":
                most = policy.maximum_retry_count
                failed = container.state.exit_code != 0
                return failed and (not most or container.state.restart_count < most)
            case _:
                return False

    async def _restart(self, container: Container, *, at_once: bool) -> None:
        state = container.state
        ran_ns = state.finished_ns - state.started_ns
        delay = 0.0 if ran_ns > _STABLE_NS else self._delays.get(container.id, 0.0)
        delay = max(_FIRST_DELAY_S, min(delay * 2, _LONGEST_DELAY_S))
        self._delays[container.id] = delay
        while not await self._slept(container, 0 if at_once else delay):
            async with container.lock:
                if not _still_restarting(container):
                    return
                state.restart_count += 0 if at_once else 1
                try:
                    await self._start(container)
                except (PannierError, OSError) as error:
                    _log.info("container %s does not start again: %s", container.name, error)
                    if not self._may_try_again(container):
                        return
                    state.status = "restarting"
                    self._ground.store.save(container)
                    delay = min(delay * 2, _LONGEST_DELAY_S)
                    at_once = False
                else:
                    return

    def _may_try_again(self, container: Container) -> bool:
        """A start that failed is a failure, of which ``on-failure`` may allow only so many."""
        limited = container.host_config.restart_policy.name == "on-failure"
        return not limited or self._wants_restart(container, Verdict.CRASHED)

    async def _slept(self, container: Container, delay: float) -> bool:
        """Wait for the back-off; true when the container was stopped or removed meanwhile."""
        deadline = time.monotonic() + delay
        while _still_restarting(container) and (left := deadline - time.monotonic()) > 0:
            async with container.changed:
                try:
                    async with asyncio.timeout(left):
                        await container.changed.wait()
                except TimeoutError:
                    continue
        return not _still_restarting(container)


def _still_restarting(container: Container) -> bool:
    return container.state.status == "restarting" and not container.removed.is_set()
