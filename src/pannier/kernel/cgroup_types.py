"""The shape of a cgroup's figures, the same for version 1 and 2. Types only: not loaded at run time
by the keeper.
"""

from __future__ import annotations

from typing import TypedDict


class MemoryStats(TypedDict):
    """Bytes; ``limit`` -1 is none. ``stat`` is the kernel's memory.stat, with its own names."""

    usage: int
    limit: int
    peak: int
    swap: int
    failures: int
    oom_kills: int
    stat: dict[str, int]


class CpuStats(TypedDict):
    """Nanoseconds since the cgroup was made, and scheduling periods."""

    usage_ns: int
    user_ns: int
    system_ns: int
    per_cpu_ns: list[int]
    periods: int
    throttled_periods: int
    throttled_ns: int


class PidsStats(TypedDict):
    """Tasks (threads too); ``limit`` -1 is none; ``refused`` counts forks that hit it."""

    current: int
    limit: int
    refused: int


class IoStats(TypedDict):
    """Of one block device: bytes and operations."""

    major: int
    minor: int
    read_bytes: int
    write_bytes: int
    read_operations: int
    write_operations: int


class Stats(TypedDict):
    """Everything ``docker stats`` shows of a container, apart from its network."""

    memory: MemoryStats
    cpu: CpuStats
    pids: PidsStats
    io: list[IoStats]
