"""The one error tree of pannier, sorted by what the caller should do.

    PannierError
    |-- InvalidArgument   the request is wrong; changing it helps
    |-- NotFound          the named object does not exist
    |-- Conflict          the object's state or another object is in the way
    |-- Denied            the caller may not do this
    |-- NotModified       nothing to do: the object is in the wanted state already
    |-- Unavailable       try again later: something needed is not there now
    |-- Unsupported       this engine, host or kernel cannot do it
    |-- Internal          a defect of pannier or a broken store
    `-- KernelError       a system call failed (also an OSError)

Wording that clients match on ("No such image: x") is part of the API and pinned by tests.
"""

from __future__ import annotations

import errno as _errno
import os


class PannierError(Exception):
    """Root of the tree.

    Args:
        message: what failed and on what, one sentence without a final period.
        hint: what to do about it, shown on a line of its own.
        fields: further facts for logs and tests.
    """

    def __init__(self, message: str, *, hint: str | None = None, **fields: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.fields = fields

    def __str__(self) -> str:
        return self.message


class InvalidArgument(PannierError):
    """The request itself is wrong."""


class NotFound(PannierError):
    """The named object does not exist."""


class Conflict(PannierError):
    """The state of this object, or another object, is in the way."""


class Denied(PannierError):
    """The caller may not do this."""


class NotModified(PannierError):
    """The object is already as wanted."""


class Unavailable(PannierError):
    """Something that is needed is not there at the moment."""


class Unsupported(PannierError):
    """Not possible on this engine, host or kernel."""


class Internal(PannierError):
    """A defect of pannier, or a store that does not hold what it must."""


class KernelError(PannierError, OSError):
    """A system call failed.

    Args:
        errno: the error number.
        what: the system call or the step, e.g. ``mount``.
        path: the object it was applied to.
        hint: what to do about it.
    """

    def __init__(
        self, errno: int, what: str, path: str | None = None, hint: str | None = None
    ) -> None:
        target = f" {path}" if path else ""
        message = f"{what}{target}: {os.strerror(errno)}"
        PannierError.__init__(self, message, hint=hint or _HINTS.get((what, errno)))
        self.errno = errno
        self.strerror = os.strerror(errno)
        self.what = what
        self.path = path


_HINTS = {
    ("clone3", _errno.EPERM): "pannier needs root, with CAP_SYS_ADMIN",
    ("clone3", _errno.ENOSPC): "a limit of namespaces is reached; see /proc/sys/user/max_*",
    ("mount", _errno.ENODEV): "the kernel does not know this file system",
    ("mount_setattr", _errno.EINVAL): "this file system cannot be idmapped",
}
