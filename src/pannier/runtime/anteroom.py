"""The small mount namespace in which children are born, and the keeper's own.

A child gets a copy of its parent's mounts. Copying and leaving the host's dozens costs time and
shows them to the child; here there are five: an empty root, proc and sysfs that hide nothing (the
kernel lets a user namespace mount its own only beside such), an empty directory for masks.

That copy is also what locks: when a mount namespace is copied into one of another user namespace,
flags like read-only can never be cleared again in the copy, whatever capabilities a process has
there (mount_namespaces(7), "Restrictions on mount namespaces"; ``lock_mnt_tree`` in
fs/namespace.c). Detached mounts that are handed to a child come without. Where that matters, the
child is born in a copy of the small namespace that has them below /b, see ``with_mounts``.

    /r     where the container's root is attached before pivot_root
    /d     device nodes, to be bound where mknod is refused; read-only, for all containers share
           them: their owner and mode cannot be changed, while the devices can be written
    /e     empty and read-only
    /b     sources of bind mounts by slot number, in such a copy only
    /proc  /sys
"""

from __future__ import annotations

import os
import stat
import sys

from pannier.kernel import _libc, mount, namespaces
from pannier.kernel._libc import CLONE_NEWNS, MNT_DETACH, MOUNT_ATTR_RDONLY, MS_REC, MS_SLAVE
from pannier.runtime.rootfs import SLOTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MARK = "--mounts-of-host="
# Name, major and minor of the nodes that every container has (devices.txt of the kernel).
_NODES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)


def isolate(argv: Sequence[str]) -> int:
    """Move this process into a mount namespace of its own and run it from a read-only interpreter.

    A container that gets hold of our ``/proc/PID/exe`` then cannot overwrite the host's Python
    (CVE-2019-5736, also in its form ``#!/proc/self/exe``). Mounts of the host still arrive here.

    Args:
        argv: of this process, after the interpreter's own options.

    Returns:
        An fd of the mount namespace it came from. The first call executes the program anew and
        does not return.
    """
    if argv[-1].startswith(_MARK):
        fd = int(argv[-1].removeprefix(_MARK))
        os.set_inheritable(fd, False)
        return fd
    before = namespaces.open_namespace("self", "mount")
    os.set_inheritable(before, True)
    _libc.unshare(CLONE_NEWNS)
    _libc.mount(None, "/", None, MS_REC | MS_SLAVE)
    program = os.path.realpath(sys.executable)
    tree = mount.clone_tree(program, recursive=False)
    mount.set_attributes(tree, MOUNT_ATTR_RDONLY, 0)
    _libc.move_mount(tree, "", _libc.AT_FDCWD, program)
    # argv[0] stays as it was: from it Python finds its library, in a virtual environment too
    arguments = [sys.executable, "-I", "-S", *argv, f"{_MARK}{before}"]
    return os.execve(program, arguments, dict(os.environ))


_VISITED = ("network", "ipc", "uts", "pid", "cgroup")


def _home(kind: str) -> tuple[int, int]:
    return namespaces.open_namespace("self", kind), namespaces.TYPES[kind][0]


class Anteroom:
    """Makes the small mount namespace; keeps fds of all that a parent of containers visits.

    Args:
        host: fd of the host's mount namespace, where sources of bind mounts are looked up and
            propagation works.
    """

    def __init__(self, host: int) -> None:
        self.host = host
        self.own = namespaces.open_namespace("self", "mount")
        self.small = self._make()
        self.homes = [(self.own, CLONE_NEWNS), *(_home(kind) for kind in _VISITED)]

    def _make(self) -> int:
        proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        _libc.unshare(CLONE_NEWNS)
        try:
            self._furnish()
            return os.open("self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
        finally:
            _libc.setns(self.own, CLONE_NEWNS)
            os.chdir("/")
            os.close(proc)

    def with_mounts(self, mounts: Mapping[int, int]) -> int:
        """A copy of the small mount namespace with some mounts for a child to be born with.

        Args:
            mounts: fds of detached mounts, with their final attributes, by slot number.

        Returns:
            An fd of the namespace, which goes with it.
        """
        with namespaces.visiting([(self.small, CLONE_NEWNS)], self.homes):
            _libc.unshare(CLONE_NEWNS)
            _libc.mount("pannier", SLOTS, "tmpfs", 0, "mode=755,size=1m")
            for slot, fd in mounts.items():
                _libc.move_mount(fd, "", _libc.AT_FDCWD, _make_slot(slot, like=fd))
            return namespaces.open_namespace("self", "mount")

    def _furnish(self) -> None:
        _libc.mount(None, "/", None, MS_REC | _libc.MS_PRIVATE)
        top = "/tmp"
        _libc.mount("pannier", top, "tmpfs", 0, "mode=755,size=1m")
        os.chdir(top)
        for name in ("r", "d", "e", "b", "proc", "sys"):
            os.mkdir(name, 0o755)
        for name, major, minor in _NODES:
            os.mknod(f"d/{name}", stat.S_IFCHR | 0o666, os.makedev(major, minor))
            os.chmod(f"d/{name}", 0o666)
        _libc.mount("proc", "proc", "proc")
        _libc.mount("sysfs", "sys", "sysfs")
        for name in ("d", "e"):
            _close_for_writing(name)
        _libc.pivot_root(".", ".")
        _libc.umount2(".", MNT_DETACH)
        os.chdir("/")


def _make_slot(slot: int, *, like: int) -> str:
    path = f"{SLOTS}/{slot}"
    if stat.S_ISDIR(os.fstat(like).st_mode):
        os.mkdir(path)
    else:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    return path


def _close_for_writing(path: str) -> None:
    """Mounts bound from it, in a container, will be read-only as well."""
    tree = mount.clone_tree(path, recursive=False)
    mount.set_attributes(tree, MOUNT_ATTR_RDONLY, 0)
    _libc.move_mount(tree, "", _libc.AT_FDCWD, path)
    os.close(tree)
