"""Start an engine that does not answer, and say clearly why when that does not work.

Only the instance named by the environment (PANNIER_RUN) is started, never a socket given by hand.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import sys
import time

from pannier.base.errors import Denied, PannierError, Unavailable
from pannier.client.bare import Connection, socket_path

_WAIT = 30.0  # seconds; a first start also makes the data directory and restores networks
_POLL = 0.02  # seconds between two looks at the socket
_LOG_LINES = 8


def connect_or_start(host: str | None, error: OSError) -> Connection:
    """Connect after a first attempt failed with *error*, starting the engine if that is sensible.

    Raises:
        Denied: the socket is there and this user may not use it, or may not start an engine.
        Unavailable: no engine and none could be started.
    """
    path = socket_path(host)
    if error.errno not in {errno.ENOENT, errno.ECONNREFUSED} or host or _named_by_environment():
        raise explain(path, error) from error
    if os.geteuid() != 0:
        raise Denied(
            f"no pannier engine runs here ({path}), and only root can start one",
            hint="start it with: sudo pannier info",
        ) from error
    return _start(path)


def explain(path: str, error: OSError) -> PannierError:
    """What a refused connection means."""
    if error.errno == errno.EACCES:
        return Denied(
            f"permission denied on {path}",
            hint="use sudo, or join the group: sudo usermod -aG pannier $USER, and log in again",
        )
    if error.errno in {errno.ENOENT, errno.ECONNREFUSED}:
        return Unavailable(
            f"no pannier engine listens on {path}",
            hint="without -H and PANNIER_HOST the engine is started as needed",
        )
    return Unavailable(f"cannot connect to {path}: {os.strerror(error.errno or 0)}")


def _named_by_environment() -> bool:
    return bool(os.environ.get("PANNIER_HOST"))


def _start(path: str) -> Connection:
    run = os.path.dirname(path)
    os.makedirs(run, mode=0o755, exist_ok=True)
    lock = os.open(os.path.join(run, "start.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Two commands at once start one engine: the second waits here and then finds it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return Connection(path)
        except OSError:
            log = os.path.join(run, "pannierd.log")
            return _await(path, _spawn(log), log)
    finally:
        os.close(lock)


def _spawn(log: str) -> int:
    """Start pannierd in a session of its own; returns its pid."""
    command = [sys.executable, "-I", "-m", "pannier.daemon"]
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        os.chdir("/")
        os.umask(0o022)
        null = os.open("/dev/null", os.O_RDWR)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for source, target in ((null, 0), (out, 1), (out, 2)):
            os.dup2(source, target)
        os.closerange(3, 256)
        os.execv(command[0], command)
    finally:
        os._exit(127)


def _await(path: str, pid: int, log: str) -> Connection:
    pidfd = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    deadline = time.monotonic() + _WAIT
    try:
        while time.monotonic() < deadline:
            ended = bool(poll.poll(_POLL * 1000))
            connection = _try(path)
            if connection is not None:
                return connection
            if ended:
                os.waitpid(pid, 0)
                raise _failure("pannierd ended while starting", log)
    finally:
        os.close(pidfd)
    raise _failure(f"pannierd did not answer within {_WAIT:.0f} s", log)


def _try(path: str) -> Connection | None:
    """Connected means accepted by the kernel's queue; an answer to a ping means served."""
    try:
        connection = Connection(path, _WAIT)
    except OSError:
        return None
    try:
        if connection.request("HEAD", "/_ping").status != 200:
            raise ConnectionResetError
        connection.socket.settimeout(None)
    except OSError:
        connection.close()
        return None
    return connection


def _failure(what: str, log: str) -> PannierError:
    try:
        with open(log, encoding="utf-8", errors="replace") as stream:
            tail = stream.readlines()[-_LOG_LINES:]
    except OSError:
        tail = []
    text = "".join(f"\n  | {line.rstrip()}" for line in tail)
    return Unavailable(what + text, hint=f"the whole log is {log}")
