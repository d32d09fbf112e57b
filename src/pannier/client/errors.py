"""The engine's error answers -> the error tree; the seam between HTTP and `base.errors`."""

from __future__ import annotations

from pannier.base import errors, jsonlite
from pannier.client.bare import message_of

_KINDS: dict[int, type[errors.PannierError]] = {
    304: errors.NotModified,
    400: errors.InvalidArgument,
    401: errors.Denied,
    403: errors.Denied,
    404: errors.NotFound,
    409: errors.Conflict,
    501: errors.Unsupported,
    503: errors.Unavailable,
}


def error_from(status: int, body: bytes) -> errors.PannierError:
    """The error that an answer stands for; statuses without one of their own become Internal.

    Fields: ``status``, and ``exit_code`` when the engine says what a failed start counts as.
    """
    message, hint = message_of(body)
    kind = _KINDS.get(status, errors.Internal)
    fields: dict[str, object] = {"status": status}
    try:
        value = jsonlite.decode(body)
    except ValueError:
        value = None
    if isinstance(value, dict) and isinstance(value.get("exitCode"), int):
        fields["exit_code"] = value["exitCode"]
    return kind(message, hint=hint, **fields)
