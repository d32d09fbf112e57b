"""``update``: limits and restart policy of containers, while they run."""

from __future__ import annotations

import sys
from typing import Any

from pannier.base.errors import InvalidArgument
from pannier.base.units import parse_size
from pannier.cli.command import Command
from pannier.cli.each import each
from pannier.cli.flags import Flags, Option
from pannier.cli.run_values import nano_cpus, restart_policy
from pannier.cli.session import Session

_OPTIONS: tuple[Option, ...] = (
    ("blkio-weight", "", "number", "N", "Relative weight of block IO, 10 to 1000"),
    ("cpu-period", "", "number", "US", "CFS period in microseconds"),
    ("cpu-quota", "", "number", "US", "CFS quota in microseconds for each period"),
    ("cpu-shares", "c", "number", "N", "Relative CPU weight, 1024 is normal"),
    ("cpus", "", "text", "N", "At most so many CPUs, such as 1.5"),
    ("cpuset-cpus", "", "text", "LIST", "Run on these CPUs only"),
    ("cpuset-mems", "", "text", "LIST", "Use memory of these NUMA nodes only"),
    ("image", "", "text", "IMAGE", "Go on from this image: a new root file system, all else stays"),
    ("memory", "m", "text", "SIZE", "At most so much memory, such as 512m"),
    ("memory-reservation", "", "text", "SIZE", "Soft limit of memory"),
    ("memory-swap", "", "text", "SIZE", "Memory plus swap; -1 for no limit of swap"),
    ("pids-limit", "", "number", "N", "At most so many processes; -1 for no limit"),
    ("restart", "", "text", "POLICY", "no, always, unless-stopped, on-failure[:TIMES]"),
)
_PLAIN = {
    "blkio-weight": "BlkioWeight",
    "cpu-period": "CpuPeriod",
    "cpu-quota": "CpuQuota",
    "cpu-shares": "CpuShares",
    "cpuset-cpus": "CpusetCpus",
    "cpuset-mems": "CpusetMems",
    "pids-limit": "PidsLimit",
}
_SIZES = {
    "memory": "Memory",
    "memory-reservation": "MemoryReservation",
    "memory-swap": "MemorySwap",
}


def _update(session: Session, flags: Flags, words: list[str]) -> int:
    body: dict[str, Any] = {}
    for name, value in flags.typed():
        if name in _PLAIN:
            body[_PLAIN[name]] = value
        elif name in _SIZES:
            body[_SIZES[name]] = -1 if value == "-1" else parse_size(value)
        elif name == "cpus":
            body["NanoCpus"] = nano_cpus(value)
        elif name == "restart":
            body["RestartPolicy"] = restart_policy(value)
    image = flags.text("image")
    if not body and not image:
        raise InvalidArgument(
            "you must provide one or more flags when using this command",
            hint="pannier update --memory 512m NAME",
        )

    def update(name: str) -> None:
        if image:
            session.client.containers.replace_image(name, image)
        for warning in session.client.containers.update(name, body) if body else ():
            sys.stderr.write(f"pannier: {warning}\n")

    return each(words, update)


COMMANDS = {
    "update": Command(
        _update,
        usage="CONTAINER...",
        summary="Change limits of containers without a restart, or their image",
        options=_OPTIONS,
        least=1,
        complete="container",
        examples=(
            ("update --memory 1g --cpus 2 db", "more for a busy database, while it runs"),
            ("update --restart unless-stopped web", "another restart policy"),
            ("update --image web:2 web", "go on from another image; 'rollback web' goes back"),
        ),
        see=("rollback", "stats", "run", "inspect"),
    )
}
