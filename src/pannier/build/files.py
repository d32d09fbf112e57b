"""The file work of steps, as the builder asks for it; a worker process does it (`worker`)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pannier.build.arguments import check_chmod
from pannier.build.model import Copy
from pannier.engine.users import resolve as resolve_user
from pannier.images import jobs
from pannier.images.layers import Upper
from pannier.kernel.rooted import open_in_root

_WORKER = "pannier.build.worker"

# What a runtime mounts things on. Where an image lacks such a place, an empty one is made in the
# upper directory, and must not become part of the image.
_MOUNT_POINTS = (
    "run/pannier/ca.crt",
    "run/pannier",
    "run",
    "etc/resolv.conf",
    "etc/hosts",
    "etc/hostname",
    "etc",
    "dev/pts",
    "dev/shm",
    "dev/mqueue",
    "dev/console",
    "dev",
    "proc",
    "sys",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyJob:
    """COPY or ADD.

    Args:
        source: where from: `context.Context.job_source`, or `image_source`.
        sources: paths and patterns there.
        documents: names and contents of here-documents.
        destination: absolute; a slash at the end makes it a directory.
        owner: uid and gid; None keeps the sources'.
        mode: permission bits; None keeps the sources'.
        what: ``COPY`` or ``ADD``, for messages.
        extract: unpack archives (ADD).
        chown_members: give *owner* also to what an archive held.
        hash: answer with the content's digest.
    """

    source: dict[str, Any]
    sources: tuple[str, ...]
    documents: tuple[tuple[str, str], ...]
    destination: str
    owner: tuple[int, int] | None
    mode: int | None
    what: str
    extract: bool
    chown_members: bool
    hash: bool


def image_source(name: str, lowers: Sequence[str]) -> dict[str, Any]:
    """A stage's or image's root file system: *lowers*, uppermost first."""
    return {"kind": "layers", "paths": list(lowers), "name": name, "ignore": ""}


async def run_copy(
    job: CopyJob, lowers: Sequence[str], upper: Upper, stdin: int | None
) -> dict[str, str]:
    """Do it; returns ``digest`` and ``kind`` of the content if the job asks for them.

    Raises:
        NotFound, InvalidArgument: the instruction's fault.
        KernelError: a file cannot be written.
    """
    arguments = {**asdict(job), **_root(lowers, upper)}
    return await jobs.run("copy", arguments, module=_WORKER, source=stdin)


async def make_directory(path: str, lowers: Sequence[str], upper: Upper) -> None:
    """WORKDIR."""
    await jobs.run("directory", {"path": path, **_root(lowers, upper)}, module=_WORKER)


def _root(lowers: Sequence[str], upper: Upper) -> dict[str, Any]:
    return {"lowers": list(lowers), "upper": str(upper.upper), "work": str(upper.work)}


def owner_of(step: Copy, lowers: Sequence[str]) -> tuple[int, int] | None:
    """Whose the copied files are: ``--chown``, or root, or with ``--from`` whose they were.

    A bare number is uid and gid at once; a bare name has the gid of its passwd entry.

    Raises:
        InvalidArgument: a name that the image does not know.
    """
    if not step.chown:
        return None if step.origin else (0, 0)
    text = f"{step.chown}:{step.chown}" if step.chown.isdigit() else step.chown
    user = resolve_user(text, (), lowers)
    return user.uid, user.gid


def mode_of(step: Copy) -> int | None:
    """The bits of ``--chmod``."""
    return check_chmod(step.chmod)


def is_unchanged(upper: Path) -> bool:
    """Whether a step left no trace in its upper directory."""
    with os.scandir(upper) as entries:
        return next(entries, None) is None


def scrub(upper: Path, lowers: Sequence[str]) -> None:
    """Take out of *upper* the empty mount points that running a container made there."""
    with _opened(upper) as root:
        for path in _MOUNT_POINTS:
            _scrub_one(root, path, lowers)


def _scrub_one(root: int, path: str, lowers: Sequence[str]) -> None:
    parent, _, name = path.rpartition("/")
    here = _status(root, path)
    if here is None:
        return
    below = next((s for s in map(_status_below, lowers, [path] * len(lowers)) if s), None)
    directory = open_in_root(root, parent or ".", os.O_PATH | os.O_DIRECTORY)
    try:
        if stat.S_ISDIR(here.st_mode):
            _remove_idle_directory(directory, name, here, below)
        elif stat.S_ISREG(here.st_mode) and here.st_size == 0 and below is None:
            os.unlink(name, dir_fd=directory)
    finally:
        os.close(directory)


def _remove_idle_directory(
    parent: int, name: str, here: os.stat_result, below: os.stat_result | None
) -> None:
    """Remove it if it is empty, and new or a copy of the layer's directory."""
    if below is not None and _looks(here) != _looks(below):
        return
    handle = f"/proc/self/fd/{parent}/{name}"
    if "trusted.overlay.opaque" in os.listxattr(handle, follow_symlinks=False):
        return
    if not os.listdir(handle):
        os.rmdir(name, dir_fd=parent)


def _looks(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mode, status.st_uid, status.st_gid


def _status_below(lower: str, path: str) -> os.stat_result | None:
    with _opened(lower) as root:
        return _status(root, path)


def _status(root: int, path: str) -> os.stat_result | None:
    try:
        fd = open_in_root(root, path, os.O_PATH | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


@contextmanager
def _opened(path: Path | str) -> Iterator[int]:
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
