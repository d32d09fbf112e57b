"""What the containers of a stack write, each line with the name of its container."""

from __future__ import annotations

import sys
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from pannier.base.errors import PannierError
from pannier.cli.compose_project import PROJECT, container_name, containers_of
from pannier.cli.logs import frames
from pannier.cli.session import Session
from pannier.client.api import Client

Json = dict[str, Any]
_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
_POLL = 0.2  # seconds; how soon ctrl-c is noticed


class _Printer:
    """Whole lines of several writers, one at a time."""

    def __init__(self, width: int, *, prefix: bool, colour: bool) -> None:
        self._width = width
        self._prefix = prefix
        self._colour = colour
        self._lock = threading.Lock()

    def line(self, name: str, data: bytes) -> None:
        head = f"{name:<{self._width}} | " if self._prefix else ""
        if head and self._colour:
            head = f"\x1b[{_COLOURS[zlib.crc32(name.encode()) % len(_COLOURS)]}m{head}\x1b[0m"
        with self._lock:
            sys.stdout.buffer.write(head.encode() + data + b"\n")
            sys.stdout.buffer.flush()


def show_logs(
    session: Session,
    project: str,
    services: Sequence[str],
    arguments: Mapping[str, Any],
    *,
    prefix: bool = True,
    colour: bool = True,
) -> None:
    """Print until the logs end; with follow, until all containers have.

    Args:
        arguments: the query of ``GET /containers/{id}/logs`` without the streams.
    """
    found = containers_of(session, project, services, all_=True)
    width = max((len(container_name(item)) for item in found), default=0)
    printer = _Printer(width, prefix=prefix, colour=colour and sys.stdout.isatty())
    query = {"stdout": True, "stderr": True, "tail": "all", **arguments}
    readers = _Readers(session, printer, query)
    for item in found:
        readers.add(item["Id"], container_name(item))
    if query.get("follow"):
        readers.watch(project, services)
    readers.join()


class _Readers:
    """A thread for each container; replicas that come later get theirs from events."""

    def __init__(self, session: Session, printer: _Printer, query: Json) -> None:
        self._session = session
        self._printer = printer
        self._query = query
        self._threads: dict[str, threading.Thread] = {}
        self._ended: dict[str, float] = {}  # when a container's log ended, until it starts again

    def add(self, container_id: str, name: str) -> None:
        known = self._threads.get(container_id)
        if known and known.is_alive():
            return
        thread = threading.Thread(target=self._read, args=(container_id, name), daemon=True)
        self._threads[container_id] = thread
        thread.start()

    def watch(self, project: str, services: Sequence[str]) -> None:
        thread = threading.Thread(target=self._watch, args=(project, services), daemon=True)
        thread.start()

    def join(self) -> None:
        while any(thread.is_alive() for thread in list(self._threads.values())):
            for thread in list(self._threads.values()):
                thread.join(_POLL)

    def _read(self, container_id: str, name: str) -> None:
        rest = b""
        query = self._query
        if container_id in self._ended:  # what came before has been shown
            query = {**query, "tail": "all", "since": f"{self._ended[container_id]:.6f}"}
        try:
            response = Client(self._session.connect).containers.logs(container_id, query)
            for _, data in frames(response):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._printer.line(name, line)
        except (PannierError, OSError) as error:
            sys.stderr.write(f"pannier: logs of {name}: {error}\n")
        if rest:
            self._printer.line(name, rest)
        self._ended[container_id] = time.time()

    def _watch(self, project: str, services: Sequence[str]) -> None:
        client = Client(self._session.connect)
        filters = {
            "type": ["container"], "event": ["start"], "label": [f"{PROJECT}={project}"],
        }  # fmt: skip
        try:
            for event in client.system.events(filters=filters):
                actor = event.get("Actor") or {}
                facts = actor.get("Attributes") or {}
                service = facts.get("com.docker.compose.service", "")
                if not services or service in services:
                    self.add(str(actor.get("ID")), str(facts.get("name", "")))
        except (PannierError, OSError):
            return  # the engine went away; the readers say so
