"""Facts about processes and the steps with which one becomes another user or program."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct

from pannier.base.errors import KernelError
from pannier.kernel import _libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CLD_EXITED = 1

# struct pidfd_info of linux/pidfd.h in its first version: the exit status is its last field
_PIDFD_GET_INFO = 0xC040FF0B
_PIDFD_INFO_EXIT = 1 << 3
_PIDFD_INFO_SIZE = 64

SIGHUP, SIGINT, SIGKILL = 1, 2, 9


def start_time(pid: int) -> int:
    """When *pid* started, in clock ticks after boot (field 22 of proc_pid_stat(5)).

    Together with the boot id it tells a process from a later one with the same number.

    Raises:
        ProcessLookupError: there is no such process.
    """
    try:
        content = read_file(f"/proc/{pid}/stat")
    except FileNotFoundError as error:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), str(pid)) from error
    # the command, in parentheses, may hold blanks and parentheses itself
    return int(content[content.rindex(b")") + 2 :].split()[19])


def boot_id() -> str:
    """The random id of this boot of the kernel."""
    return read_file("/proc/sys/kernel/random/boot_id").decode().strip()


def read_file(path: str) -> bytes:
    """The whole content of a small kernel file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.read(fd, 65536)
        while part := os.read(fd, 65536):
            content += part
        return content
    finally:
        os.close(fd)


def reap(pidfd: int) -> tuple[int, int] | None:
    """(exit code, signal) of the ended child behind *pidfd*, one of them 0; None while it runs.

    Raises:
        ChildProcessError: not a child of this process, or reaped already.
    """
    result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    if result is None:
        return None
    if result.si_code == _CLD_EXITED:
        return result.si_status, 0
    return 0, result.si_status


def open_pidfd(pid: int, started: int) -> int | None:
    """A pidfd of the process that had *pid* and start time *started*; None if it is gone."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        if start_time(pid) == started:
            return fd
    except ProcessLookupError:
        pass
    os.close(fd)
    return None


def pid_of(pidfd: int) -> int:
    """The number, in our pid namespace, of the process behind *pidfd*.

    Raises:
        ProcessLookupError: it has ended.
    """
    for line in read_file(f"/proc/self/fdinfo/{pidfd}").splitlines():
        if line.startswith(b"Pid:") and int(line[4:]) > 0:
            return int(line[4:])
    raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))


def exit_after_reaping(pidfd: int) -> tuple[int, int] | None:
    """Like ``reap``, for a process that another has reaped (PIDFD_GET_INFO, Linux 6.15).

    Returns:
        None if this kernel does not tell, or it runs.
    """
    info = bytearray(struct.pack("=Q", _PIDFD_INFO_EXIT).ljust(_PIDFD_INFO_SIZE, b"\0"))
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except OSError:
        return None
    if not struct.unpack_from("=Q", info)[0] & _PIDFD_INFO_EXIT:
        return None
    status = struct.unpack_from("=i", info, _PIDFD_INFO_SIZE - 4)[0]
    if os.WIFSIGNALED(status):
        return 0, os.WTERMSIG(status)
    return os.WEXITSTATUS(status), 0


def set_user(uid: int, gid: int, groups: Sequence[int]) -> None:
    """Become another user, keeping the permitted capabilities until they are set explicitly."""
    _libc.prctl(_libc.PR_SET_KEEPCAPS, 1)
    for call, arguments in (
        (os.setgroups, (list(groups),)),
        (os.setresgid, (gid, gid, gid)),
        (os.setresuid, (uid, uid, uid)),
    ):
        try:
            call(*arguments)
        except OSError as error:
            raise KernelError(error.errno or 0, call.__name__, str(arguments)) from error


def program_candidates(name: str, environment: Mapping[str, str], default_path: str) -> list[str]:
    """The paths to try for the program *name*, as execvp(3) does."""
    if "/" in name:
        return [name]
    directories = environment.get("PATH", default_path).split(":")
    return [f"{directory or '.'}/{name}" for directory in directories]


def find_program(name: str, environment: Mapping[str, str], default_path: str) -> str:
    """The path of the program *name* for the current user and root directory.

    Raises:
        FileNotFoundError: there is none.
        PermissionError: there is one that may not be executed.
        IsADirectoryError: it is a directory.
    """
    refused: OSError | None = None
    for path in program_candidates(name, environment, default_path):
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                refused = refused or error
            continue
        if stat.S_ISDIR(mode):
            refused = refused or IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        elif not os.access(path, os.X_OK, effective_ids=False):
            refused = refused or PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        else:
            return path
    raise refused or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
