"""``exec``: further processes in a running container, with their own streams."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from pannier.base.errors import Conflict, NotFound, PannierError
from pannier.base.ids import new_id
from pannier.engine import spec, users
from pannier.engine.ground import Ground
from pannier.engine.kinds.base import merge_env
from pannier.engine.model import Container
from pannier.engine.streams import ProcessStreams
from pannier.oci import defaults as oci
from pannier.runtime.model import ExecExit, ExecRequest
from pannier.wire import containers as wire

_KEPT = 256
KEPT_OUTPUT = 4096  # bytes of a health check's output; more is read, and dropped
_CANNOT_RUN = 126  # Docker's code for all that is not "command not found"


@dataclass(slots=True)
class Exec:
    """One exec instance. ``exit_code`` is None until it has ended."""

    id: str
    container: Container
    config: wire.ExecConfig
    begun: bool = False
    pid: int = 0
    exit_code: int | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def outlived(self) -> bool:
        """Not started, and it cannot be any more."""
        return not self.begun and not self.container.running


class Execs:
    """Implements the API's ``Execs``; they are not stored: a new daemon does not know old ones."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._execs: dict[str, Exec] = {}

    async def create(self, ref: str, config: wire.ExecConfig) -> str:
        """
        Raises:
            Conflict: the container does not run, or is paused; Docker's wording.
        """
        container = self._running(ref)
        self._forget_old()
        made = Exec(new_id(), container, config)
        self._execs[made.id] = made
        return made.id

    def startable(self, exec_id: str) -> wire.ExecConfig:
        """
        Raises:
            Conflict: it was started before, or its container does not run.
            NotFound: there is none.
        """
        made = self._get(exec_id)
        if made.begun:
            raise Conflict(f"Error: Exec command {exec_id} is already running")
        self._running(made.container.id)
        return made.config

    async def start(
        self, exec_id: str, *, detach: bool = False, size: tuple[int, int] | None = None
    ) -> ProcessStreams | None:
        """Run it. Returns its streams unless *detach*.

        Raises:
            Conflict: it was started before, or the container is gone.
            PannierError: with Docker's exit code 126 or 127 in the field ``exit_code``.
        """
        self.startable(exec_id)
        made = self._get(exec_id)
        made.begun = True
        streams = ProcessStreams.open(
            tty=made.config.tty,
            stdin=made.config.attach_stdin and not detach,
            ended=made.ended,
        )
        try:
            await streams.run(self._ground.runtime, self._request(made, size))
        except BaseException as error:
            fields = error.fields if isinstance(error, PannierError) else {}
            code = fields.setdefault("exit_code", _CANNOT_RUN)
            made.exit_code = code if isinstance(code, int) else _CANNOT_RUN
            made.ended.set()
            await streams.close()
            raise
        made.pid = streams.pid
        self._ground.publish(made.container, f"exec_start: {' '.join(made.config.cmd)}")
        if detach:
            await streams.close()
            return None
        return streams

    def on_exit(self, ended: ExecExit) -> None:
        """Called by the runtime."""
        made = self._execs.get(ended.exec_id)
        if made:
            made.exit_code = ended.exit_code
            made.ended.set()
            self._ground.publish(made.container, "exec_die", exitCode=str(ended.exit_code))

    async def inspect(self, exec_id: str) -> dict[str, Any]:
        made = self._get(exec_id)
        config = made.config
        return {
            "ID": made.id,
            "Running": bool(made.pid) and made.exit_code is None,
            "ExitCode": made.exit_code,
            "Pid": made.pid,
            "ContainerID": made.container.id,
            "OpenStdin": config.attach_stdin,
            "OpenStdout": config.attach_stdout,
            "OpenStderr": config.attach_stderr,
            "CanRemove": False,
            "DetachKeys": "",
            "ProcessConfig": {
                "tty": config.tty,
                "entrypoint": config.cmd[0] if config.cmd else "",
                "arguments": config.cmd[1:],
                "privileged": config.privileged,
                "user": config.user,
            },
        }

    async def resize(self, exec_id: str, rows: int, columns: int) -> None:
        made = self._get(exec_id)
        if made.exit_code is None:
            await self._ground.runtime.resize(made.container.id, made.id, rows, columns)

    async def probe(self, container: Container, argv: list[str], limit: float) -> tuple[int, bytes]:
        """Run a health check.

        Args:
            limit: seconds; the process is killed after them.

        Raises:
            TimeoutError: it took longer.
        """
        exec_id = await self.create(container.id, wire.ExecConfig(cmd=argv, attach_stdout=True))
        made = self._get(exec_id)
        streams = await self.start(exec_id)
        assert streams is not None
        output = bytearray()
        try:
            async with asyncio.timeout(limit):
                async for _, chunk in streams.output():
                    output += chunk[: KEPT_OUTPUT - len(output)]
                await made.ended.wait()
        except TimeoutError:
            await self._ground.runtime.kill_exec(container.id, exec_id)
            raise
        finally:
            await streams.close()
            self._execs.pop(exec_id, None)
        return made.exit_code or 0, bytes(output)

    def _request(self, made: Exec, size: tuple[int, int] | None) -> ExecRequest:
        record = made.container.record
        roots = [self._ground.upper(record), *self._ground.roots(record)]
        defaults = record.root.defaults
        plan = self._ground.kinds[record.kind].process(record, defaults, roots)
        groups = record.host_config.group_add
        user = users.resolve(made.config.user or plan.user, groups, roots)
        caps = oci.ALL_CAPABILITIES if made.config.privileged else plan.capabilities
        term = ["TERM=xterm"] if made.config.tty else []
        rows, columns = size or made.config.console_size or (0, 0)
        return ExecRequest(
            id=made.container.id,
            exec_id=made.id,
            args=list(made.config.cmd),
            env=merge_env([f"HOME={user.home}", *term], plan.env, made.config.env),
            cwd=made.config.working_dir or plan.cwd,
            uid=user.uid,
            gid=user.gid,
            groups=list(user.groups),
            capabilities=list(caps),
            tty=made.config.tty,
            rows=rows,
            cols=columns,
            no_new_privileges=spec.no_new_privileges(record.host_config.security_opt),
        )

    def _running(self, ref: str) -> Container:
        container = self._ground.store.get(ref)
        if container.state.status == "paused":
            raise Conflict(
                f"Container {container.name} is paused, unpause the container before exec"
            )
        if not container.running:
            verb = "boot" if container.record.kind == "os" else "start"
            raise Conflict(
                f"container {container.id} is not running",
                hint=f"pannier {verb} {container.name}",
            )
        return container

    def _get(self, exec_id: str) -> Exec:
        made = self._execs.get(exec_id)
        if made is None:
            raise NotFound(f"No such exec instance: {exec_id}")
        return made

    def _forget_old(self) -> None:
        """Also those that nobody has started, once their container has come to an end."""
        ended = [i for i, made in self._execs.items() if made.ended.is_set() or made.outlived]
        for exec_id in ended[: max(0, len(ended) - _KEPT)]:
            del self._execs[exec_id]
