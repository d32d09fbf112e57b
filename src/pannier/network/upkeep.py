"""Putting rules back when somebody else threw them away: ``nft flush ruleset``, a restart of
Docker, firewalld or ufw. Woken by the kernel, so idle costs nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from pannier.base.errors import PannierError
from pannier.kernel.netfilter import Changes

_log = logging.getLogger(__name__)
_SETTLE_S = 0.3  # Docker changes its rules one by one


class Upkeep:
    """Calls *check* some time after another process changed the host's rules."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._changes: Changes | None = None
        self._pending: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to watch; needs a running event loop."""
        self._changes = Changes()
        asyncio.get_running_loop().add_reader(self._changes.fileno(), self._readable)

    def stop(self) -> None:
        if self._changes is not None:
            asyncio.get_running_loop().remove_reader(self._changes.fileno())
            self._changes.close()
            self._changes = None
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None

    def _readable(self) -> None:
        if self._changes is None or not self._changes.by_others() or self._pending is not None:
            return
        self._pending = asyncio.get_running_loop().call_later(_SETTLE_S, self._run)

    def _run(self) -> None:
        self._pending = None
        try:
            self._check()
        except (PannierError, OSError) as error:
            _log.error("cannot put firewall rules back: %s", error)
