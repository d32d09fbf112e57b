"""Further processes in a running container: exec, shell."""

from __future__ import annotations

import sys

from pannier.base.errors import PannierError, Unavailable
from pannier.cli.command import Command
from pannier.cli.conversation import Remote, check_terminal, converse, detach_keys
from pannier.cli.flags import Flags, Option
from pannier.cli.run_body import environment
from pannier.cli.session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_USER: Option = ("user", "u", "text", "USER[:GROUP]", "Run as this user, by name or number")
_WORKDIR: Option = ("workdir", "w", "text", "PATH", "Working directory")
_ENV: Option = ("env", "e", "list", "NAME[=VALUE]", "Set a variable")
# As su -l does: the user's own shell and home from the user database, as a login shell.
_ACCOUNT = (
    'user=$(id -un); shell=$(getent passwd "$user" 2>/dev/null | cut -d: -f7); '
    'home=$(getent passwd "$user" 2>/dev/null | cut -d: -f6); '
    'export HOME="${home:-/}" USER="$user" LOGNAME="$user" SHELL="${shell:-/bin/sh}"; '
)
_HOME = 'cd "$HOME" 2>/dev/null || cd /; '
_LOGIN = '[ -x "$SHELL" ] && exec "$SHELL" -l; exec /bin/sh -l'


def _exec(session: Session, flags: Flags, words: list[str]) -> int:
    config: dict[str, Any] = {
        "Cmd": words[1:],
        "Tty": flags.on("tty"),
        "User": flags.text("user"),
        "WorkingDir": flags.text("workdir"),
        "Privileged": flags.on("privileged"),
        "Env": _environment(flags),
    }
    if flags.on("detach"):
        exec_id = session.client.execs.create(words[0], config)
        session.client.execs.start(exec_id, detach=True, tty=config["Tty"]).read()
        return 0
    stdin = flags.on("interactive")
    check_terminal(tty=config["Tty"], stdin=stdin)
    config |= {"AttachStdin": stdin, "AttachStdout": True, "AttachStderr": True}
    return talk(session, words[0], config, detach_keys(flags))


def _environment(flags: Flags) -> list[str]:
    lines: list[str] = []
    if flags.given("env-file"):
        from pannier.cli.run_values import read_list  # noqa: PLC0415 - rare

        lines = [line for path in flags.list("env-file") for line in read_list(path)]
    return environment(lines + flags.list("env"))


def _shell(session: Session, flags: Flags, words: list[str]) -> int:
    tty = sys.stdin.isatty()
    command = words[1:]
    before = _ACCOUNT if flags.text("workdir") else _ACCOUNT + _HOME
    script = ["-lc", before + 'exec "$@"', "sh", *command] if command else ["-c", before + _LOGIN]
    config: dict[str, Any] = {
        "Cmd": ["/bin/sh", *script],
        "Tty": tty,
        "User": flags.text("user") or "root",
        "WorkingDir": flags.text("workdir"),
        "Env": environment(["TERM", "LANG", *flags.list("env")]),
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
    }
    return talk(session, words[0], config, b"")


def talk(session: Session, container: str, config: dict[str, Any], keys: bytes) -> int:
    """Create an exec, relay its streams, return its exit status."""
    execs = session.client.execs
    exec_id = execs.create(container, config)
    tty = bool(config["Tty"])
    size = None
    if tty:
        from pannier.client import terminal  # noqa: PLC0415 - only with a terminal

        size = terminal.size(0) or terminal.size(1)
    response = execs.start(exec_id, detach=False, tty=tty, size=size)
    remote = Remote(session, f"/exec/{exec_id}")
    if size:
        remote.resize()
    relay = converse(
        response.connection,
        remote,
        framed=not tty,
        tty=tty,
        stdin=bool(config["AttachStdin"]),
        signals=False,
        keys=keys,
    )
    if relay.detached:
        return 0
    if relay.error is not None:
        sys.stderr.write(f"pannier: {relay.error['message'].rstrip()}\n")
    try:
        code = execs.inspect(exec_id).get("ExitCode")
    except PannierError as error:
        raise Unavailable("the connection to the engine was lost", hint=error.message) from error
    return code if isinstance(code, int) else 0


COMMANDS = {
    "exec": Command(
        _exec,
        usage="CONTAINER COMMAND [ARG...]",
        summary="Run a command in a running container",
        options=(
            ("detach", "d", "flag", "", "In the background"),
            ("detach-keys", "", "text", "KEYS", "Keys that let go (default ctrl-p,ctrl-q)"),
            _ENV,
            ("env-file", "", "list", "FILE", "Read variables from a file"),
            ("interactive", "i", "flag", "", "Send it what is typed"),
            ("privileged", "", "flag", "", "With nearly all rights"),
            ("tty", "t", "flag", "", "Give it a terminal"),
            _USER,
            _WORKDIR,
        ),
        least=2,
        interspersed=False,
        complete="running",
        examples=(
            ("exec -it web bash", "a shell beside the service"),
            ("exec db pg_dump -U postgres app > app.sql", "its output as a file on the host"),
            ("exec -u 1000 -w /srv web ls -l", "as another user, elsewhere"),
        ),
        see=("shell", "attach", "run"),
        notes="""Ends with the exit status of the command; 126 when it cannot be executed, 127 when
        it is not there.""",
    ),
    "shell": Command(
        _shell,
        usage="CONTAINER [COMMAND...]",
        summary="A login shell in a running container",
        options=(_USER, _WORKDIR, _ENV),
        least=1,
        interspersed=False,
        complete="running",
        examples=(
            ("shell vm1", "root's shell, with root's home and environment"),
            ("shell vm1 systemctl status nginx", "one command"),
            ("shell -u alice vm1", "as a user of that system"),
        ),
        see=("exec", "console", "boot"),
    ),
}
