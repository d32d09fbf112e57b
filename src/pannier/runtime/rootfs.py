"""The child's steps: making its root file system, device nodes, names and console.

Most run after pivot_root, in the container's namespaces, while the anteroom (``runtime.anteroom``)
still lies below: proc and sysfs can be mounted in a user namespace only as long as an untouched
one is visible. Every target is resolved by openat2(2) within the new root, so that a link in an
image leads nowhere else, and mounted on by file descriptor.
"""

from __future__ import annotations

import errno
import os
import stat

from pannier.base.errors import InvalidArgument, KernelError
from pannier.kernel import _libc, mount, tty
from pannier.kernel._libc import (
    AT_EMPTY_PATH,
    AT_RECURSIVE,
    MNT_DETACH,
    MOUNT_ATTR_RDONLY,
    MS_RDONLY,
    MS_REC,
    O_PATH,
    OPEN_TREE_CLONE,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_SYMLINKS,
)
from pannier.runtime import copyup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    Step = Mapping[str, Any]

SLOTS = "/b"  # in the anteroom: mounts with locked flags, by slot number
_MAX_LINKS = 40  # as the kernel's own limit, path_resolution(7)
_NODE_TYPES = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
# A link in place of these would send the masks elsewhere (CVE-2019-19921).
_NO_LINKS = ("proc", "sysfs")


class Scene:
    """What the steps work on.

    Args:
        user: (uid, gid) of the process, for its terminal.
        size: (rows, columns) of its terminal; 0 for unknown.
        send: hands a message and file descriptors to the keeper.
        network: configures the interfaces, once the keeper has made them.

    Attributes:
        slots: detached mounts by slot number, from ``runtime.sources``; see ``collect``.
    """

    def __init__(
        self,
        user: tuple[int, int],
        size: tuple[int, int],
        send: Callable[[dict[str, Any], Sequence[int]], None],
        network: Callable[[], None],
    ) -> None:
        self.slots: list[int] = []
        self.user = user
        self.size = size
        self.send = send
        self.network = network
        self.root = -1
        self.old = -1
        self.terminal = -1

    def collect(self, sources: Sequence[Step], received: Sequence[int]) -> None:
        """Fill the slots, while the anteroom is the root.

        Args:
            sources: of the plan.
            received: the mounts from the keeper: those that this process was not born with.
        """
        fds = iter(received)
        for slot, source in enumerate(sources):
            if source.get("locked"):
                # clones keep locked flags, and what is mounted below stays locked in its place
                path, flags = f"{SLOTS}/{slot}", OPEN_TREE_CLONE | AT_RECURSIVE
                self.slots.append(_libc.open_tree(_libc.AT_FDCWD, path, flags))
            else:
                self.slots.append(next(fds))

    def enter(self, root: int) -> None:
        """Make the detached mount *root* this process' root; the old one stays reachable by fd."""
        self.root = root
        flags = O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        self.old = os.open("/", flags)
        _libc.move_mount(root, "", _libc.AT_FDCWD, "/r")
        os.fchdir(root)
        _libc.pivot_root(".", ".")
        os.chdir("/")

    # -------------------------------------------------------------- targets

    def open(self, path: str, flags: int = O_PATH, resolve: int = 0) -> int:
        """Open *path* within the container's root."""
        return _libc.openat2(self.root, path, flags, 0, RESOLVE_IN_ROOT | resolve)

    def target(self, path: str, *, directory: bool, resolve: int = 0) -> int:
        """An O_PATH fd of *path*; what is missing is made."""
        try:
            return self.open(path, resolve=resolve)
        except KernelError as error:
            if error.errno == errno.ELOOP and resolve:
                raise InvalidArgument(f"{path} must be a directory, the image has a link") from None
            if error.errno != errno.ENOENT:
                raise
        return self.open(self._make(path, directory=directory))

    def _make(self, path: str, *, directory: bool) -> str:
        """Create *path* and its parents; dangling links are followed within the root.

        Returns:
            The path with its links resolved.
        """
        done, todo, links = "", [part for part in path.split("/") if part], 0
        while todo:
            part = todo.pop(0)
            if part in (".", ".."):
                done = os.path.dirname(done) if part == ".." else done
                continue
            link = self._enter_or_make(done or "/", part, directory=directory or bool(todo))
            if link is None:
                done = f"{done}/{part}"
                continue
            links += 1
            if links > _MAX_LINKS:
                raise KernelError(errno.ELOOP, "resolve", path)
            done = "" if link.startswith("/") else done
            todo = [word for word in link.split("/") if word] + todo
        return done or "/"

    def _enter_or_make(self, parent: str, name: str, *, directory: bool) -> str | None:
        """Have *name* in *parent*; the text of the link if it is one."""
        fd = self.open(parent)
        try:
            try:
                mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
            except FileNotFoundError:
                _make_one(fd, name, directory=directory)
                return None
            return os.readlink(name, dir_fd=fd) if stat.S_ISLNK(mode) else None
        finally:
            os.close(fd)


def _make_one(fd: int, name: str, *, directory: bool) -> None:
    if directory:
        os.mkdir(name, 0o755, dir_fd=fd)
    else:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=fd))


# ------------------------------------------------------------------ mounts


def _mount(scene: Scene, step: Step) -> None:
    resolve = RESOLVE_NO_SYMLINKS if step["type"] in _NO_LINKS else 0
    target = scene.target(step["target"], directory=True, resolve=resolve)
    try:
        if step["copy_up"]:
            _mount_filled(scene, step, target)
        else:
            mount.mount_at(target, step["type"], step["source"], step["flags"], step["data"])
    except KernelError as error:
        hint = f"were its options right? {step['data']}" if error.errno == errno.EINVAL else None
        raise KernelError(
            error.errno or 0, f"mount {step['type']}", step["target"], hint
        ) from error
    finally:
        os.close(target)
    if step["propagation"]:
        _propagate(scene, step)


def _mount_filled(scene: Scene, step: Step, target: int) -> None:
    """A tmpfs that starts with a copy of the directory below it (option ``tmpcopyup``)."""
    source = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=target)
    made = -1
    try:
        mount.mount_at(target, step["type"], step["source"], step["flags"], step["data"])
        made = scene.open(step["target"], os.O_RDONLY | os.O_DIRECTORY)
        copyup.copy_tree(source, made)
        if step["seal"]:
            mount.set_attributes(made, MOUNT_ATTR_RDONLY, 0)
    finally:
        os.close(source)
        if made >= 0:
            os.close(made)


def _propagate(scene: Scene, step: Step) -> None:
    fd = scene.open(step["target"])
    mount.propagate(fd, step["propagation"])
    os.close(fd)


def _bind(scene: Scene, step: Step) -> None:
    source = scene.slots[step["slot"]]
    directory = stat.S_ISDIR(os.fstat(source).st_mode)
    target = scene.target(step["target"], directory=directory)
    try:
        mount.attach(source, target)
    finally:
        os.close(target)
    mount.propagate(source, step["propagation"])
    os.close(source)


def _cgroups(scene: Scene, step: Step) -> None:
    """The version 1 hierarchies, each at the container's own cgroup, below one tmpfs."""
    target = scene.target(step["target"], directory=True)
    flags = step["flags"]
    mount.mount_at(target, "tmpfs", "tmpfs", flags & ~MS_RDONLY, "mode=755")
    os.close(target)
    top = scene.open(step["target"], os.O_RDONLY | os.O_DIRECTORY)
    os.fchdir(top)
    for options, name, slot in step["hierarchies"]:
        os.mkdir(name, 0o755)
        if slot is None:
            _libc.mount("cgroup", name, "cgroup", flags, options)
        else:
            _libc.move_mount(scene.slots[slot], "", top, name)
        controllers = options.split(",")
        if len(controllers) > 1:
            for controller in controllers:
                if controller != name:
                    os.symlink(name, controller)
    if flags & MS_RDONLY:
        mount.set_attributes(top, MOUNT_ATTR_RDONLY, 0)
    os.close(top)


def _readonly(scene: Scene, step: Step) -> None:
    for path in step["paths"]:
        fd = _existing(scene, path)
        if fd < 0:
            continue
        tree = _libc.open_tree(fd, "", AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE)
        mount.set_attributes(tree, MOUNT_ATTR_RDONLY, 0, recursive=True)
        mount.attach(tree, fd)
        os.close(tree)
        os.close(fd)


def _mask(scene: Scene, step: Step) -> None:
    """Directories get an empty read-only one on top, files /dev/null."""
    for path in step["paths"]:
        fd = _existing(scene, path)
        if fd < 0:
            continue
        name = "e" if stat.S_ISDIR(os.fstat(fd).st_mode) else "d/null"
        tree = _libc.open_tree(scene.old, name, OPEN_TREE_CLONE)
        mount.attach(tree, fd)
        os.close(tree)
        os.close(fd)


