"""``start``: everything a container needs is made ready, then its first process may run.

Order: network addresses, files, the child with all its namespaces (it waits), the log's reader,
published ports, and at last the go. Each step can be taken back, so a failed start leaves nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pannier.base.errors import Conflict, InvalidArgument, NotFound, NotModified, PannierError
from pannier.base.undo import AsyncUndoStack
from pannier.base.units import parse_size
from pannier.engine import namefiles, spec
from pannier.engine.ground import Ground
from pannier.engine.kinds.base import ProcessPlan
from pannier.engine.model import Container, Health, Record
from pannier.engine.users import User
from pannier.engine.users import resolve as resolve_user
from pannier.oci.runtime import Mount
from pannier.runtime.model import Launch, LogPolicy, Rootfs, Stdio

_JOINS = "container:"
_LOG_SIZE = 10 << 20
_LOG_FILES = 3


class Starter:
    """Starts containers; the caller holds the container's lock."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def start(self, container: Container) -> None:
        """
        Raises:
            NotModified: it runs already.
            NotFound: it was removed while the caller waited for its lock.
            Conflict: it is paused; Docker's wording.
            PannierError: what failed; the state says ``exited`` with Docker's code 126, 127 or 128.
        """
        if container.removed.is_set():
            raise NotFound(f"No such container: {container.id}")
        if container.state.status == "paused":
            raise Conflict("cannot start a paused container, try unpause instead")
        if container.running:
            raise NotModified(f"container {container.name} is already running")
        container.exited.clear()
        container.output_done.clear()
        container.starts += 1
        try:
            async with AsyncUndoStack() as undo:
                await self._start(container, undo)
                undo.commit()
        except BaseException as error:
            # Whatever it was, also a vanished device or the daemon's end: nobody may wait for ever.
            await self._failed(container, error)
            raise
        self._ground.links.announce(container)
        self._ground.publish_start(container)
        await container.notify()

    async def _start(self, container: Container, undo: AsyncUndoStack) -> None:
        record = container.record
        roots = self._ground.roots(record)
        plan = self._ground.kinds[record.kind].process(record, record.root.defaults, roots)
        upper = self._ground.upper(record)
        user = resolve_user(plan.user, record.host_config.group_add, [upper, *roots])
        interfaces = await self._ground.links.attach(container)
        undo.push(self._ground.links.detach, container)
        launch = self._launch(record, plan, user, roots, interfaces)
        started = await self._ground.runtime.create(launch)
        undo.push(self._abandon, record.id)
        await self._watch_output(launch)
        # From here on; the end of an earlier run's output may have been told late.
        container.output_done.clear()
        if launch.log is not None:
            container.hold_log(launch.log.path)
        await container.notify()  # who is attached reads from the first byte on
        await self._ground.links.publish(container)
        self._mark_running(container, started.pid)
        container.start_untold = True
        await self._ground.runtime.start(record.id)

    async def _abandon(self, container_id: str) -> None:
        await self._ground.runtime.discard(container_id)
        await self._ground.logger.remove(container_id)

    async def _watch_output(self, launch: Launch) -> None:
        if launch.log is None:
            return
        policy = launch.log
        if not launch.stdio.tty:
            await self._ground.logger.add(launch.id, policy.path, policy.max_size, policy.max_files)
            return
        master = await self._ground.runtime.stdin(launch.id)
        try:
            await self._ground.logger.add(
                launch.id, policy.path, policy.max_size, policy.max_files, tty_fd=master
            )
        finally:
            os.close(master)

    def _name_files(self, record: Record, interfaces: Sequence[Any]) -> list[Mount]:
        """Its own, or those of the container whose network it joins."""
        owner = record
        while owner.host_config.network_mode.startswith(_JOINS):
            peer = owner.host_config.network_mode.removeprefix(_JOINS)
            owner = self._ground.store.get(peer).record
        directory = self._ground.instance.container_data(owner.id)
        if owner is not record:
            return namefiles.mounts(directory)
        addresses = [a.partition("/")[0] for i in interfaces for a in i["addresses"]]
        gateway = next((i["gateway"] for i in interfaces if i["gateway"]), None)
        return namefiles.write(directory, record, addresses, gateway)

    def _launch(
        self,
        record: Record,
        plan: ProcessPlan,
        user: User,
        roots: Sequence[str],
        interfaces: Sequence[Any],
    ) -> Launch:
        directory = self._ground.instance.container_data(record.id)
        upper = self._ground.upper(record)
        cgroup = self._ground.cgroup(record)
        around = spec.Surroundings(
            user=user,
            peer_pid=self._peer_pid,
            files=self._name_files(record, interfaces),
            cgroup=cgroup,
        )
        host = record.host_config
        rows, columns = host.console_size
        return Launch(
            id=record.id,
            spec=spec.build(record, plan, around),
            rootfs=Rootfs(
                lowers=list(roots),
                upper=upper,
                work=str(Path(upper).parent / "work"),
                volatile=host.auto_remove,
                readonly=host.readonly_rootfs,
            ),
            interfaces=list(interfaces),
            stdio=Stdio(
                tty=plan.terminal,
                stdin=record.config.open_stdin,
                rows=rows,
                cols=columns,
                uid=user.uid,
                gid=user.gid,
            ),
            log=log_policy(directory, host.log_config.config),
            init=bool(host.init),
            cgroup=cgroup,
            cgroup_owned=plan.cgroup_owned,
            replay=plan.cgroup_owned,
        )

    def _peer_pid(self, reference: str) -> int:
        peer = self._ground.store.get(reference)
        if not peer.running:
            raise Conflict(f"cannot join namespace of a non running container: {peer.name}")
        return peer.state.pid

    def _mark_running(self, container: Container, pid: int) -> None:
        """Before the go: its exit may be told at any moment after, and is matched by the pid."""
        state = container.state
        state.pid = pid
        state.status = "running"
        state.started_ns = time.time_ns()
        state.exit_code, state.error, state.oom_killed = 0, "", False
        state.stopped_by_user = False
        check = container.config.healthcheck
        has_check = check is not None and check.test and check.test[0] != "NONE"
        state.health = Health() if has_check else None
        self._ground.store.save(container)

    async def _failed(self, container: Container, error: BaseException) -> None:
        state = container.state
        fields = error.fields if isinstance(error, PannierError) else {}
        code = fields.get("exit_code")
        state.status = "exited" if state.finished_ns else "created"
        state.exit_code = code if isinstance(code, int) else 128
        state.error = error.message if isinstance(error, PannierError) else str(error)
        state.pid = 0
        container.start_untold = False
        container.exited.set()
        container.output_done.set()
        self._ground.store.save(container)
        await container.notify()


def log_policy(directory: Path, options: Mapping[str, str]) -> LogPolicy:
    """``--log-opt max-size=10m max-file=3``; rotation is on unless it is set to -1.

    Raises:
        InvalidArgument: not a size or a number.
    """
    size = options.get("max-size", str(_LOG_SIZE))
    files = options.get("max-file", str(_LOG_FILES))
    if not files.isdigit() or not int(files):
        raise InvalidArgument(f"invalid value for max-file: {files}")
    limit = 0 if size == "-1" else parse_size(size)
    return LogPolicy(path=str(directory / "container.log"), max_size=limit, max_files=int(files))
