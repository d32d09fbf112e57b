"""The one table from errors to HTTP answers.

Errors of `base.errors` say what the caller should do; here that becomes a status and Docker's
``{"message": ...}``. The hint travels beside the message: clients match on the message's wording.
"""

from __future__ import annotations

from pannier.base import errors
from pannier.wire.system import ErrorBody

_STATUS: dict[type[errors.PannierError], int] = {
    errors.InvalidArgument: 400,
    errors.Denied: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.NotModified: 304,
    errors.Unsupported: 501,
    errors.Unavailable: 503,
    errors.Internal: 500,
    errors.KernelError: 500,
}


def status_of(error: errors.PannierError) -> int:
    """The HTTP status of an error: that of its nearest class in the table."""
    return next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)


def body_of(error: errors.PannierError, *, with_status: bool = False) -> ErrorBody:
    """What the caller reads.

    Args:
        error: what happened.
        with_status: put the HTTP status into the body, where the answer has begun already.
    """
    exit_code = error.fields.get("exit_code")
    return ErrorBody(
        message=error.message,
        hint=error.hint,
        exit_code=exit_code if isinstance(exit_code, int) else None,
        status=status_of(error) if with_status else None,
    )
