"""The public Python API.

    from pannier.client.public import connect

    with connect() as engine:
        identifier = engine.containers.create({"Image": "debian:12", "Cmd": ["true"]})
        engine.containers.start(identifier)
        print(engine.containers.wait(identifier))

Stable: `connect`, the methods of the groups on the object it returns, and the errors of
`pannier.base.errors`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pannier.client.api import Client
from pannier.client.bare import Connection, socket_path

__all__ = ["Client", "connect"]


@contextmanager
def connect(host: str | None = None, *, start: bool = True) -> Iterator[Client]:
    """A client of the engine on this host.

    Args:
        host: ``unix:///path``; None reads PANNIER_HOST and PANNIER_RUN.
        start: start the engine if none runs (root only, and only without *host*).

    Raises:
        Unavailable, Denied: no engine, or none that this user may talk to.
    """
    client = Client(lambda: _connection(host, start=start))
    try:
        yield client
    finally:
        client.close()


def _connection(host: str | None, *, start: bool) -> Connection:
    from pannier.client.start import connect_or_start, explain  # noqa: PLC0415

    try:
        return Connection(socket_path(host))
    except OSError as error:
        if not start:
            raise explain(socket_path(host), error) from error
        return connect_or_start(host, error)
