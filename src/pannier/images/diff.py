"""What an upper directory changes in the layers below it, as ``docker diff`` tells it.

Reads overlayfs' marks straight from the directories, so it works on a running container too.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from enum import IntEnum

from pannier.images.tree import is_opaque, is_whiteout, open_directory


class ChangeKind(IntEnum):
    """Docker's numbers (``GET /containers/{id}/changes``)."""

    MODIFIED = 0
    ADDED = 1
    DELETED = 2


def changes(upper: str, lowers: list[str]) -> list[tuple[int, str]]:
    """All changed paths in order of their names, each with its kind.

    Args:
        upper: a container's upper directory.
        lowers: the layers below, uppermost first.
    """
    with ExitStack() as stack:
        below = [stack.enter_context(open_directory(lower)) for lower in lowers]
        with open_directory(upper) as fd:
            if is_opaque(f"/proc/self/fd/{fd}/."):
                below = []
            return list(_compare(fd, below, "/"))


def _compare(upper: int, lowers: list[int], prefix: str) -> Iterator[tuple[int, str]]:
    """*lowers* are the directories that are merged with *upper* at this path."""
    for name in sorted(os.listdir(upper), key=os.fsencode):
        status = os.stat(name, dir_fd=upper, follow_symlinks=False)
        path = prefix + name
        with ExitStack() as stack:
            existed, below = _look_up(lowers, name, stack)
            if is_whiteout(status):
                if existed:
                    yield ChangeKind.DELETED, path
                continue
            yield ChangeKind.MODIFIED if existed else ChangeKind.ADDED, path
            if stat.S_ISDIR(status.st_mode):
                with open_directory(name, upper) as child:
                    opaque = is_opaque(f"/proc/self/fd/{upper}/{name}")
                    if opaque:
                        yield from _hidden(child, below, path + "/")
                    yield from _compare(child, [] if opaque else below, path + "/")


def _hidden(upper: int, lowers: list[int], prefix: str) -> Iterator[tuple[int, str]]:
    """What an opaque directory took away: names below that were not made again."""
    present = set(os.listdir(upper))
    names = {name for lower in lowers for name in os.listdir(lower)}
    for name in sorted(names - present, key=os.fsencode):
        with ExitStack() as stack:
            if _look_up(lowers, name, stack)[0]:
                yield ChangeKind.DELETED, prefix + name


def _look_up(lowers: list[int], name: str, stack: ExitStack) -> tuple[bool, list[int]]:
    """Whether the merged lowers have *name*, and if it is a directory, what it is merged from."""
    merged: list[int] = []
    for lower in lowers:
        status = _status(lower, name)
        if status is None:
            continue
        if not stat.S_ISDIR(status.st_mode):
            return bool(merged) or not is_whiteout(status), merged
        merged.append(stack.enter_context(open_directory(name, lower)))
        if is_opaque(f"/proc/self/fd/{lower}/{name}"):
            break
    return bool(merged), merged


def _status(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise
