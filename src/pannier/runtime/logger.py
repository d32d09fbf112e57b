"""The logger process: reads what containers print, writes it to their logs, never loses a byte.

Started as ``python -I -S logger.py <run directory>`` by the supervisor. It knows pipes, terminals
and log files, nothing else of a container. It can be killed at any time: pipes and terminals have a
second holder in the supervisor, and what was half-written is finished by the next logger.

Requests: ``add``, ``remove``, ``has``, ``list``. Event: ``eof`` when all writers are gone and
everything is in the log.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import sys

if __name__ == "__main__":  # started by path, without site: the package is not found otherwise
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from pannier.base import jsonlite
from pannier.base.atomic import write_atomic
from pannier.base.errors import InvalidArgument, KernelError
from pannier.kernel.inotify import IN_CREATE, IN_MOVED_TO, Inotify
from pannier.runtime import channel
from pannier.runtime.fdstore import FdStore
from pannier.runtime.logwriter import STREAMS, LogWriter
from pannier.runtime.loop import Loop, Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pannier.runtime.loop import Request

_EVENTS = select.EPOLLIN | select.EPOLLET
_TURN = 16  # pieces of 64 KiB that one stream may move before the others have their turn
_TTY_CHUNK = 1 << 16
_RETRY = 1.0  # seconds, when a log cannot be written (disk full); the container waits meanwhile
_READER_WAIT = 0.005  # seconds until we look again whether a slow reader has come along
_STATE = "log.json"
_STAGING = "log.stage"
_EXIT = "exit.json"
_TIOCGPTPEER = 0x5441


class Source:
    """One stream of one container: a pipe, or a terminal."""

    def __init__(self, fd: int, stream: int) -> None:
        self.fd = fd
        self.stream = stream
        self.ended = False
        self.waiting = False  # for a slow reader of the log

    def pump(self, writer: LogWriter) -> bool:
        """Move one piece; False when there is nothing (more) to move now."""
        try:
            moved = writer.move(self.fd, self.stream)
        except BlockingIOError:
            return False
        self.ended = moved == 0
        return not self.ended

    def container_exited(self) -> None:
        """A pipe tells its end itself."""

    def close(self) -> None:
        os.close(self.fd)


class Terminal(Source):
    """A pty master. Its other side may be closed and opened again (every getty does), so only the
    container's exit ends it. Until then this process keeps the other side open: a master without
    one reports hang-up all the time.
    """

    def __init__(self, fd: int) -> None:
        super().__init__(fd, 0)
        os.set_blocking(fd, False)  # for all that share it: there is no way to a file of our own
        self._peer = -1
        self._exited = False
        self._hold()

    def _hold(self) -> None:
        if self._peer >= 0:
            os.close(self._peer)
        try:
            flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
            self._peer = fcntl.ioctl(self.fd, _TIOCGPTPEER, flags)
        except OSError:  # its devpts is gone: then nobody else can open it either
            self._peer = -1

    def pump(self, writer: LogWriter) -> bool:
        try:
            data = os.read(self.fd, _TTY_CHUNK)
        except BlockingIOError:
            self.ended = self._exited
            return False
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self._hung_up()
            return False
        if self.ended:  # it was started again on the same terminal
            self._exited = self.ended = False
        writer.copy(data, self.stream)
        return True

    def _hung_up(self) -> None:
        """The session's leader is gone: the kernel has cut off every other side, ours too."""
        self.ended = self._exited
        if not self.ended:
            self._hold()

    def container_exited(self) -> None:
        self._exited = True

    def close(self) -> None:
        if self._peer >= 0:
            os.close(self._peer)
        super().close()


class Container:
    """The log of one container and where it comes from."""

    def __init__(self, container_id: str, writer: LogWriter, sources: list[Source]) -> None:
        self.id = container_id
        self.writer = writer
        self.sources = sources
        self.stuck = False
        self.told = False  # eof was sent

    @property
    def ended(self) -> bool:
        return all(source.ended for source in self.sources)


