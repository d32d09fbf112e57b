"""``boot``: an OS container, created, started and waited for."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import Any

from pannier.base.errors import Conflict, InvalidArgument, NotFound, NotModified, PannierError
from pannier.cli.command import Command
from pannier.cli.flags import Flags, Option
from pannier.cli.run_body import create_body
from pannier.cli.session import Session
from pannier.cli.transfer import pull_for_run

_WAIT = 90  # seconds; systemd on a loaded machine takes a few
_POLL = 0.2  # seconds between two looks at the state
_ASK = "systemctl is-system-running --wait 2>/dev/null || systemctl is-system-running 2>/dev/null"
_OURS = {"no-wait", "quiet", "timeout"}
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
    quiet, name = flags.on("quiet"), words[-1]
    started = time.monotonic()
    settings = {key: value for key, value in flags.typed() if key not in _OURS}
    if len(words) == 1:
        container_id = _start_again(session, settings, name)
    else:
        container_id = _start_new(session, settings, words[0], name)
    if quiet:
        sys.stdout.write(f"{container_id}\n")
    else:
        sys.stderr.write(f"Booting {name} ...\n")
        sys.stderr.flush()
    state = "" if flags.on("no-wait") else _wait(session, container_id, name, flags)
    if not quiet:
        facts = session.client.containers.inspect(container_id)
        _tell(facts, name, state, time.monotonic() - started)
    return 0


def _start_again(session: Session, settings: dict[str, Any], name: str) -> str:
    """One that is there; returns its id."""
    containers = session.client.containers
    try:
        facts = containers.inspect(name)
    except NotFound as error:
        words = f"{name} NAME" if _is_image(session, name) else f"IMAGE {name}"
        raise NotFound(error.message, hint=f"to make one: pannier boot {words}") from error
    if facts["HostConfig"]["Runtime"] != "os":
        raise Conflict(f"{name} is not an OS container", hint=f"pannier start {name}")
    if settings:
        raise InvalidArgument(
            f"{name} is there already: --{next(iter(settings))} is for a new container",
            hint=f"limits are changed with: pannier update {name}",
        )
    with suppress(NotModified):
        containers.start(name)
    return str(facts["Id"])


def _is_image(session: Session, name: str) -> bool:
    try:
        session.client.images.inspect(name)
    except PannierError:
        return ":" in name
    return True


def _start_new(session: Session, settings: dict[str, Any], image: str, name: str) -> str:
    """Returns its id."""
    body = create_body(Flags(settings), image, [])
    body["HostConfig"]["Runtime"] = "os"
    body.setdefault("Hostname", name)
    body["Tty"] = body["OpenStdin"] = True  # the console
    container_id = _create(session, body, name)
    try:
        session.client.containers.start(container_id)
    except PannierError:
        session.client.containers.remove(container_id, force=True, volumes=True)
        raise
    return container_id


def _create(session: Session, body: dict[str, Any], name: str) -> str:
    try:
        return session.client.containers.create(body, name=name)
    except Conflict as error:
        hint = error.hint or f"to boot the one that is there: pannier boot {name}"
        raise Conflict(error.message, hint=hint) from error
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


def _tell(facts: dict[str, Any], name: str, state: str, seconds: float) -> None:
    networks = (facts.get("NetworkSettings") or {}).get("Networks") or {}
    addresses = [n["IPAddress"] for n in networks.values() if n.get("IPAddress")]
    parts = [name, state or "started"]
    if addresses:
        parts.append("at " + ", ".join(addresses))
    sys.stdout.write(f"{' '.join(parts)}, after {seconds:.1f} s\n")
    if state == "degraded":
        sys.stdout.write(f"  what failed: pannier shell {name} systemctl --failed\n")
    sys.stdout.write(f"  a shell: pannier shell {name}    its console: pannier console {name}\n")


COMMANDS = {
    "boot": Command(
        _boot,
        usage="[IMAGE] NAME",
        summary="Boot an OS container: a new one of an image, or one that was stopped",
        options=_options(),
        least=1,
        most=2,
        complete="image",
        examples=(
            ("image bootstrap debian:12 --init systemd", "once: an image with an init"),
            ("boot debian:12-os vm1", "a system of its own, like a light virtual machine"),
            ("boot --memory 1g --cpus 2 --network shop debian:12-os vm2", "limits, and a network"),
            ("shell vm1", "a root shell in it"),
            ("boot vm1", "again, after it was stopped"),
        ),
        see=("shell", "console", "image bootstrap", "stop", "run"),
        notes="""The container has the image's init as its first process. Packages are installed and
        upgraded inside; what changes is kept until the container is removed. `pannier stop` asks it
        to power off. Waits until the init says that the system is up, and shows its address.""",
    )
}