def _existing(scene: Scene, path: str) -> int:
    try:
        return scene.open(path)
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return -1
        raise


def _directory(scene: Scene, step: Step) -> None:
    """A working directory that the image does not have is made, as Docker does it."""
    os.close(scene.target(step["target"], directory=True))


def _root(scene: Scene, step: Step) -> None:
    """Leave the anteroom for good, and close the root to changes if asked."""
    os.fchdir(scene.old)
    _libc.umount2(".", MNT_DETACH)
    os.chdir("/")
    os.close(scene.old)
    if step["propagation"]:
        flags = AT_RECURSIVE if step["propagation"] & MS_REC else 0
        kind = step["propagation"] & ~MS_REC
        _libc.mount_setattr(scene.root, "", flags=flags, propagation=kind)
    if step["readonly"]:
        mount.set_attributes(scene.root, MOUNT_ATTR_RDONLY, 0)
    os.close(scene.root)


# ------------------------------------------------------------------ devices and console


def _devices(scene: Scene, step: Step) -> None:
    dev = scene.open("/dev", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name, major, minor in step["common"]:
            if step["bind"]:
                _bind_node(scene.old, name, dev)
            else:
                os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=dev)
        for target, text in step["links"]:
            _link(dev, target, text)
    finally:
        os.close(dev)
    for node in step["nodes"]:
        _node(scene, node)


def _bind_node(old: int, name: str, dev: int) -> None:
    """mknod(2) of devices is refused in a user namespace, a bind of the host's node is not."""
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=dev))
    tree = _libc.open_tree(old, f"d/{name}", OPEN_TREE_CLONE)
    _libc.move_mount(tree, "", dev, name)
    os.close(tree)


def _link(dev: int, target: str, text: str) -> None:
    try:
        os.symlink(text, target.removeprefix("/dev/"), dir_fd=dev)
    except FileExistsError:
        return  # a mount of the user's has put something there


def _node(scene: Scene, node: Step) -> None:
    if "slot" in node:
        _bind(scene, {**node, "propagation": []})
        return
    parent, name = os.path.split(node["target"])
    fd = scene.target(parent, directory=True)
    try:
        device = os.makedev(node["major"], node["minor"])
        os.mknod(name, _NODE_TYPES[node["type"]] | node["mode"], device, dir_fd=fd)
        os.chown(name, node["uid"], node["gid"], dir_fd=fd, follow_symlinks=False)
    finally:
        os.close(fd)


def _console(scene: Scene, step: Step) -> None:
    """A terminal of the container's own devpts; its master goes to the keeper."""
    ptmx = scene.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    master, slave = tty.from_ptmx(ptmx)
    if any(scene.size):
        tty.set_size(master, *scene.size)
    os.fchown(slave, scene.user[0], -1)
    if step["target"]:
        target = scene.target(step["target"], directory=False)
        tree = _libc.open_tree(slave, "", AT_EMPTY_PATH | OPEN_TREE_CLONE)
        mount.attach(tree, target)
        os.close(tree)
        os.close(target)
    scene.send({"stage": "console"}, [master])
    os.close(master)
    scene.terminal = slave


# ------------------------------------------------------------------ names and values


def _network(scene: Scene, _: Step) -> None:
    scene.network()


def _hostname(_: Scene, step: Step) -> None:
    if step["name"]:
        _libc.sethostname(step["name"])
    if step["domain"]:
        _libc.setdomainname(step["domain"])


def _sysctl(_: Scene, step: Step) -> None:
    for key, value in step["values"].items():
        # net.ipv4.conf.eth0/1.x is the way to name an interface with a dot (sysctl.d(5))
        words = key.replace("/", "\0").replace(".", "/").replace("\0", ".")
        try:
            # the anteroom's proc shows the values of this process' own namespaces
            fd = os.open(f"/proc/sys/{words}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, value.encode())
            finally:
                os.close(fd)
        except OSError as error:
            hint = "only settings of the container's own namespaces can be changed"
            raise KernelError(error.errno or 0, "set sysctl", key, hint) from error


STEPS: dict[str, Callable[[Scene, Step], None]] = {
    "mount": _mount,
    "bind": _bind,
    "cgroups": _cgroups,
    "devices": _devices,
    "network": _network,
    "sysctl": _sysctl,
    "hostname": _hostname,
    "console": _console,
    "readonly": _readonly,
    "mask": _mask,
    "directory": _directory,
    "root": _root,
}
