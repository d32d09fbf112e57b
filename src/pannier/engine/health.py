"""Health checks: run the image's or the user's test inside, count failures, tell who waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from pannier.base.errors import PannierError
from pannier.engine.execs import KEPT_OUTPUT
from pannier.engine.ground import Ground
from pannier.engine.model import Container, Health, HealthProbe
from pannier.wire.containers import Healthcheck

_INTERVAL_NS = 30 * 10**9
_START_INTERVAL_NS = 5 * 10**9
_TIMEOUT_NS = 30 * 10**9
_RETRIES = 3
_KEPT_PROBES = 5

Probe = Callable[[Container, list[str], float], Awaitable[tuple[int, bytes]]]


class HealthMonitor:
    """One task for each running container that has a check.

    Args:
        probe: runs argv inside within a time in seconds; returns exit code and output.
    """

    def __init__(self, ground: Ground, probe: Probe) -> None:
        self._ground = ground
        self._probe = probe
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def watch(self, container: Container) -> None:
        """Begin, if it has a check; called after each start and after adoption."""
        self.forget(container.id)
        check = container.config.healthcheck
        if check and container.state.health is not None:
            task = asyncio.create_task(self._watch(container, check))
            self._tasks[container.id] = task
            task.add_done_callback(lambda done: self._ended(container.id, done))

    def _ended(self, container_id: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(container_id) is task:
            del self._tasks[container_id]

    def forget(self, container_id: str) -> None:
        task = self._tasks.pop(container_id, None)
        if task:
            task.cancel()

    def cancel(self) -> None:
        for container_id in list(self._tasks):
            self.forget(container_id)

    async def _watch(self, container: Container, check: Healthcheck) -> None:
        run = container.exits
        while container.running and container.exits == run:
            await self._pause(container, check)
            if container.state.status != "running" or container.exits != run:
                continue
            probe = await self._run(container, check)
            if container.exits == run and container.state.health is not None:
                await self._note(container, check, probe)

    async def _pause(self, container: Container, check: Healthcheck) -> None:
        delay = (check.interval or _INTERVAL_NS) / 1e9
        if self._starting(container, check):
            delay = min(delay, (check.start_interval or _START_INTERVAL_NS) / 1e9)
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await container.exited.wait()

    async def _run(self, container: Container, check: Healthcheck) -> HealthProbe:
        kind, *words = check.test
        shell = container.config.shell or ["/bin/sh", "-c"]
        argv = [*shell, *words] if kind == "CMD-SHELL" else words
        limit = (check.timeout or _TIMEOUT_NS) / 1e9
        start = time.time_ns()
        try:
            code, output = await self._probe(container, argv, limit)
        except TimeoutError:
            code, output = -1, f"Health check exceeded timeout ({limit:g}s)".encode()
        except PannierError as error:
            code, output = -1, error.message.encode()
        text = output[:KEPT_OUTPUT].decode(errors="replace")
        return HealthProbe(start, time.time_ns(), code, text)

    async def _note(self, container: Container, check: Healthcheck, probe: HealthProbe) -> None:
        health = container.state.health or Health()
        health.log = [*health.log, probe][-_KEPT_PROBES:]
        before = health.status
        if probe.exit_code == 0:
            health.failing_streak = 0
            health.status = "healthy"
        elif not self._starting(container, check):
            health.failing_streak += 1
            if health.failing_streak >= (check.retries or _RETRIES):
                health.status = "unhealthy"
        if health.status != before:
            self._ground.store.save(container)
            self._ground.publish(container, f"health_status: {health.status}")
            await container.notify()

    def _starting(self, container: Container, check: Healthcheck) -> bool:
        """Within the start period, and not healthy yet: failures do not count."""
        health = container.state.health
        age = time.time_ns() - container.state.started_ns
        return bool(health and health.status == "starting" and age < check.start_period)
