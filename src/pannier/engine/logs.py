"""``logs`` and the output side of ``attach``: both follow the container's log file."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection
from typing import Protocol

from pannier.base.errors import Unsupported
from pannier.engine.ground import Ground
from pannier.engine.model import Container
from pannier.runtime.logfile import LogRecord, follow, output


class LogWish(Protocol):
    """What a caller may ask of ``logs``; times in nanoseconds since the epoch."""

    @property
    def stdout(self) -> bool: ...
    @property
    def stderr(self) -> bool: ...
    @property
    def follow(self) -> bool: ...
    @property
    def tail(self) -> int | None: ...
    @property
    def since_ns(self) -> int: ...
    @property
    def until_ns(self) -> int | None: ...


class LogReader:
    """Opens containers' logs."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    def path(self, container: Container) -> str:
        return str(self._ground.instance.container_data(container.id) / "container.log")

    def read(self, container: Container, wish: LogWish) -> AsyncIterator[LogRecord]:
        """
        Raises:
            Unsupported: its log driver keeps nothing.
        """
        if container.host_config.log_config.type == "none":
            raise Unsupported("configured logging driver does not support reading")
        return follow(
            self.path(container),
            since_ns=wish.since_ns,
            until_ns=wish.until_ns or 0,
            tail=wish.tail,
            follow=wish.follow,
            streams=_streams(stdout=wish.stdout, stderr=wish.stderr),
            stop=container.output_done,
        )

    def open(
        self, container: Container, streams: Collection[str], *, past: bool, live: bool
    ) -> AsyncIterator[tuple[str, bytes]]:
        """Stream and bytes for an attached client, from this call on.

        Args:
            past: begin with what was written before.
            live: go on until the container has ended and everything was given.
        """
        since = 0 if past else time.time_ns()
        return self._follow(container, streams, since, container.starts, live=live)

    async def _follow(
        self, container: Container, streams: Collection[str], since: int, starts: int, *, live: bool
    ) -> AsyncIterator[tuple[str, bytes]]:
        if live and container.output_done.is_set() and container.starts == starts:
            # Clients attach before they start: the run to come is meant.
            async with container.changed:
                await container.changed.wait_for(
                    lambda: container.starts > starts or container.removed.is_set()
                )
        async for piece in output(
            self.path(container),
            since_ns=since,
            follow=live,
            streams=streams,
            stop=container.output_done,
        ):
            container.release_log()
            yield piece


def _streams(*, stdout: bool, stderr: bool) -> set[str]:
    return {name for name, wanted in (("stdout", stdout), ("stderr", stderr)) if wanted}
