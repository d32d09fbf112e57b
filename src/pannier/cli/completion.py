"""Shell completion: the scripts, and what they ask (``pannier __complete WORDS...``)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

from pannier.base.errors import PannierError
from pannier.cli import commands
from pannier.cli.command import Command
from pannier.cli.flags import Flags, Option, UsageError
from pannier.cli.session import Session
from pannier.client.api import Client
from pannier.client.bare import Connection, socket_path

_BASH = """\
_pannier() {
    local IFS=$'\\n' word=${COMP_WORDS[COMP_CWORD]}
    local words=("${COMP_WORDS[@]:1:COMP_CWORD}")
    COMPREPLY=($(pannier __complete -- "${words[@]}" 2>/dev/null))
    if [ "${COMPREPLY[0]}" = ":file" ]; then
        COMPREPLY=($(compgen -f -- "$word"))
        compopt -o filenames 2>/dev/null
    fi
    if declare -F __ltrim_colon_completions >/dev/null; then
        __ltrim_colon_completions "$word"
    fi
}
complete -F _pannier pannier
"""
_ZSH = """\
#compdef pannier
_pannier() {
    local -a found
    found=("${(@f)$(pannier __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [ "${found[1]}" = ":file" ]; then
        _files
    else
        compadd -- "${found[@]}"
    fi
}
compdef _pannier pannier
"""
_FISH = """\
function __pannier_complete
    set -l words (commandline -opc)[2..-1] (commandline -ct)
    set -l found (pannier __complete -- $words 2>/dev/null)
    if test "$found[1]" = ":file"
        __fish_complete_path (commandline -ct)
    else
        string join \\n $found
    end
end
complete -c pannier -f -a '(__pannier_complete)'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
_FILE = ":file"  # tells the script to complete names of files
# What a flag's value names.
_VALUES = {
    "network": "network",
    "net": "network",
    "volumes-from": "container",
    "env-file": "file",
    "file": "file",
    "cidfile": "file",
    "iidfile": "file",
    "label-file": "file",
    "output": "file",
    "input": "file",
}
_TIMEOUT = 2.0  # seconds; a shell that hangs on the tab key is worse than no completion


def _completion(session: Session, flags: Flags, words: list[str]) -> int:
    script = _SCRIPTS.get(words[0])
    if script is None:
        raise UsageError(f"unknown shell '{words[0]}': there are bash, zsh and fish", 1)
    sys.stdout.write(script)
    return 0


def _complete(session: Session, flags: Flags, words: list[str]) -> int:
    """The last word is the one that is being typed."""
    typed = words[-1] if words else ""
    for candidate in candidates(session, words[:-1], typed):
        if candidate.startswith(typed) or candidate == _FILE:
            sys.stdout.write(f"{candidate}\n")
    return 0


def candidates(session: Session, before: list[str], typed: str) -> Iterable[str]:
    """What may stand after the words *before*."""
    group, rest = _group(before)
    if group and not rest:
        names = [path.removeprefix(group + " ") for path in commands.paths(group)]
        return names if not typed.startswith("-") else _flag_names(_group_options(group))
    if not group and not rest:
        top = {path.partition(" ")[0] for path in commands.paths()}
        return sorted(top | set(commands.GROUPS))
    path = f"{group} {rest[0]}" if group else rest[0]
    try:
        command = commands.load(commands.canonical(path))
    except KeyError:
        return []
    return _arguments(session, command, rest[1:], typed)


def _group(words: list[str]) -> tuple[str, list[str]]:
    """The group's name and what follows it and its flags."""
    if not words or words[0] not in commands.GROUPS:
        return "", words
    options = {f"--{o[0]}": o for o in _group_options(words[0])}
    options |= {f"-{o[1]}": o for o in _group_options(words[0]) if o[1]}
    rest = words[1:]
    while rest and rest[0].startswith("-"):
        option = options.get(rest[0])
        rest = rest[2:] if option and option[2] != "flag" else rest[1:]
    return words[0], rest


def _group_options(group: str) -> tuple[Option, ...]:
    return commands.GROUP_OPTIONS.get(group, ())


def _flag_names(options: Iterable[Option]) -> list[str]:
    return sorted(f"--{option[0]}" for option in options)


def _arguments(session: Session, command: Command, words: list[str], typed: str) -> Iterable[str]:
    if words and words[-1].startswith("-") and "=" not in words[-1]:
        option = _option(command, words[-1])
        if option and option[2] != "flag":
            return _names(session, _VALUES.get(option[0], ""))
    if typed.startswith("-"):
        return _flag_names(command.options)
    kind = command.complete
    if not command.interspersed and _has_argument(command, words):
        return [_FILE]
    return _names(session, kind)


def _option(command: Command, word: str) -> Option | None:
    for option in command.options:
        if word in {f"--{option[0]}", f"-{option[1]}" if option[1] else None}:
            return option
    return None


def _has_argument(command: Command, words: list[str]) -> bool:
    """Whether the image of run, or the container of exec, has been typed."""
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word.startswith("-"):
            option = _option(command, word)
            skip = option is not None and option[2] != "flag"
        else:
            return True
    return False


def _names(session: Session, kind: str) -> Iterable[str]:
    """Names of objects; nothing at all when no engine answers: a tab key starts none."""
    if kind == "file":
        return [_FILE]
    lookup = _LOOKUPS.get(kind)
    if lookup is None:
        return []
    client = Client(lambda: Connection(socket_path(session.host), _TIMEOUT))
    try:
        return list(lookup(client))
    except (PannierError, OSError):
        return []


def _containers(client: Client, *, all_: bool) -> Iterable[str]:
    for item in client.containers.list(all=all_):
        yield str(item["Names"][0]).removeprefix("/")


def _images(client: Client) -> Iterable[str]:
    for item in client.images.list():
        for tag in item.get("RepoTags") or []:
            yield tag
            yield tag.removesuffix(":latest")


def _services(client: Client) -> Iterable[str]:
    found: set[str] = set()
    for stack in client.stacks.list():
        found |= {str(service["Name"]) for service in stack.get("Services") or []}
    return sorted(found)


_LOOKUPS: dict[str, Callable[[Client], Iterable[str]]] = {
    "container": lambda client: _containers(client, all_=True),
    "running": lambda client: _containers(client, all_=False),
    "image": _images,
    "network": lambda client: (str(n["Name"]) for n in client.networks.list()),
    "volume": lambda client: (str(v["Name"]) for v in client.volumes.list()),
    "service": _services,
}

COMMANDS = {
    "completion": Command(
        _completion,
        usage="bash|zsh|fish",
        summary="Print the script that lets a shell complete commands and names",
        least=1,
        most=1,
        examples=(
            (
                "completion bash > /etc/bash_completion.d/pannier",
                "for everyone, from the next shell on",
            ),
            ("completion fish > ~/.config/fish/completions/pannier.fish", "for yourself"),
        ),
        see=("help",),
    ),
    "__complete": Command(_complete, summary="What may follow", interspersed=False),
}
