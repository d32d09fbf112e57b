"""A server for the client to talk to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from answering import Server

from pannier.client.bare import Connection


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "engine.sock")
    yield server
    server.close()


@pytest.fixture
def dial(server: Server) -> Iterator[Callable[[], Connection]]:
    """Makes connections to the server; all are closed at the end."""
    made: list[Connection] = []

    def connect() -> Connection:
        made.append(Connection(server.path))
        return made[-1]

    yield connect
    for connection in made:
        connection.close()