class Logger:
    """The process: containers by id, requests, and the events of their pipes."""

    def __init__(self, run: str) -> None:
        self._run = run
        self.loop = Loop()
        self._containers: dict[str, Container] = {}
        self._exits = Inotify()
        self._watches: dict[int, str] = {}
        self._store = FdStore(self.loop, os.path.join(run, "supervisor.sock"))
        self.loop.add(self._exits.fileno(), self._exit_recorded)
        self._server = Server(
            self.loop,
            os.path.join(run, "logger.sock"),
            {
                "add": self._on_add,
                "remove": self._on_remove,
                "has": self._on_has,
                "list": self._on_list,
            },
        )
        self._resume()

    # ------------------------------------------------------------ requests

    def _on_add(self, request: Request) -> None:
        """Read a container's output from now on.

        Fields: ``container``, ``path``, ``max_size`` (bytes), ``max_files``; with a file descriptor
        if it has a terminal, else its pipes are found in the run directory.
        """
        container_id = _checked_id(request["container"])
        masters = request.take_fds()
        fresh = masters or self._open_pipes(container_id)
        state = {
            "path": request["path"],
            "max_size": int(request["max_size"]),
            "max_files": int(request["max_files"]),
            "tty": bool(masters),
        }
        # New ends are open before the old ones close: a pipe without any forgets its content.
        self._forget(container_id)
        try:
            write_atomic(self._file(container_id, _STATE), jsonlite.encode(state))
            self._begin(container_id, state, fresh)
        except OSError:
            _close_all(fresh)
            raise
        self._store.store(f"log:{container_id}", fresh)

    def _on_remove(self, request: Request) -> None:
        """Write what is there, then forget the container. Its log stays."""
        container_id = _checked_id(request["container"])
        container = self._containers.get(container_id)
        if container is not None:
            self._pump_all(container)
        self._forget(container_id)
        self._store.drop(f"log:{container_id}")
        _unlink(self._file(container_id, _STATE))
        _unlink(self._file(container_id, _STAGING))

    def _on_has(self, request: Request) -> dict[str, Any]:
        """Whether output of the container may still come."""
        container = self._containers.get(_checked_id(request["container"]))
        return {"has": container is not None and not container.told}

    def _on_list(self, request: Request) -> dict[str, Any]:
        """All containers; ``stuck`` is true where the log cannot be written."""
        return {
            "containers": [
                {"id": one.id, "path": one.writer.path, "ended": one.told, "stuck": one.stuck}
                for one in self._containers.values()
            ]
        }

    # ------------------------------------------------------------ beginning and end

    def _file(self, container_id: str, name: str) -> str:
        return os.path.join(self._run, "containers", container_id, name)

    def _open_pipes(self, container_id: str) -> list[int]:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        fds: list[int] = []
        try:
            for name in STREAMS:
                fds.append(os.open(self._file(container_id, name), flags))  # noqa: PERF401
        except OSError as error:
            _close_all(fds)
            raise KernelError(error.errno or errno.EIO, "open", error.filename) from error
        return fds

    def _begin(self, container_id: str, state: dict[str, Any], fds: list[int]) -> None:
        writer = LogWriter(
            state["path"],
            state["max_size"],
            state["max_files"],
            self._file(container_id, _STAGING),
        )
        sources: list[Source]
        if state["tty"]:
            sources = [Terminal(fds[0])]
            directory = os.path.join(self._run, "containers", container_id)
            watch = self._exits.add(directory, IN_MOVED_TO | IN_CREATE)
            self._watches[watch] = container_id
        else:
            sources = [Source(fd, stream) for stream, fd in enumerate(fds)]
        container = Container(container_id, writer, sources)
        self._containers[container_id] = container
        for source in sources:
            self.loop.add(source.fd, self._pumper(container, source), _EVENTS)

    def _resume(self) -> None:
        """Go on where an earlier logger was cut off."""
        try:
            ids = os.listdir(os.path.join(self._run, "containers"))
        except FileNotFoundError:
            return
        for container_id in ids:
            try:
                with open(self._file(container_id, _STATE), "rb") as file:
                    state = jsonlite.decode(file.read())
            except (FileNotFoundError, NotADirectoryError):
                continue
            try:
                self._resume_one(container_id, state)
            except OSError as error:
                print(f"logger: {container_id[:12]}: {error}", file=sys.stderr)

    def _resume_one(self, container_id: str, state: dict[str, Any]) -> None:
        fds = self._store.fetch(f"log:{container_id}")
        if not fds and not state["tty"]:
            fds = self._open_pipes(container_id)
            self._store.store(f"log:{container_id}", fds)
        if not fds:
            return
        self._begin(container_id, state, fds)
        if os.path.exists(self._file(container_id, _EXIT)):
            self._container_exited(container_id)

    def _forget(self, container_id: str) -> None:
        container = self._containers.pop(container_id, None)
        if container is None:
            return
        for watch in [w for w, owner in self._watches.items() if owner == container_id]:
            del self._watches[watch]
            try:
                self._exits.remove(watch)
            except KernelError:  # the directory is gone, and the watch with it
                continue
        for source in container.sources:
            self.loop.remove(source.fd)
            source.close()
        container.writer.close()

    # ------------------------------------------------------------ output

    def _pumper(self, container: Container, source: Source) -> Callable[[], None]:
        return lambda: self._pump(container, source)

    def _pump(self, container: Container, source: Source) -> None:
        """Move a fair share. Events are edge-triggered, so what is left comes by a timer, and a
        pipe whose writers are gone stays registered without being reported for ever."""
        if self._containers.get(container.id) is not container or container.stuck:
            return
        try:
            for _ in range(_TURN):
                if container.writer.waits():
                    self._wait_for_reader(container, source)
                    return
                if not source.pump(container.writer):
                    break
            else:
                self.loop.call_later(0, self._pumper(container, source))
        except OSError as error:
            self._get_stuck(container, error)
            return
        self._tell(container)

    def _wait_for_reader(self, container: Container, source: Source) -> None:
        if source.waiting:
            return
        source.waiting = True

        def look_again() -> None:
            source.waiting = False
            self._pump(container, source)

        self.loop.call_later(_READER_WAIT, look_again)

    def _pump_all(self, container: Container) -> None:
        try:
            for source in container.sources:
                while source.pump(container.writer):
                    pass
        except OSError as error:
            print(f"logger: {container.id[:12]}: {error}", file=sys.stderr)

    def _tell(self, container: Container) -> None:
        if container.ended and not container.told:
            container.told = True
            self._server.broadcast(channel.event("eof", container=container.id))
        elif not container.ended:
            container.told = False

    def _get_stuck(self, container: Container, error: OSError) -> None:
        if not container.stuck:
            print(f"logger: {container.writer.path}: {error}", file=sys.stderr)
        container.stuck = True
        self.loop.call_later(_RETRY, lambda: self._try_again(container))

    def _try_again(self, container: Container) -> None:
        if self._containers.get(container.id) is not container:
            return
        try:
            container.writer.recover()
        except OSError as error:
            self._get_stuck(container, error)
            return
        container.stuck = False
        for source in container.sources:
            self._pump(container, source)

    def _exit_recorded(self) -> None:
        for watch, _, name in self._exits.read():
            if name == _EXIT and watch in self._watches:
                self._container_exited(self._watches[watch])

    def _container_exited(self, container_id: str) -> None:
        container = self._containers[container_id]
        for source in container.sources:
            source.container_exited()
            self._pump(container, source)


def _checked_id(value: object) -> str:
    """Ids become part of a path."""
    text = str(value)
    if not text.isalnum():
        raise InvalidArgument(f"not a container id: {text!r}")
    return text


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def main() -> None:
    Logger(sys.argv[1]).loop.run()


if __name__ == "__main__":
    main()
