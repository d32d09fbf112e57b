"""The pipes of a container without a terminal: named ones, so that readers may die and come back.

Standard output and error are opened for reading and writing by the container: nothing is lost and
no SIGPIPE comes while nobody reads; a full pipe only blocks. The logger opens them by name.
"""

from __future__ import annotations

import os
from contextlib import suppress

from pannier.kernel import idmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Plan = Mapping[str, Any]

_CLOEXEC = os.O_CLOEXEC


class Pipes:
    """Both ends of a container's standard files.

    Attributes:
        child: its three fds, to be closed here once it has them.
        stdin: the writing end, or -1.
        outputs: reading ends of stdout and stderr. Nobody reads them: they keep what the pipes
            hold until the logger has read it, even if the container and the logger are both gone.
    """

    def __init__(self, child: list[int], stdin: int, outputs: list[int]) -> None:
        self.child = child
        self.stdin = stdin
        self.outputs = outputs

    def close_child(self) -> None:
        for fd in self.child:
            os.close(fd)
        self.child = []

    def close(self) -> None:
        self.close_child()
        for fd in (self.stdin, *self.outputs):
            if fd >= 0:
                os.close(fd)
        self.stdin, self.outputs = -1, []


def open_pipes(directory: str, plan: Plan) -> Pipes:
    """Make and open the pipes in *directory*, given to the user of the process.

    Programs reopen /dev/stdout (nginx's logs do): in a user namespace that needs the pipe to
    belong to the mapped user.

    Raises:
        ValueError: the user has no place in the container's id map.
    """
    pipes = Pipes([], -1, [])
    if plan["stdio"]["tty"]:
        return pipes
    uid, gid = _owner(plan)
    try:
        if plan["stdio"]["stdin"]:
            path = _make(f"{directory}/stdin")
            # the reading end first and without waiting: a writing end needs a reader
            reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _CLOEXEC)
            pipes.child.append(reader)
            pipes.stdin = os.open(path, os.O_WRONLY | _CLOEXEC)
            os.set_blocking(reader, True)
            os.fchown(reader, uid, gid)
        else:
            pipes.child.append(os.open("/dev/null", os.O_RDONLY | _CLOEXEC))
        for name in ("stdout", "stderr"):
            path = _make(f"{directory}/{name}")
            pipes.child.append(os.open(path, os.O_RDWR | _CLOEXEC))
            os.fchown(pipes.child[-1], uid, gid)
            pipes.outputs.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK | _CLOEXEC))
    except OSError:
        pipes.close()
        raise
    return pipes


def _owner(plan: Plan) -> tuple[int, int]:
    stdio, maps = plan["stdio"], plan["maps"]
    if not maps:
        return stdio["uid"], stdio["gid"]
    return idmap.to_host(stdio["uid"], maps["uid"]), idmap.to_host(stdio["gid"], maps["gid"])


def _make(path: str) -> str:
    """A fresh pipe: one that is left from an earlier life may still have readers and writers."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    os.mkfifo(path, 0o600)
    return path
