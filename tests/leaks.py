"""What one engine holds on this host, so that a test can prove that it left nothing behind.

Everything is told apart by the engine's name and directories: other engines on the host, and what
other programs do meanwhile, are no leak of ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pannier.base.instance import Instance
from pannier.kernel import cgroup

# Files that come and go with the engine itself, not with containers.
_OWN_RUN_FILES = (
    "supervisor",
    "containers",
    "zones",
    "keeper",
    "logger",
    "stager",
    "resolver",
    "pannier",
    "seccomp",
    "nodes",
)
_SMALL_PROCESSES = ("keeper", "logger", "stager", "supervisor", "resolver")


@dataclass(frozen=True)
class Snapshot:
    """Facts by kind; each fact is one line a person can act on."""

    facts: dict[str, Counter[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, instance: Instance) -> Snapshot:
        processes = _processes(instance)
        return cls(
            {
                "mounts": Counter(_mounts(instance, processes)),
                "cgroups": Counter(_cgroups(instance)),
                "links": Counter(_links(instance)),
                "rules": Counter(_rules(instance)),
                "directories": Counter(_directories(instance)),
                "processes": Counter(processes.values()),
                "files": Counter(_open_files(processes)),
            }
        )

    def more_than(self, before: Snapshot) -> dict[str, list[str]]:
        """What is here and was not *before*, by kind."""
        nothing: Counter[str] = Counter()
        extra = {
            kind: sorted((now - before.facts.get(kind, nothing)).elements())
            for kind, now in self.facts.items()
        }
        return {kind: lines for kind, lines in extra.items() if lines}


def leaks(
    instance: Instance, before: Snapshot, *, timeout: float = 30.0, ignore: Collection[str] = ()
) -> dict[str, list[str]]:
    """What is more than *before* and stays: clean-up behind may take up to *timeout* seconds.

    Args:
        instance: whose.
        before: to compare with.
        timeout: seconds.
        ignore: kinds that do not count.
    """
    deadline = time.monotonic() + timeout
    while True:
        extra = Snapshot.of(instance).more_than(before)
        for kind in ignore:
            extra.pop(kind, None)
        if not extra or time.monotonic() > deadline:
            return extra
        time.sleep(0.05)


def bridge_prefix(instance: Instance) -> str:
    """How the names of its bridges begin. Loaded late: unit tests of others must not need it."""
    from pannier.network.bridge import prefix_of

    return prefix_of(instance.name)


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_bytes().decode(errors="replace")
    except OSError:  # the process ended meanwhile
        return ""


def _processes(instance: Instance) -> dict[int, str]:
    """pid -> name, of the engine's own processes and all that is in its cgroups."""
    found = {}
    marks = (f"{instance.run}/", f"{instance.run}\0", f"PANNIER_RUN={instance.run}\0")
    groups = f"/{instance.name}/"
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        command = _read(f"/proc/{entry}/cmdline")
        if any(mark in command + _read(f"/proc/{entry}/environ") for mark in marks):
            found[int(entry)] = _process_name(command)
        elif groups in _read(f"/proc/{entry}/cgroup"):
            found[int(entry)] = "container: " + command.replace("\0", " ").strip()
    return found


def _process_name(command: str) -> str:
    words = command.split("\0")
    for word in words:
        name = os.path.basename(word).removesuffix(".py")
        if name in _SMALL_PROCESSES or name == "pannier.daemon":
            return name
    return " ".join(words).strip()


def _mounts(instance: Instance, processes: dict[int, str]) -> Iterator[str]:
    """In the host's mount namespace and in those of the engine's processes, each namespace once."""
    seen = set()
    own = {pid: name for pid, name in processes.items() if not name.startswith("container: ")}
    for pid in (os.getpid(), *own):
        try:
            namespace = os.readlink(f"/proc/{pid}/ns/mnt")
        except OSError:
            continue
        if namespace in seen:
            continue
        seen.add(namespace)
        for line in _read(f"/proc/{pid}/mountinfo").splitlines():
            target = line.split(" ")[4]
            if str(instance.data) in line or str(instance.run) in line:
                yield f"{target} in the namespace of {processes.get(pid, 'the host')}"


def _cgroups(instance: Instance) -> Iterator[str]:
    for mount in cgroup.probe().mounts():
        root = Path(mount) / instance.name
        yield from (str(path) for path in root.rglob("*") if path.is_dir())


def _links(instance: Instance) -> Iterator[str]:
    prefix = bridge_prefix(instance)
    for name in os.listdir("/sys/class/net"):
        if name.startswith((prefix, "v" + prefix[1:])):
            yield name


def _rules(instance: Instance) -> Iterator[str]:
    """Lines of the whole rule set that name the engine or its bridges."""
    try:
        listed = subprocess.run(
            ["nft", "--json", "list", "ruleset"], capture_output=True, check=False
        )
    except FileNotFoundError:
        return
    if listed.returncode:
        return
    prefix = bridge_prefix(instance)
    for thing in json.loads(listed.stdout)["nftables"]:
        for kind, body in thing.items():
            text = json.dumps({k: v for k, v in body.items() if k != "handle"}, sort_keys=True)
            if f'"{instance.name}"' in text or prefix in text:
                yield f"{kind} {_without_counters(text)}"


def _without_counters(text: str) -> str:
    data = json.loads(text)
    for expression in data.get("expr", []):
        if isinstance(expression, dict):
            expression.pop("counter", None)
    if isinstance(data.get("elem"), list):
        data["elem"] = len(data["elem"])
    return json.dumps(data, sort_keys=True)


def _directories(instance: Instance) -> Iterator[str]:
    for base in (instance.containers, instance.run / "containers", instance.tmp, instance.zones):
        if base.is_dir():
            yield from (str(path) for path in base.iterdir())
    if instance.run.is_dir():
        for path in instance.run.iterdir():
            if not path.name.startswith(_OWN_RUN_FILES):
                yield str(path)


def _open_files(processes: dict[int, str]) -> Iterator[str]:
    """Of the long-lived processes; sockets come and go with clients, so they are left out, and the
    daemon's database opens its journal when it likes."""
    for pid, name in processes.items():
        if name not in (*_SMALL_PROCESSES, "pannier.daemon"):
            continue
        try:
            fds = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for fd in fds:
            try:
                target = os.readlink(f"/proc/{pid}/fd/{fd}")
            except OSError:
                continue
            if name == "pannier.daemon" and target == "anon_inode:inotify":
                continue  # one queue for all who follow a log, made when the first one does
            if not target.startswith("socket:") and ".db" not in target:
                yield f"{name}: {_kind_of_file(target)}"


def _kind_of_file(target: str) -> str:
    return target.split(":", 1)[0] if target.startswith(("pipe:", "mnt:", "net:")) else target
