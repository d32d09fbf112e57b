"""From the words typed to a command and from its outcome to an exit status.

Imports next to nothing: which module does a command is looked up in `cli.commands` and only that
one is loaded.
"""

from __future__ import annotations

import posix
import sys

from pannier.cli import commands
from pannier.cli.flags import UsageError, parse
from pannier.cli.session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from pannier.cli.command import Command
    from pannier.cli.flags import Option

OPTIONS: tuple[Option, ...] = (
    ("host", "H", "text", "ADDRESS", "Engine to talk to: unix:///run/pannier/pannier.sock"),
    ("debug", "D", "flag", "", "Show where an error comes from"),
    ("version", "v", "flag", "", "Show the version and quit"),
)
_SIGPIPE = 13
_INTERRUPTED = 130


def main() -> NoReturn:
    """Entry point of the ``pannier`` program.

    Ends with os._exit: tearing an interpreter down takes longer than the rest of a short command.
    """
    import _signal  # type: ignore[import-not-found]  # noqa: PLC0415 - `signal` loads enum

    _signal.signal(_SIGPIPE, _signal.SIG_DFL)
    try:
        code = run(sys.argv[1:])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = code or 1
    posix._exit(code)


def run(words: list[str]) -> int:
    """Do what *words* say; messages go to stderr. Returns the exit status."""
    debug = "PANNIER_DEBUG" in {str(key, "ascii", "replace") for key in posix.environ}
    path = ""
    failure = 1
    try:
        flags, words = parse(OPTIONS, words, interspersed=False)
        debug = debug or flags.on("debug")
        if flags.on("version"):
            words = ["version", "--short"]
        if flags.on("help") or not words:
            words = ["help"]
        path, command, words, group = commands.find(words)
        failure = command.failure
        values, arguments = parse(command.options, words, interspersed=command.interspersed)
        if values.on("help"):
            return _help(path)
        _check_count(path, command, arguments)
        session = Session(flags.text("host") or None, debug=debug, group=group)
        return command.run(session, values, arguments)
    except UsageError as error:
        family = words[0] if words and words[0] in commands.GROUPS else ""
        return _usage_error(error, path, family)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        return 128 + _SIGPIPE
    except Exception as error:
        if debug:
            raise
        return _report(error, failure)


def _check_count(path: str, command: Command, arguments: list[str]) -> None:
    count, least, most = len(arguments), command.least, command.most
    if count >= least and (most < 0 or count <= most):
        return
    plural = "" if (least if count < least else most) == 1 else "s"
    if most == 0:
        text = "accepts no arguments"
    elif least == most:
        text = f"requires exactly {least} argument{plural}"
    elif count < least:
        text = f"requires at least {least} argument{plural}"
    else:
        text = f"requires at most {most} argument{plural}"
    raise UsageError(f"'pannier {path}' {text}", 1)


def _help(path: str) -> int:
    from pannier.cli.help import show  # noqa: PLC0415 - only when asked for

    return show(path)


def _usage_error(error: UsageError, path: str, family: str) -> int:
    from pannier.cli.help import usage_line  # noqa: PLC0415 - only after a mistake

    sys.stderr.write(f"pannier: {error}\n")
    if path:
        sys.stderr.write(f"\n{usage_line(path)}\n")
    about = path or family
    sys.stderr.write(f"\nRun 'pannier {about + ' ' if about else ''}--help' for more information\n")
    return error.code


def _report(error: Exception, failure: int) -> int:
    """The outermost place: every error becomes one sentence, and a hint when there is one."""
    from pannier.cli.report import report  # noqa: PLC0415 - only when something failed

    return report(error, failure)
