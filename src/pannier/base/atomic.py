"""Files that are either the old or the new version, never half of one."""

from __future__ import annotations

import os

_O_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


def write_atomic(
    path: str | os.PathLike[str], data: bytes, mode: int = 0o600, *, sync: bool = False
) -> None:
    """Write *data* beside *path* and rename it over (rename(2) is atomic).

    Args:
        path: the file to replace or create.
        data: its whole new content.
        mode: permission bits of the new file.
        sync: also fsync file and directory, so that the change survives a power cut.

    Raises:
        OSError: nothing has changed then.
    """
    target = os.fspath(path)
    temporary = f"{target}.{os.getpid()}.tmp"
    try:
        _write(temporary, data, mode, sync=sync)
        os.rename(temporary, target)
    except OSError:
        _remove_if_there(temporary)
        raise
    if sync:
        _sync_directory(os.path.dirname(target) or ".")


def _write(path: str, data: bytes, mode: int, *, sync: bool) -> None:
    fd = os.open(path, _O_FLAGS, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)


def _remove_if_there(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
