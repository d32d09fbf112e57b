"""``--user`` as Docker reads it: names and numbers, looked up in the image's own files.

The files are container content, so they are read from the layers component by component, following
no link, and never by the host's NSS.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from pannier.base.errors import InvalidArgument

_LARGEST_FILE = 1 << 20
_HIGHEST_ID = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class User:
    """Who a process is inside its container.

    Args:
        uid, gid: ids as the container sees them.
        groups: supplementary gids.
        home: for HOME; ``/`` when the user is not in the image's passwd file.
        shell: the login shell of the passwd file.
        name: the login name, or the number.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str = "/bin/sh"
    name: str = "root"


def resolve(user: str, group_add: Sequence[str], roots: Sequence[str]) -> User:
    """Look *user* up.

    Args:
        user: ``""``, ``name``, ``uid``, ``name:group``, ``uid:gid``.
        group_add: further groups, names or numbers.
        roots: directories that make up the root file system, uppermost first.

    Raises:
        InvalidArgument: a name is not in the image; wording as Docker's.
    """
    passwd = [line.split(":") for line in _lines(roots, "etc/passwd")]
    groups = [line.split(":") for line in _lines(roots, "etc/group")]
    who, _, group = (user or "0").partition(":")
    entry = _entry(passwd, who)
    if entry is None and not _is_number(who):
        raise InvalidArgument(f"unable to find user {who}: no matching entries in passwd file")
    uid = int(entry[2]) if entry else int(who)
    gid = _gid(groups, group) if group else int(entry[3]) if entry else 0
    name = entry[0] if entry else who
    member_of = [g for g in groups if len(g) > 3 and name in g[3].split(",") and _is_number(g[2])]
    extra = [] if group else [int(g[2]) for g in member_of]
    extra += [_gid(groups, wanted) for wanted in group_add]
    if max(uid, gid, *extra) > _HIGHEST_ID:
        raise InvalidArgument(f"uids and gids must be in range 0-{_HIGHEST_ID}")
    home = entry[5] if entry and len(entry) > 5 and entry[5] else "/"
    shell = entry[6] if entry and len(entry) > 6 and entry[6] else "/bin/sh"
    return User(uid, gid, tuple(dict.fromkeys(extra)), home, shell, name)


def _entry(passwd: list[list[str]], who: str) -> list[str] | None:
    named = [e for e in passwd if len(e) > 3 and e[0] == who]
    numbered = [e for e in passwd if len(e) > 3 and e[2] == who]
    for entry in named + numbered:
        if _is_number(entry[2]) and _is_number(entry[3]):
            return entry
    return None


def _gid(groups: list[list[str]], wanted: str) -> int:
    for entry in groups:
        if len(entry) > 2 and wanted in (entry[0], entry[2]) and _is_number(entry[2]):
            return int(entry[2])
    if _is_number(wanted):
        return int(wanted)
    raise InvalidArgument(f"unable to find group {wanted}: no matching entries in group file")


def _is_number(text: str) -> bool:
    """What int() reads as well: other scripts have digits too, and these files are not ours."""
    return text.isascii() and text.isdigit()


def _lines(roots: Sequence[str], path: str) -> list[str]:
    for root in roots:
        content = _read(root, path)
        if content is not None:
            return content.decode(errors="surrogateescape").splitlines()
    return []


def _read(root: str, path: str) -> bytes | None:
    """The content of one regular file; None when this layer does not have it."""
    *parents, name = path.split("/")
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for parent in parents:
            # A link here would lead out of the layer: O_NOFOLLOW makes it ENOTDIR.
            flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            below = os.open(parent, flags, dir_fd=directory)
            os.close(directory)
            directory = below
        # O_NONBLOCK: a FIFO of this name must not hold the engine.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(name, flags, dir_fd=directory)
    except OSError:
        return None
    finally:
        os.close(directory)
    try:
        return os.read(fd, _LARGEST_FILE) if stat.S_ISREG(os.fstat(fd).st_mode) else None
    finally:
        os.close(fd)
