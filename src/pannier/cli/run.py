"""``run`` and ``create``.  The first is the hot path: one request, then bytes until the end.

Everything imported here counts into the time of every ``run``: tests/arch/test_import_budget.py
holds the list.
"""

from __future__ import annotations

import posix

from pannier.base import jsonlite
from pannier.cli.command import Command
from pannier.cli.conversation import Remote, check_terminal, converse, detach_keys
from pannier.cli.flags import UsageError
from pannier.cli.run_body import create_body
from pannier.cli.run_options import CREATE, RUN
from pannier.client.bare import message_of, query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pannier.cli.flags import Flags
    from pannier.cli.session import Session
    from pannier.client.bare import Connection, Response

_REFUSED = 125
_PULL = ("missing", "always", "never", "")


def _run(session: Session, flags: Flags, words: list[str]) -> int:
    request = _request(flags, words)
    attach, body = request["Attach"], request["Body"]
    check_terminal(tty=body.get("Tty", False), stdin=attach["stdin"])
    response = _ask(session, flags, "/pannier/run", request, hijack=any(attach.values()))
    if response.status == 201:
        created = jsonlite.decode(response.read())
        container_id = created["Id"]
        for warning in created.get("Warnings") or ():
            posix.write(2, f"pannier: {warning}\n".encode())
        _write_cidfile(flags, container_id)
        posix.write(1, container_id.encode() + b"\n")
        return 0
    container_id = response.headers.get("pannier-container", "")
    _write_cidfile(flags, container_id)
    relay = converse(
        response.connection,
        Remote(session, "/containers/" + container_id),
        framed=True,
        tty=body.get("Tty", False),
        stdin=attach["stdin"],
        signals=flags.on("sig-proxy", True),
        keys=detach_keys(flags),
    )
    if relay.error is not None:
        raise _refusal(relay.error)
    if relay.detached:
        return 0
    if relay.status is None:
        raise _lost(container_id)
    return relay.status


def _create(session: Session, flags: Flags, words: list[str]) -> int:
    body = create_body(flags, words[0], words[1:])
    if flags.on("interactive"):
        body["AttachStdin"] = body["StdinOnce"] = True
    target = "/containers/create" + query({"name": flags.text("name")})
    response = _ask(session, flags, target, body, hijack=False)
    container_id = jsonlite.decode(response.read())["Id"]
    _write_cidfile(flags, container_id)
    posix.write(1, container_id.encode() + b"\n")
    return 0


def _request(flags: Flags, words: list[str]) -> dict[str, Any]:
    """The body of ``POST /pannier/run``."""
    body = create_body(flags, words[0], words[1:])
    streams = [stream.lower() for stream in flags.list("attach")]
    detach = flags.on("detach")
    if detach and streams:
        raise UsageError("conflicting options: cannot specify both --attach and --detach")
    unknown = [stream for stream in streams if stream not in {"stdin", "stdout", "stderr"}]
    if unknown:
        raise UsageError(f'invalid argument "{unknown[0]}" for "-a, --attach" flag')
    interactive = flags.on("interactive")
    stdin = not detach and ("stdin" in streams if streams else interactive)
    stdout = not detach and (not streams or "stdout" in streams)
    stderr = not detach and (not streams or "stderr" in streams)
    body.update(AttachStdin=stdin, AttachStdout=stdout, AttachStderr=stderr)
    if interactive and not detach:
        body["StdinOnce"] = True
    request: dict[str, Any] = {
        "Name": flags.text("name"),
        "Body": body,
        "Attach": {"stdin": stdin, "stdout": stdout, "stderr": stderr},
        "DetachKeys": flags.text("detach-keys"),
    }
    if body.get("Tty") and not detach:
        from pannier.client import terminal  # noqa: PLC0415 - only with a terminal

        request["Size"] = terminal.size(0) or terminal.size(1)
    return request


