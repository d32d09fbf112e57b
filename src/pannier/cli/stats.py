"""``stats``: what containers use, once or again and again."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pannier.base.errors import NotFound, PannierError
from pannier.base.ids import short
from pannier.base.units import format_binary_size, format_size
from pannier.cli.command import Command
from pannier.cli.flags import Flags
from pannier.cli.session import Session
from pannier.cli.tables import Listing
from pannier.client.api import Client

Json = dict[str, Any]
_PERIOD = 1.0  # seconds between two pictures
_AT_ONCE = 16  # samples fetched in parallel: each takes the engine a second


def _listing(*, full: bool) -> Listing:
    return Listing(
        {
            "Container": ("CONTAINER", lambda s: s["id"] if full else short(s["id"])),
            "ID": ("CONTAINER ID", lambda s: s["id"] if full else short(s["id"])),
            "Name": ("NAME", lambda s: s["name"].removeprefix("/")),
            "CPUPerc": ("CPU %", lambda s: f"{cpu_percent(s):.2f}%"),
            "MemUsage": ("MEM USAGE / LIMIT", _memory),
            "MemPerc": ("MEM %", lambda s: f"{_memory_percent(s):.2f}%"),
            "NetIO": ("NET I/O", _network),
            "BlockIO": ("BLOCK I/O", _block),
            "PIDs": ("PIDS", lambda s: str((s.get("pids_stats") or {}).get("current", 0))),
        },
        ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"),
    )


def cpu_percent(sample: Json) -> float:
    """Of one CPU, between the sample before and this one; 200 means two CPUs busy."""
    now, before = sample.get("cpu_stats") or {}, sample.get("precpu_stats") or {}
    used = _total(now) - _total(before)
    passed = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    if used <= 0 or passed <= 0 or not before.get("system_cpu_usage"):
        return 0.0
    return float(used / passed * (now.get("online_cpus") or 1) * 100)


def _total(cpu: Json) -> int:
    return int((cpu.get("cpu_usage") or {}).get("total_usage", 0))


def memory_used(sample: Json) -> int:
    """Bytes without page cache that can be given back at once, as Docker counts."""
    memory = sample.get("memory_stats") or {}
    detail = memory.get("stats") or {}
    used = int(memory.get("usage", 0))
    cache = int(detail.get("total_inactive_file", detail.get("inactive_file", 0)))
    return used - cache if cache < used else used


def _memory(sample: Json) -> str:
    limit = (sample.get("memory_stats") or {}).get("limit", 0)
    return f"{format_binary_size(memory_used(sample))} / {format_binary_size(limit)}"


def _memory_percent(sample: Json) -> float:
    limit = (sample.get("memory_stats") or {}).get("limit", 0)
    return memory_used(sample) / limit * 100 if limit else 0.0


def _network(sample: Json) -> str:
    devices = (sample.get("networks") or {}).values()
    received = sum(device.get("rx_bytes", 0) for device in devices)
    sent = sum(device.get("tx_bytes", 0) for device in devices)
    return f"{format_size(received)} / {format_size(sent)}"


def _block(sample: Json) -> str:
    records = (sample.get("blkio_stats") or {}).get("io_service_bytes_recursive") or []
    sums = {"read": 0, "write": 0}
    for record in records:
        word = str(record.get("op", "")).lower()
        if word in sums:
            sums[word] += int(record.get("value", 0))
    return f"{format_size(sums['read'])} / {format_size(sums['write'])}"


def _samples(session: Session, names: list[str], *, all_: bool) -> list[Json]:
    """One sample of each; those that vanished meanwhile are left out unless they were named."""
    chosen = names or [item["Id"] for item in session.client.containers.list(all=all_)]

    def one(name: str) -> Json | PannierError:
        client = Client(session.connect)
        try:
            return client.containers.stats_once(name)
        except NotFound as error:
            return error
        finally:
            client.close()

    if not chosen:
        return []
    with ThreadPoolExecutor(min(_AT_ONCE, len(chosen))) as pool:
        found = list(pool.map(one, chosen))
    errors = [item for item in found if isinstance(item, PannierError)]
    if errors and names:
        raise errors[0]
    return [item for item in found if isinstance(item, dict)]


def _stats(session: Session, flags: Flags, words: list[str]) -> int:
    listing, form = _listing(full=flags.on("no-trunc")), flags.text("format")
    if flags.on("no-stream"):
        listing.show(_samples(session, words, all_=flags.on("all")), form)
        return 0
    live = sys.stdout.isatty() and not form
    while True:
        begun = time.monotonic()
        lines = list(listing.lines(_samples(session, words, all_=flags.on("all")), form))
        picture = "\n".join(lines) + "\n" if lines else ""
        sys.stdout.write(("\x1b[H\x1b[2J" if live else "") + picture)
        sys.stdout.flush()
        time.sleep(max(0.0, _PERIOD - (time.monotonic() - begun)))


COMMANDS = {
    "stats": Command(
        _stats,
        usage="[CONTAINER...]",
        summary="Show what containers use: CPU, memory, network, disk, processes",
        options=(
            ("all", "a", "flag", "", "Stopped ones too"),
            ("format", "", "text", "FORMAT", "table, json, or a template such as '{{.MemUsage}}'"),
            ("no-stream", "", "flag", "", "Once, then end"),
            ("no-trunc", "", "flag", "", "Show ids in full"),
        ),
        complete="running",
        examples=(
            ("stats", "all running ones, until ctrl-c"),
            ("stats --no-stream web db", "these two, now"),
        ),
        see=("top", "update", "system df"),
    )
}
