"""The stager process: slow work that nobody should wait for, or that needs other namespaces.

Started as ``python -I -S stager.py <run directory>`` by the supervisor. It holds no state: a
directory that is to go is first renamed to end in ``.removing``, so whoever comes later can tell.

Requests: ``teardown`` (a container's cgroups and directories), ``connect`` and ``disconnect``
(network interfaces of a running container).
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys

if __name__ == "__main__":  # started by path, without site: the package is not found otherwise
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from pannier.base.errors import KernelError
from pannier.kernel import cgroup
from pannier.runtime import netsetup
from pannier.runtime.loop import LATER, Loop, Server
from pannier.runtime.removal import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pannier.runtime.loop import Request

_SUFFIX = ".removing"
_NICENESS = 10
_LINGER = 1.0  # seconds that a container's network may take to vanish by itself
_EMPTY_TIMEOUT = 10.0  # seconds for the processes of a killed cgroup to be gone
_GONE = (errno.ENOENT, errno.ENODEV)


class Stager:
    """The process: each request is done by a forked child, so that none waits for another."""

    def __init__(self, run: str) -> None:
        self._run = run
        self.loop = Loop()
        self._cgroups = cgroup.CgroupManager(cgroup.probe(), "")
        self._busy = 0
        self._ending = False
        self._server = Server(
            self.loop,
            os.path.join(run, "stager.sock"),
            {
                "teardown": self._on_teardown,
                "connect": self._on_connect,
                "disconnect": self._on_disconnect,
            },
        )
        self._end_on_sigterm()
        self._sweep()

    def _on_teardown(self, request: Request) -> dict[str, Any]:
        """Kill what lives in ``cgroups`` (paths) and remove them, then reply; ``paths``
        (directories) are out of the way by then and their content goes behind, as do ``links``."""
        paths = [moved for path in request.get("paths", []) if (moved := _move_away(path))]
        groups = [group for group in request["cgroups"] if self._exists(group)]
        if groups:
            self._in_child(request, lambda: self._remove_cgroups(groups))
        else:
            self._server.reply(request, {})
        if paths:
            self._in_child(None, lambda: _remove_trees(paths))
        links = request.get("links", [])
        if links:
            self.loop.call_later(_LINGER, lambda: self._remove_links(links))
        return LATER

    def _remove_links(self, hosts: list[str]) -> None:
        """A veth goes with its namespace, and that is cheapest. But closed connections whose other
        end is gone keep a namespace alive while TCP tries to tell it, for minutes."""
        left = [host for host in hosts if os.path.exists(f"/sys/class/net/{host}")]
        if left:
            self._in_child(None, lambda: netsetup.disconnect(left))

    def _exists(self, group: str) -> bool:
        return any(os.path.isdir(path) for path in self._cgroups.directories(group).values())

    def _remove_cgroups(self, groups: list[str]) -> None:
        for group in groups:
            self._cgroups.kill(group)
            self._cgroups.wait_empty(group, _EMPTY_TIMEOUT)
            self._cgroups.remove(group)

    def _on_connect(self, request: Request) -> dict[str, Any]:
        """Add ``interfaces`` to the network namespace of process ``pid``."""
        pid, interfaces = int(request["pid"]), request["interfaces"]
        self._in_child(request, lambda: netsetup.connect(pid, interfaces))
        return LATER

    def _on_disconnect(self, request: Request) -> dict[str, Any]:
        """Remove the links ``hosts``; ``remaining`` are what process ``pid`` keeps."""
        hosts, pid, remaining = request["hosts"], int(request.get("pid", 0)), request["remaining"]
        self._in_child(request, lambda: netsetup.disconnect(hosts, pid, remaining))
        return LATER

    # ------------------------------------------------------------ children

    def _in_child(self, request: Request | None, work: Callable[[], None]) -> None:
        """Fork, do *work* there, and answer *request* when it is done."""
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            os.close(read_end)
            _work_and_exit(work, write_end)
        os.close(write_end)
        self._busy += 1
        self.loop.add(read_end, lambda: self._child_ended(request, pid, read_end), select.EPOLLIN)

    def _child_ended(self, request: Request | None, pid: int, pipe: int) -> None:
        self.loop.remove(pipe)
        message = os.read(pipe, 4096).decode(errors="replace")
        os.close(pipe)
        _, status = os.waitpid(pid, 0)
        self._busy -= 1
        if request is not None:
            self._server.reply(request, _failure(message, status))
        elif status:
            print(f"stager: {message or status}", file=sys.stderr)
        self._end_if_idle()

    def _end_on_sigterm(self) -> None:
        """Finish what is under way first."""
        read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.set_wakeup_fd(write_end)
        self.loop.add(read_end, lambda: self._end(read_end))

    def _end(self, pipe: int) -> None:
        self.loop.remove(pipe)
        self._ending = True
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._ending and not self._busy:
            self.loop.stop()

    def _sweep(self) -> None:
        """Directories that an earlier stager did not finish."""
        directory = os.path.join(self._run, "containers")
        try:
            names = os.listdir(directory)
        except FileNotFoundError:
            return
        left = [os.path.join(directory, name) for name in names if name.endswith(_SUFFIX)]
        if left:
            self._in_child(None, lambda: _remove_trees(left))


def _move_away(path: str) -> str | None:
    moved = path + _SUFFIX
    try:
        os.rename(path, moved)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:  # a mount point, say: removed in place
            return path
        moved = f"{path}.{os.urandom(4).hex()}{_SUFFIX}"
        os.rename(path, moved)
    return moved


def _remove_trees(paths: list[str]) -> None:
    os.nice(_NICENESS)
    for path in paths:
        remove_tree(path)


def _work_and_exit(work: Callable[[], None], pipe: int) -> None:
    """In the child. It must never return into the loop of its parent."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        work()
        status = 0
    except OSError as error:
        what = getattr(error, "what", "system call")
        path = getattr(error, "path", None) or error.filename or ""
        os.write(pipe, f"{error.errno or errno.EIO}\n{what}\n{path}".encode()[:4096])
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        os.write(pipe, f"{errno.EIO}\nstager\n{type(error).__name__}".encode()[:4096])
    finally:
        os._exit(status)


def _failure(message: str, status: int) -> Exception | dict[str, Any]:
    if not message:
        return KernelError(errno.EINTR, "stager") if status else {}
    number, what, path = message.split("\n", 2)
    return KernelError(int(number), what, path or None)


def main() -> None:
    Stager(sys.argv[1]).loop.run()


if __name__ == "__main__":
    main()
