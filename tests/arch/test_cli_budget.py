"""What the command line loads before a container is asked for: its share of every `run`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import answering

SOURCE = Path(__file__).parents[2] / "src"

# Measured on a quiet machine with Python 3.11: 9 ms bare, 13 ms with these. Each further module
# of the standard library costs 0.2 to 15 ms; json alone is 9.
STANDARD = {"__future__", "_json", "_socket", "errno", "select", "_signal", "posix"}
OURS = {
    *("pannier", "pannier.base", "pannier.cli", "pannier.client"),
    *("pannier.cli.main", "pannier.cli.commands", "pannier.cli.flags", "pannier.cli.session"),
    *("pannier.cli.run", "pannier.cli.run_body", "pannier.cli.run_options"),
    *("pannier.cli.command", "pannier.cli.conversation"),
    *("pannier.client.bare", "pannier.base.jsonlite", "pannier.client.relay"),
}

_SCRIPT = """
import sys
before = set(sys.modules)
sys.path.insert(0, {source!r})
from pannier.cli.main import run
run(["-H", {socket!r}, "run", "--rm", "debian:12", "true"])
sys.stdout.write("|".join(sorted(set(sys.modules) - before)))
"""


def test_run_loads_little(tmp_path: Path) -> None:
    engine = _answering_once(tmp_path / "socket")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c",
         _SCRIPT.format(source=str(SOURCE), socket=str(tmp_path / "socket"))],
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip
    engine.wait(10)
    loaded = set(done.stdout.split("|"))
    assert loaded <= STANDARD | OURS, sorted(loaded - STANDARD - OURS)
    assert "pannier.cli.run" in loaded


def _answering_once(path: Path) -> subprocess.Popen[bytes]:
    """A process that answers one run request with exit status 0."""
    frame = answering.frame(4, b'{"StatusCode":0}')
    script = f"""
import socket
listener = socket.socket(socket.AF_UNIX)
listener.bind({str(path)!r})
listener.listen()
print(flush=True)
connection, _ = listener.accept()
connection.recv(65536)
connection.sendall(b"HTTP/1.1 101 X\\r\\n\\r\\n" + {frame!r})
"""
    engine = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert engine.stdout is not None
    engine.stdout.readline()
    engine.stdout.close()
    return engine
