"""Starting an OS container again after its own reboot, while no daemon is there to do it.

The stored plan is carried out once more: same layers, addresses and names. With a daemon connected
the engine decides.
"""

from __future__ import annotations

import errno
import os
import sys

from pannier.base.errors import KernelError, PannierError
from pannier.runtime import channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pannier.runtime.container import Container
    from pannier.runtime.keeper import Keeper

_SIGHUP = 1  # how reboot(2) ends the init of a pid namespace (LINUX_REBOOT_CMD_RESTART)
_PAUSE = 0.05  # seconds: the old network namespace takes its interfaces down behind us
_ATTEMPTS = 40


def wanted(container: Container, record: Mapping[str, Any]) -> bool:
    """Whether *container* asked for a reboot, and may have it from us."""
    return bool(container.plan.get("replay")) and record["signal"] == _SIGHUP


def begin(keeper: Keeper, before: Container, attempt: int = 0) -> None:
    """Create it anew, then start it. A failure leaves the exit record for the daemon to find."""
    if keeper.containers.get(before.id, before) is not before:
        return  # a daemon has come meanwhile, and has started or discarded it
    plan = dict(before.plan)

    def created(result: dict[str, Any] | PannierError) -> None:
        if isinstance(result, PannierError):
            _give_up(keeper, before, result)
        else:
            _go(keeper, before.id)

    try:
        keeper.create(plan, created)
    except KernelError as error:
        if error.errno == errno.EEXIST and attempt < _ATTEMPTS:
            keeper.loop.call_later(_PAUSE, lambda: begin(keeper, before, attempt + 1))
            return
        _give_up(keeper, before, error)
    except PannierError as error:
        _give_up(keeper, before, error)


def _go(keeper: Keeper, container_id: str) -> None:
    container = keeper.get(container_id)
    container.replayed = True
    try:
        _log(keeper, container)
    except (PannierError, OSError) as error:
        # without a log the container is still worth more running than stopped
        print(f"replay {container_id}: {error}", file=sys.stderr, flush=True)
    keeper.start(container)


def _log(keeper: Keeper, container: Container) -> None:
    policy = container.plan.get("log")
    if policy is None:
        return
    path, max_size, max_files = policy
    tty = container.terminal.fd >= 0
    logger = channel.connect(os.path.join(keeper.run_directory, "logger.sock"))
    try:
        logger.request(
            "add",
            fds=[container.terminal.fd] if tty else [],
            container=container.id,
            path=path,
            max_size=max_size,
            max_files=max_files,
            tty=tty,
        )
    finally:
        logger.close()


def _give_up(keeper: Keeper, before: Container, error: PannierError) -> None:
    print(f"replay {before.id}: {error}", file=sys.stderr, flush=True)
    if before.exit is not None:
        os.makedirs(keeper.records.directory(before.id), 0o711, exist_ok=True)
        keeper.records.write_exit(before.id, before.exit)
        keeper.containers[before.id] = before
