"""A server for commands to talk to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from answering import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "engine.sock")
    yield server
    server.close()
