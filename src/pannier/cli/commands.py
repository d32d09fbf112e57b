"""Which module does which command; nothing is loaded to answer that.

A module named here has ``COMMANDS``: a dict from a command's path (``network create``) to a
`Command`.
"""

from __future__ import annotations

import sys

from pannier.cli.flags import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pannier.cli.command import Command
    from pannier.cli.flags import Flags, Option

_MODULES = {
    "run": "run",
    "create": "run",
    "exec": "execute",
    "shell": "execute",
    "start": "attach",
    "attach": "attach",
    "console": "attach",
    "logs": "logs",
    "boot": "boot",
    "ps": "list_containers",
    "port": "list_containers",
    "top": "list_containers",
    "diff": "list_containers",
    "stop": "lifecycle",
    "kill": "lifecycle",
    "restart": "lifecycle",
    "pause": "lifecycle",
    "unpause": "lifecycle",
    "rename": "lifecycle",
    "rm": "lifecycle",
    "wait": "lifecycle",
    "container prune": "lifecycle",
    "rollback": "rollback",
    "update": "update",
    "inspect": "inspection",
    "stats": "stats",
    "events": "events",
    "cp": "copy",
    "export": "copy",
    "commit": "copy",
    "build": "build",
    "builder prune": "build",
    "images": "images",
    "tag": "images",
    "rmi": "images",
    "history": "images",
    "image prune": "images",
    "pull": "transfer",
    "push": "transfer",
    "save": "transfer",
    "load": "transfer",
    "import": "transfer",
    "image bootstrap": "transfer",
    "login": "transfer",
    "network ls": "networks",
    "network create": "networks",
    "network rm": "networks",
    "network connect": "networks",
    "network disconnect": "networks",
    "network prune": "networks",
    "volume ls": "volumes",
    "volume create": "volumes",
    "volume rm": "volumes",
    "volume prune": "volumes",
    "info": "system",
    "version": "system",
    "system df": "system",
    "system prune": "system",
    "system shutdown": "system",
    "compose up": "compose_up",
    "compose build": "compose_up",
    "compose create": "compose_up",
    "compose scale": "compose_up",
    "compose down": "compose_up",
    "compose rollback": "compose_up",
    "compose config": "compose_view",
    "compose ps": "compose_view",
    "compose ls": "compose_view",
    "compose images": "compose_view",
    "compose logs": "compose_view",
    "compose top": "compose_view",
    "compose start": "compose_act",
    "compose stop": "compose_act",
    "compose restart": "compose_act",
    "compose kill": "compose_act",
    "compose rm": "compose_act",
    "compose pause": "compose_act",
    "compose unpause": "compose_act",
    "compose exec": "compose_act",
    "compose port": "compose_view",
    "compose pull": "compose_act",
    "completion": "completion",
    "__complete": "completion",
    "help": "help",
}

_CONTAINER = (
    "attach commit cp create diff exec export inspect kill logs pause port rename restart rm run "
    "start stats stop top unpause update wait"
)
# Other ways to say it, as in Docker.
_ALIASES = {f"container {name}": name for name in _CONTAINER.split()} | {
    "container ls": "ps",
    "container list": "ps",
    "container ps": "ps",
    "image ls": "images",
    "image list": "images",
    "image rm": "rmi",
    "image remove": "rmi",
    "image build": "build",
    "image history": "history",
    "image import": "import",
    "image inspect": "inspect",
    "image load": "load",
    "image pull": "pull",
    "image push": "push",
    "image save": "save",
    "image tag": "tag",
    "network list": "network ls",
    "network remove": "network rm",
    "network inspect": "inspect",
    "volume list": "volume ls",
    "volume remove": "volume rm",
    "volume inspect": "inspect",
    "system events": "events",
    "system info": "info",
    "builder build": "build",
}
# What an alias through a group adds: `network inspect` looks among networks only.
_IMPLIED = {
    "container inspect": ["--type", "container"],
    "image inspect": ["--type", "image"],
    "network inspect": ["--type", "network"],
    "volume inspect": ["--type", "volume"],
}
GROUPS = {
    "container": "Containers of both kinds",
    "image": "Images: what containers are made from",
    "network": "Networks: who reaches whom",
    "volume": "Volumes: data that outlives a container",
    "system": "The engine as a whole",
    "builder": "What builds leave behind",
    "compose": "Several services from one compose file",
}
_ALIKE = 0.65  # of 1: "rnu" is meant as "run" (0.67), "swarm" not as "start" (0.6)
# Flags between the group's name and the command; they reach a command as `Session.group`.
GROUP_OPTIONS: dict[str, tuple[Option, ...]] = {
    "compose": (
        ("file", "f", "list", "FILE", "Compose file (default compose.yaml, here or above)"),
        ("project-name", "p", "text", "NAME", "Name of the project (default: the directory's)"),
        ("project-directory", "", "text", "DIR", "What relative paths start from"),
        ("env-file", "", "list", "FILE", "Variables for the compose file (default .env)"),
        ("profile", "", "list", "NAME", "Activate a profile"),
        ("progress", "", "text", "MODE", "auto, plain or quiet"),
        ("ansi", "", "text", "MODE", "auto, never or always"),
    )
}


def find(words: list[str]) -> tuple[str, Command, list[str], Flags | None]:
    """The command that *words* begin with.

    Returns:
        its path, itself, the words after its name, the flags of its group.

    Raises:
        UsageError: there is none.
    """
    name, rest = words[0], words[1:]
    flags: Flags | None = None
    if name in GROUPS:
        options = GROUP_OPTIONS.get(name)
        if options:
            from pannier.cli.flags import parse  # noqa: PLC0415 - one group of many

            flags, rest = parse(options, rest, interspersed=False)
        if not rest or rest[0] in {"--help", "-h", "help"} or (flags and flags.on("help")):
            return "help", load("help"), [name], None
        name, rest = f"{name} {rest[0]}", rest[1:]
    path = _ALIASES.get(name, name)
    if path not in _MODULES:
        raise UsageError(_unknown(name), 1)
    return path, load(path), [*_IMPLIED.get(name, ()), *rest], flags


def load(path: str) -> Command:
    """Import the module of one command."""
    module = "pannier.cli." + _MODULES[path]
    __import__(module)
    command: Command = sys.modules[module].COMMANDS[path]
    return command


def paths(group: str | None = None) -> list[str]:
    """All commands' paths, or what can follow a group's name; hidden ones are left out."""
    names = [name for name in _MODULES if not name.startswith("__")]
    if group is None:
        return names
    spoken = [*names, *_ALIASES]
    return sorted({name for name in spoken if name.startswith(group + " ")})


def canonical(path: str) -> str:
    """The command behind another way to say it."""
    return _ALIASES.get(path, path)


def _unknown(name: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only after a mistake

    group, _, word = name.rpartition(" ")
    known = paths(group) if group else [path for path in paths() if " " not in path]
    near = get_close_matches(word, [path.rpartition(" ")[2] for path in known], 1, _ALIKE)
    message = f"unknown command: pannier {name}"
    return f"{message} (did you mean '{f'{group} {near[0]}'.strip()}'?)" if near else message
