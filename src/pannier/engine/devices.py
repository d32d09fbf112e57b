"""Device nodes that a container gets beyond the usual ones: ``--device``, and all of the host's for
``--privileged``. Who may open them is the device cgroup's matter (`resources.device_rules`)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from pannier.oci.runtime import Device
from pannier.wire import containers as wire

# What a container has of its own (moby, pkg/devices: HostDevices leaves out the same).
_OWN_NODES = frozenset("pts shm fd mqueue console null zero full random urandom tty ptmx".split())


def nodes(host: wire.HostConfig) -> list[Device]:
    """All that *host* asks for, beyond those that every container has."""
    found = [
        _node(wish.path_in_container or wish.path_on_host, os.stat(wish.path_on_host))
        for wish in host.devices
    ]
    if host.privileged:
        taken = {device["path"] for device in found}
        found += [device for device in _of_host("/dev") if device["path"] not in taken]
    return found


def _of_host(directory: str, skipped: frozenset[str] = _OWN_NODES) -> Iterator[Device]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name in skipped:
                continue
            facts = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(facts.st_mode):
                yield from _of_host(entry.path, frozenset())
            elif stat.S_ISCHR(facts.st_mode) or stat.S_ISBLK(facts.st_mode):
                yield _node(entry.path, facts)


def _node(path: str, facts: os.stat_result) -> Device:
    return {
        "path": path,
        "type": "b" if stat.S_ISBLK(facts.st_mode) else "c",
        "major": os.major(facts.st_rdev),
        "minor": os.minor(facts.st_rdev),
        "fileMode": facts.st_mode & 0o777,
        "uid": 0,
        "gid": 0,
    }
