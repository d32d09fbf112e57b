"""``boot``: an OS container, created, started and waited for."""

from __future__ import annotations

import sys
import time
from typing import Any

from pannier.base.errors import Conflict, NotFound, PannierError
from pannier.cli.command import Command
from pannier.cli.flags import Flags, Option
from pannier.cli.run_body import create_body
from pannier.cli.session import Session
from pannier.cli.transfer import pull_for_run

_WAIT = 90  # seconds; systemd on a loaded machine takes a few
_POLL = 0.2  # seconds between two looks at the state
_ASK = "systemctl is-system-running --wait 2>/dev/null || systemctl is-system-running 2>/dev/null"
_TAKEN = {
    "add-host", "annotation", "cap-add", "cap-drop", "cpu-shares", "cpus", "cpuset-cpus", "device",
    "dns", "dns-search", "env", "env-file", "host-ca", "hostname", "ip", "label", "mac-address",
    "memory", "memory-reservation", "memory-swap", "mount", "network", "network-alias",
    "pids-limit", "privileged", "publish", "restart", "security-opt", "shm-size", "stop-timeout",
    "sysctl", "tmpfs", "ulimit", "volume",
}  # fmt: skip


def _options() -> tuple[Option, ...]:
    from pannier.cli.run_options import CREATE  # noqa: PLC0415 - one line below is the use

    return (
        *(option for option in CREATE if option[0] in _TAKEN),
        ("no-wait", "", "flag", "", "Don't wait until the system is up"),
        ("quiet", "q", "flag", "", "Print the id only"),
        ("timeout", "", "number", "SECONDS", f"Wait at most so long (default {_WAIT})"),
    )


def _boot(session: Session, flags: Flags, words: list[str]) -> int:
    image, name = words[0], words[1]
    containers = session.client.containers
    ours = Flags(
        {key: value for key, value in flags.typed() if key not in {"no-wait", "quiet", "timeout"}}
    )
    body = create_body(ours, image, [])
    body["HostConfig"]["Runtime"] = "os"
    body.setdefault("Hostname", name)
    body["Tty"] = body["OpenStdin"] = True  # the console
    container_id = _create(session, body, name)
    try:
        containers.start(container_id)
    except PannierError:
        containers.remove(container_id, force=True, volumes=True)
        raise
    if flags.on("quiet"):
        sys.stdout.write(f"{container_id}\n")
    state = "" if flags.on("no-wait") else _wait(session, container_id, name, flags)
    if not flags.on("quiet"):
        _tell(containers.inspect(container_id), name, state)
    return 0


def _create(session: Session, body: dict[str, Any], name: str) -> str:
    try:
        return session.client.containers.create(body, name=name)
    except NotFound as error:
        if not error.message.startswith("No such image"):
            raise
        pull_for_run(session, body["Image"], platform="", quiet=False)
        return session.client.containers.create(body, name=name)


def _wait(session: Session, container_id: str, name: str, flags: Flags) -> str:
    """Wait until the init says that the system is up; returns what it says.

    Raises:
        Conflict: it ended instead.
    """
    deadline = time.monotonic() + flags.number("timeout", _WAIT)
    while time.monotonic() < deadline:
        facts = session.client.containers.inspect(container_id)["State"]
        if not facts["Running"]:
            raise Conflict(
                f"{name} ended while booting, with status {facts['ExitCode']}",
                hint=f"pannier logs {name}",
            )
        state = _ask(session, container_id)
        if state in {"running", "degraded", "maintenance"}:
            return state
        if state == "other":  # an init that cannot be asked: it runs, more is not to be known
            return "running"
        time.sleep(_POLL)
    sys.stderr.write(f"pannier: {name} is still booting; look with: pannier console {name}\n")
    return "starting"


def _ask(session: Session, container_id: str) -> str:
    """What systemd says about itself; "other" when there is no systemd."""
    from pannier.cli.logs import frames  # noqa: PLC0415 - a small part of it

    script = f"command -v systemctl >/dev/null || {{ echo other; exit 0; }}; {_ASK}"
    config = {
        "Cmd": ["/bin/sh", "-c", script], "AttachStdout": True, "AttachStderr": False, "Tty": False,
    }  # fmt: skip
    execs = session.client.execs
    try:
        response = execs.start(execs.create(container_id, config), detach=False, tty=False)
        output = b"".join(data for stream, data in frames(response) if stream == 1)
    except (PannierError, OSError):
        return ""  # not far enough for that; the state tells when it ends
    lines = output.decode("utf-8", "replace").split()
    return lines[-1] if lines else ""


def _tell(facts: dict[str, Any], name: str, state: str) -> None:
    networks = (facts.get("NetworkSettings") or {}).get("Networks") or {}
    addresses = [n["IPAddress"] for n in networks.values() if n.get("IPAddress")]
    parts = [name, state or "started"]
    if addresses:
        parts.append("at " + ", ".join(addresses))
    sys.stdout.write(" ".join(parts) + "\n")
    sys.stdout.write(f"  a shell: pannier shell {name}    its console: pannier console {name}\n")


COMMANDS = {
    "boot": Command(
        _boot,
        usage="IMAGE NAME",
        summary="Create an OS container and boot it",
        options=_options(),
        least=2,
        most=2,
        complete="image",
        examples=(
            ("image bootstrap debian:12 --init systemd", "once: an image with an init"),
            ("boot debian:12-os vm1", "a system of its own, like a light virtual machine"),
            ("boot --memory 1g --cpus 2 --network shop debian:12-os vm2", "limits, and a network"),
            ("shell vm1", "a root shell in it"),
        ),
        see=("shell", "console", "image bootstrap", "stop", "run"),
        notes="""The container has the image's init as its first process. Packages are installed and
        upgraded inside; what changes is kept until the container is removed. `pannier stop` asks it
        to power off. Waits until the init says that the system is up, and shows its address.""",
    )
}
