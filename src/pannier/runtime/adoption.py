"""A new keeper takes over what an earlier one has left: containers by their records on disk.

They are no children of it, so their ends are seen by pidfd, and their exit codes come from the
supervisor, which reaps them, or from the kernel itself (Linux 6.15).
"""

from __future__ import annotations

from pannier.kernel import process
from pannier.runtime.container import Container
from pannier.runtime.records import EXIT, PID, PLAN
from pannier.runtime.removal import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pannier.runtime.keeper import Keeper

_POLL = 0.01  # seconds between looks for the supervisor's record
_PATIENCE = 200  # looks: the supervisor itself may be starting again


def adopt(keeper: Keeper) -> None:
    """Find all containers; remove what is left of another boot or of a creation cut short."""
    for container_id in list(keeper.records.all()):
        plan = keeper.records.read(container_id, PLAN)
        record = keeper.records.read(container_id, PID)
        if record is not None and record.get("boot_id") != keeper.records.boot_id:
            remove_tree(keeper.records.directory(container_id))
        elif plan is None:
            keeper.records.erase(container_id)
        elif record is None:
            _clean_up(keeper, Container(container_id, plan, keeper.store))
        else:
            _adopt_one(keeper, Container(container_id, plan, keeper.store), record)


def _clean_up(keeper: Keeper, container: Container) -> None:
    """A creation cut short: its child has ended with the keeper, the rest has to go."""
    container.fetch()
    container.close()
    keeper.records.erase(container.id)
    if container.cgroup:
        manager = keeper.host.cgroups(container.cgroup)
        manager.kill(container.cgroup)
        manager.remove(container.cgroup, timeout=1.0)


def _adopt_one(keeper: Keeper, container: Container, record: dict[str, int]) -> None:
    keeper.containers[container.id] = container
    pidfd = process.open_pidfd(record["pid"], record["start_time"])
    container.adopt(record, -1 if pidfd is None else pidfd)
    if pidfd is not None:
        keeper.loop.add(pidfd, lambda: settle(keeper, container))
    else:
        settle(keeper, container)


def settle(keeper: Keeper, container: Container, looks: int = 0) -> None:
    """Find out how a container that is no child of ours has ended."""
    if container.pidfd >= 0:
        keeper.loop.remove(container.pidfd)
    record = keeper.records.read(container.id, EXIT)
    if record is not None and record.get("pid") == container.pid:
        keeper.ended(container, {"known": True, **record}, write=False)
        return
    seen = process.exit_after_reaping(container.pidfd) if container.pidfd >= 0 else None
    if seen is not None:
        keeper.ended(container, keeper.exit_record(container, *seen))
    elif looks < _PATIENCE:
        keeper.loop.call_later(_POLL, lambda: settle(keeper, container, looks + 1))
    else:
        unknown = keeper.exit_record(container, 255, 0, known=False)
        keeper.ended(container, unknown)
