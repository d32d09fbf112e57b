"""Errors as people read them: ``pannier: what failed``, and below it what to do."""

from __future__ import annotations

import sys

from pannier.base.errors import PannierError

_DEFECT = 70  # EX_SOFTWARE of sysexits.h


def report(error: Exception, failure: int) -> int:
    """Write *error* to stderr; returns the exit status.

    Args:
        failure: the command's status when the engine refuses.
    """
    if isinstance(error, PannierError):
        message, hint, code = error.message, error.hint, error.fields.get("exit_code", failure)
    elif isinstance(error, OSError):
        message, hint, code = _system(error), None, failure
    else:
        message = f"this is a defect of pannier: {type(error).__name__}: {error}"
        hint, code = "run it again with -D to see where", _DEFECT
    sys.stdout.flush()
    sys.stderr.write(f"pannier: {message}\n")
    if hint:
        sys.stderr.write(f"hint: {hint}\n")
    return code if isinstance(code, int) else failure


def _system(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason
