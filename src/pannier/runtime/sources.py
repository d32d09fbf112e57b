"""The mounts that a container gets from the host, opened by its parent with the host's eyes.

Each becomes a detached mount with its final attributes and id map; the child only attaches it. A
path is looked up in the host's mount namespace; nothing inside a container is looked at here.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from pannier.base.errors import InvalidArgument, KernelError
from pannier.kernel import idmap, mount, overlay
from pannier.kernel._libc import MOUNT_ATTR_NODEV, MOUNT_ATTR_RDONLY
from pannier.kernel.rooted import open_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    Source = Mapping[str, Any]

_NODE_TYPES = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK}


def open_rootfs(rootfs: Source, userns_fd: int, owner: tuple[int, int]) -> int:
    """Mount the layers of a container, detached.

    Args:
        rootfs: of the plan.
        userns_fd: its user namespace, or -1.
        owner: uid and gid on the host of its root.
    """
    stack = overlay.Stack(
        rootfs["lowers"], rootfs["upper"], rootfs["work"], volatile=rootfs["volatile"]
    )
    if rootfs["volatile"]:
        _forget_volatile(rootfs["work"])
    attributes = MOUNT_ATTR_NODEV if rootfs["nodev"] else 0
    return overlay.mount_overlay(stack, userns_fd=userns_fd, owner=owner, attributes=attributes)


def _forget_volatile(work: str) -> None:
    """Let a container that is removed at its end be restarted before.

    Overlayfs leaves this mark since it cannot know whether the host has crashed meanwhile.
    """
    mark = f"{work}/work/incompat/volatile"
    with suppress(FileNotFoundError):
        os.unlink(f"{mark}/dirty")
        os.rmdir(mark)


def open_sources(sources: Sequence[Source], userns_fd: int, nodes: str) -> list[int]:
    """Open all *sources* of a plan, in order.

    Args:
        sources: of the plan.
        userns_fd: the container's user namespace, or -1.
        nodes: a directory of ours, to make device nodes in for a moment.

    Raises:
        InvalidArgument: a source is missing, or cannot be mapped but is wanted for writing.
        KernelError: the kernel refused; nothing stays open.
    """
    opened: list[int] = []
    try:
        for source in sources:
            if "node" in source:
                opened.append(_open_node(source["node"], userns_fd, nodes))
            else:
                opened.append(_open_source(source, userns_fd))
    except (KernelError, InvalidArgument):
        for fd in opened:
            os.close(fd)
        raise
    return opened


def _open_source(source: Source, userns_fd: int) -> int:
    path = source["source"]
    subpath = source.get("subpath", "")
    try:
        fd = _clone_below(path, subpath, recursive=source["recursive"])
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise InvalidArgument(
                f"invalid mount on {source['target']}: bind source path does not exist: "
                f"{os.path.join(path, subpath) if subpath else path}"
            ) from error
        raise
    try:
        mount.set_attributes(fd, source["all_set"], source["all_clear"], recursive=True)
        mount.set_attributes(fd, source["set"], source["clear"])
        if source["idmap"]:
            _map_ids(fd, source, userns_fd)
    except (KernelError, InvalidArgument):
        os.close(fd)
        raise
    return fd


def _clone_below(path: str, subpath: str, *, recursive: bool) -> int:
    """A volume's content is a container's: no link in it may lead out (CVE-2017-1002101)."""
    if not subpath:
        return mount.clone_tree(path, recursive=recursive)
    try:
        root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            below = open_in_root(root, subpath, os.O_PATH)
        finally:
            os.close(root)
    except OSError as error:
        raise KernelError(error.errno or 0, "open", f"{path}/{subpath}") from error
    try:
        return mount.clone_tree("", recursive=recursive, dirfd=below)
    finally:
        os.close(below)


def _map_ids(fd: int, source: Source, userns_fd: int) -> None:
    own_map = source["idmap"] != "container"
    if own_map:
        userns_fd = idmap.new_user_namespace(source["idmap"]["uid"], source["idmap"]["gid"])
    try:
        _map_tree(fd, source, userns_fd)
    finally:
        if own_map:
            os.close(userns_fd)


def _map_tree(fd: int, source: Source, userns_fd: int) -> None:
    """Map the whole tree; else its top, and close what lies below for writing; else all of it."""
    try:
        mount.set_attributes(fd, 0, 0, recursive=source["recursive"], userns_fd=userns_fd)
    except KernelError as error:
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise
    else:
        return
    was_readonly = bool((source["set"] | source["all_set"]) & MOUNT_ATTR_RDONLY)
    if source["recursive"]:
        mount.set_attributes(fd, MOUNT_ATTR_RDONLY, 0, recursive=True)
        try:
            mount.set_attributes(
                fd, 0, 0 if was_readonly else MOUNT_ATTR_RDONLY, userns_fd=userns_fd
            )
        except KernelError as error:
            if error.errno not in (errno.EINVAL, errno.EPERM):
                raise
        else:
            return
    if not was_readonly:
        raise _unmappable(fd, source)


def _unmappable(fd: int, source: Source) -> InvalidArgument:
    name = mount.filesystem_name(fd)
    return InvalidArgument(
        f"{source['source']} is on {name}, whose owners cannot be mapped into the container's user "
        "namespace",
        hint="mount it read-only (:ro), or run the container with --userns host",
        filesystem=name,
    )


def _open_node(node: Source, userns_fd: int, nodes: str) -> int:
    """A device node of ours, as a mount: in a user namespace the child may not make one.

    Made once for all containers that want the same, hence on a read-only mount: its mode cannot be
    changed, while the device can be written.
    """
    words = (node["type"], node["major"], node["minor"], node["mode"], node["uid"], node["gid"])
    path = f"{nodes}/{'-'.join(str(word) for word in words)}"
    if not os.path.exists(path):
        _make_node(path, node)
    fd = mount.clone_tree(path, recursive=False)
    attributes = (MOUNT_ATTR_RDONLY, MOUNT_ATTR_NODEV)
    try:
        mount.set_attributes(fd, *attributes, userns_fd=userns_fd)
    except KernelError as error:
        # tmpfs before Linux 6.3: the node works, its owner shows as nobody
        if error.errno not in (errno.EINVAL, errno.EPERM):
            os.close(fd)
            raise
        mount.set_attributes(fd, *attributes)
    return fd


def _make_node(path: str, node: Source) -> None:
    device = os.makedev(node["major"], node["minor"])
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        os.mknod(path, _NODE_TYPES[node["type"]] | 0o600, device)
        os.chown(path, node["uid"], node["gid"])
        os.chmod(path, node["mode"])
    except OSError as error:
        raise KernelError(error.errno or 0, "mknod", path) from error


def close_all(fds: Sequence[int]) -> None:
    """Close each of *fds* that is one."""
    for fd in fds:
        if fd >= 0:
            os.close(fd)