def _ask(
    session: Session, flags: Flags, target: str, body: dict[str, Any], *, hijack: bool
) -> Response:
    """Post; when the image is missing, pull it and post again.

    Raises:
        PannierError: the engine refuses.
    """
    when = flags.text("pull", "missing")
    if when not in _PULL:
        raise UsageError(f"invalid pull option: '{when}': must be one of always, missing or never")
    _check_cidfile(flags)
    create = body.get("Body", body)
    if when == "always":
        _pull(session, flags, create["Image"])
    elif flags.given("platform"):
        from pannier.cli.transfer import check_platform  # noqa: PLC0415 - rare

        check_platform(session, create["Image"], flags.text("platform"))
    response = _post(session.connect(), target, body, hijack=hijack)
    if response.status == 404 and when != "never":
        answer = response.read()
        if not message_of(answer)[0].startswith("No such image"):
            raise _error(response.status, answer)
        _pull(session, flags, create["Image"])
        response = _post(session.connect(), target, body, hijack=hijack)
    if response.status not in {101, 200, 201}:
        raise _error(response.status, response.read())
    return response


def _post(connection: Connection, target: str, body: dict[str, Any], *, hijack: bool) -> Response:
    return connection.request("POST", target, jsonlite.encode(body), hijack=hijack)


def _pull(session: Session, flags: Flags, image: str) -> None:
    from pannier.cli.transfer import pull_for_run  # noqa: PLC0415 - not on the hot path

    pull_for_run(session, image, platform=flags.text("platform"), quiet=flags.on("quiet"))


def _error(status: int, answer: bytes) -> Exception:
    from pannier.client.errors import error_from  # noqa: PLC0415 - not on the hot path

    return error_from(status, answer)


def _refusal(value: dict[str, Any]) -> Exception:
    return _error(value.get("status") or 500, jsonlite.encode(value))


def _lost(container_id: str) -> Exception:
    from pannier.base.errors import Unavailable  # noqa: PLC0415 - not on the hot path

    return Unavailable(
        "the connection to the engine was lost; the container goes on without us",
        hint=f"pannier attach {container_id[:12]}, or pannier logs -f {container_id[:12]}",
    )


def _check_cidfile(flags: Flags) -> None:
    path = flags.text("cidfile")
    if path:
        from pannier.cli.cidfile import check  # noqa: PLC0415 - rare

        check(path)


def _write_cidfile(flags: Flags, container_id: str) -> None:
    path = flags.text("cidfile")
    if path:
        from pannier.cli.cidfile import write  # noqa: PLC0415 - rare

        write(path, container_id)


COMMANDS = {
    "run": Command(
        _run,
        usage="IMAGE [COMMAND] [ARG...]",
        summary="Create a container from an image and start it",
        options=RUN,
        least=1,
        interspersed=False,
        failure=_REFUSED,
        complete="image",
        examples=(
            ("run --rm -it debian:12 bash", "a shell in a fresh Debian, gone when you leave it"),
            ("run -d --name web -p 8080:80 nginx", "a web server in the background, on port 8080"),
            (
                "run -d --name db -v data:/var/lib/postgresql -e POSTGRES_PASSWORD=x postgres",
                "data in a volume outlives the container",
            ),
            ("run --rm -v .:/src -w /src debian:12 make", "a command on the directory you are in"),
            ("run --rm -m 256m --cpus 0.5 debian:12 sha1sum /dev/zero", "with limits"),
        ),
        see=("boot", "exec", "logs", "ps", "create"),
        notes="""Ends with the exit status of the command: 125 when the engine refused, 126 when the
        command cannot be executed, 127 when it is not there, 128+N when signal N ended it.""",
    ),
    "create": Command(
        _create,
        usage="IMAGE [COMMAND] [ARG...]",
        summary="Create a container without starting it",
        options=CREATE,
        least=1,
        interspersed=False,
        complete="image",
        examples=(
            ("create --name job debian:12 make", "make it ready, see what it says with:"),
            ("start -a job", "start it and watch"),
        ),
        see=("start", "run", "cp"),
    ),
}
