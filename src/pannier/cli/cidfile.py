"""``--cidfile``: the id of a new container in a file that must not be there before."""

from __future__ import annotations

import os

from pannier.base.errors import Conflict, InvalidArgument


def check(path: str) -> None:
    """Raises:
    Conflict: the file is there.
    """
    if os.path.exists(path):
        raise Conflict(
            f"container ID file found, make sure the other container isn't running or delete {path}"
        )


def write(path: str, container_id: str) -> None:
    """Raises:
    InvalidArgument: the file cannot be written.
    """
    try:
        with open(path, "x", encoding="ascii") as stream:
            stream.write(container_id)
    except OSError as error:
        raise InvalidArgument(
            f"failed to create the container ID file {path}: {error.strerror}"
        ) from error
