"""Opening paths of an untrusted tree from outside it: never a string path, always openat2(2)."""

from __future__ import annotations

import os

from pannier.base.errors import KernelError
from pannier.kernel import _libc


def open_in_root(root: int, path: str, flags: int, mode: int = 0) -> int:
    """Open *path* as a process whose root directory is *root* would.

    Absolute links and ``..`` stay below *root* (RESOLVE_IN_ROOT); links of /proc/self/fd's kind are
    refused.

    Args:
        root: a directory descriptor, O_PATH is enough.
        path: absolute or relative, both from *root*.
        flags: of open(2); O_CLOEXEC is added.
        mode: permission bits for O_CREAT.

    Raises:
        OSError: FileNotFoundError and its like, as ``os.open`` would; ELOOP for a refused link.
    """
    resolve = _libc.RESOLVE_IN_ROOT | _libc.RESOLVE_NO_MAGICLINKS
    try:
        return _libc.openat2(root, path, flags | os.O_CLOEXEC, mode, resolve)
    except KernelError as error:
        raise OSError(error.errno, error.strerror, path) from error
