"""Help that teaches: what a command does, its flags, examples that work, where to look next."""

from __future__ import annotations

import shutil
import sys
import textwrap

from pannier.cli import commands
from pannier.cli.command import ANY, Command
from pannier.cli.flags import HELP, Flags, Option, UsageError
from pannier.cli.session import Session

_OPTION_WIDTH = 30
_INTRO = """\
Usage:  pannier [OPTIONS] COMMAND

Containers for services and for whole systems, on one kernel: `run` starts an app container from
an image, `boot` an OS container with an init, like a light virtual machine.
"""
_TOPICS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Start here", ("run", "boot", "build", "compose up", "ps", "logs", "exec", "shell")),
    (
        "Containers",
        (
            "create", "start", "stop", "restart", "kill", "pause", "unpause", "wait", "rm",
            "rename", "update", "rollback", "attach", "console", "cp", "diff", "commit", "export",
            "inspect", "port", "top", "stats",
        ),
    ),
    (
        "Images",
        (
            "images", "image bootstrap", "pull", "push", "tag", "rmi", "history", "save", "load",
            "import", "login",
        ),
    ),
    (
        "The engine",
        (
            "info", "version", "events", "system df", "system prune", "system shutdown",
            "completion",
        ),
    ),
)  # fmt: skip
_OUTRO = """
Run 'pannier COMMAND --help' for a command's flags and examples."""


def show(path: str) -> int:
    """Print the help page of a command or a group; returns 0."""
    if not path:
        _write(_front_page())
    elif path in commands.GROUPS:
        _write(_group_page(path))
    else:
        _write(_command_page(path, commands.load(path)))
    return 0


def usage_line(path: str) -> str:
    """``Usage:  pannier rm [OPTIONS] CONTAINER...``"""
    command = commands.load(path)
    parts = ["Usage: ", "pannier", path]
    if command.options:
        parts.append("[OPTIONS]")
    if command.usage:
        parts.append(command.usage)
    return " ".join(parts)


def _write(page: str) -> None:
    sys.stdout.write(page.rstrip("\n") + "\n")


def _width() -> int:
    return max(60, min(110, shutil.get_terminal_size((100, 24)).columns))


def _front_page() -> str:
    lines = [_INTRO]
    for title, names in _TOPICS:
        lines.append(f"{title}:")
        lines += [f"  {name:<17}{commands.load(name).summary}" for name in names]
        lines.append("")
    lines.append("Groups:")
    lines += [f"  {name:<17}{text}" for name, text in commands.GROUPS.items()]
    from pannier.cli.main import OPTIONS  # noqa: PLC0415 - main does not load help

    lines += ["", "Options:", *_option_lines(OPTIONS), _OUTRO]
    return "\n".join(lines)


def _group_page(group: str) -> str:
    lines = [f"Usage:  pannier {group} COMMAND", "", commands.GROUPS[group] + ".", "", "Commands:"]
    shown: set[str] = set()
    for path in commands.paths(group):
        target = commands.canonical(path)
        if target in shown:
            continue
        shown.add(target)
        lines.append(f"  {path.removeprefix(group + ' '):<14}{commands.load(target).summary}")
    options = commands.GROUP_OPTIONS.get(group)
    if options:
        lines += ["", "Options before COMMAND:", *_option_lines(options)]
    lines.append(f"\nRun 'pannier {group} COMMAND --help' for more.")
    return "\n".join(lines)


def _command_page(path: str, command: Command) -> str:
    lines = [usage_line(path), "", command.summary + "."]
    also = [name for name in _spoken(path) if name != path]
    if also:
        lines += ["", "Also: " + ", ".join(f"pannier {name}" for name in also)]
    for paragraph in filter(None, command.notes.split("\n\n")):
        lines += ["", textwrap.fill(" ".join(paragraph.split()), _width())]
    lines += ["", "Options:", *_option_lines((*command.options, HELP))]
    if command.examples:
        lines += ["", "Examples:"]
        for example, meaning in command.examples:
            lines += [f"  pannier {example}", f"      {meaning}"]
    if command.see:
        lines += ["", "See also: " + ", ".join(f"pannier {name}" for name in command.see)]
    return "\n".join(lines)


def _spoken(path: str) -> list[str]:
    return [
        name for group in commands.GROUPS for name in commands.paths(group)
        if commands.canonical(name) == path
    ]  # fmt: skip


def _option_lines(options: tuple[Option, ...]) -> list[str]:
    lines: list[str] = []
    for long, short, _, value, text in sorted(options):
        left = f"  {'-' + short + ',' if short else '   '} --{long}{' ' + value if value else ''}"
        body = textwrap.wrap(text, _width() - _OPTION_WIDTH - 2) or [""]
        if len(left) >= _OPTION_WIDTH:
            lines.append(left)
        else:
            lines.append(f"{left:<{_OPTION_WIDTH}}{body.pop(0)}")
        lines += [" " * _OPTION_WIDTH + part for part in body]
    return lines


def _help(session: Session, flags: Flags, words: list[str]) -> int:
    path = commands.canonical(" ".join(words))
    if path and path not in commands.GROUPS and path not in commands.paths():
        raise UsageError(f"unknown command: pannier {path}", 1)
    return show(path)


COMMANDS = {
    "help": Command(
        _help,
        usage="[COMMAND]",
        summary="Explain a command",
        most=ANY,
        examples=[("help run", "everything about run"), ("help network", "all about networks")],
    )
}
