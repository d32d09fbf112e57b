"""What instructions change in an image's configuration, and their line in its history; pure.

The words are expanded already. Files are the `executor`'s matter.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from pannier.base.errors import InvalidArgument
from pannier.build import model as m
from pannier.oci.image import ContainerDefaults, Healthcheck, ImageConfig
from pannier.wire.signals import parse_signal

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL = ("/bin/sh", "-c")

_PORT = re.compile(r"(\d+)(?:-(\d+))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_LARGEST_PORT = 65535


def applied(  # noqa: C901, PLR0911, PLR0912 - one case for each instruction
    defaults: ContainerDefaults, step: m.Instruction, *, command_is_own: bool
) -> ContainerDefaults:
    """The configuration after *step*.

    Args:
        defaults: the configuration before.
        step: any instruction; those that do not change the configuration give it back.
        command_is_own: CMD stood in this stage already; an inherited one falls with ENTRYPOINT.

    Raises:
        InvalidArgument: a value that is no port, signal or path.
    """
    match step:
        case m.Env(pairs=pairs):
            return replace(defaults, env=merged_env(defaults.env or [], pairs))
        case m.Label(pairs=pairs):
            return replace(defaults, labels={**(defaults.labels or {}), **dict(pairs)})
        case m.Expose(ports=ports):
            exposed = {port: dict[str, str]() for text in ports for port in expanded_ports(text)}
            return replace(defaults, exposed_ports={**(defaults.exposed_ports or {}), **exposed})
        case m.Volume(paths=paths):
            volumes = {path: dict[str, str]() for path in paths}
            return replace(defaults, volumes={**(defaults.volumes or {}), **volumes})
        case m.User(user=user):
            return replace(defaults, user=_not_blank("USER", user))
        case m.Workdir(path=path):
            return replace(defaults, working_dir=joined(defaults.working_dir, path))
        case m.Cmd(command=command):
            return replace(defaults, cmd=argv(defaults, command))
        case m.Entrypoint(command=command):
            cmd = defaults.cmd if command_is_own else None
            return replace(defaults, entrypoint=argv(defaults, command), cmd=cmd)
        case m.Healthcheck():
            return replace(defaults, healthcheck=_health(step))
        case m.Stopsignal(signal=signal):
            parse_signal(_not_blank("STOPSIGNAL", signal))
            return replace(defaults, stop_signal=signal)
        case m.Shell(words=words):
            return replace(defaults, shell=list(words))
        case m.Onbuild(trigger=trigger):
            return replace(defaults, on_build=[*(defaults.on_build or []), trigger])
        case _:
            return defaults


def with_author(config: ImageConfig, name: str) -> ImageConfig:
    """MAINTAINER."""
    return replace(config, author=name)


def merged_env(env: Sequence[str], pairs: Iterable[tuple[str, str]]) -> list[str]:
    """``NAME=value`` entries with *pairs* put in; a known name keeps its place."""
    result = list(env)
    for name, value in pairs:
        entry = f"{name}={value}"
        places = [i for i, old in enumerate(result) if old.partition("=")[0] == name]
        if places:
            result[places[0]] = entry
        else:
            result.append(entry)
    return result


def environment(env: Sequence[str] | None) -> dict[str, str]:
    """Entries as a mapping."""
    return {name: value for name, _, value in (entry.partition("=") for entry in env or [])}


def expanded_ports(text: str) -> list[str]:
    """``8000-8002/udp`` as single ports with their protocol.

    Raises:
        InvalidArgument: no port or range from 1 to 65535.
    """
    match = _PORT.fullmatch(text)
    if match:
        first, last = int(match[1]), int(match[2] or match[1])
        if 0 < first <= last <= _LARGEST_PORT:
            protocol = (match[3] or "tcp").lower()
            return [f"{port}/{protocol}" for port in range(first, last + 1)]
    raise InvalidArgument(
        f"EXPOSE: invalid containerPort: {text}", hint="write 80, 80/udp or 8000-8010"
    )


def joined(workdir: str, path: str) -> str:
    """*path* seen from *workdir*, absolute and normal; a slash at the end is dropped."""
    if not path:
        raise InvalidArgument("WORKDIR: a path was expected, the variables gave an empty one")
    return "/" + posixpath.normpath(posixpath.join("/", workdir, path)).lstrip("/")


def argv(defaults: ContainerDefaults, command: m.Command) -> list[str]:
    """The words to run: the shell form goes through SHELL."""
    if command.shell_form and command.words[0]:
        return [*(defaults.shell or DEFAULT_SHELL), *command.words]
    return [word for word in command.words if word or not command.shell_form]


def _not_blank(name: str, value: str) -> str:
    if not value:
        raise InvalidArgument(f"{name}: a value was expected, the variables gave an empty one")
    return value


def _health(step: m.Healthcheck) -> Healthcheck:
    if step.command is None:
        return Healthcheck(test=["NONE"])
    form = "CMD-SHELL" if step.command.shell_form else "CMD"
    return Healthcheck(
        test=[form, *step.command.words],
        interval=step.interval,
        timeout=step.timeout,
        start_period=step.start_period,
        start_interval=step.start_interval,
        retries=step.retries,
    )


def history_line(defaults: ContainerDefaults, step: m.Instruction) -> str:
    """``created_by`` of an instruction without files, as the classic builder writes it."""
    shell = " ".join(defaults.shell or DEFAULT_SHELL)
    gap = " " if isinstance(step, m.Workdir) else "  "
    return f"{shell} #(nop){gap}{_described(defaults, step)}"


def run_history_line(words: Sequence[str], arguments: Mapping[str, str]) -> str:
    """``created_by`` of RUN: the command behind the build arguments that it saw."""
    prefix = [f"|{len(arguments)}", *(f"{k}={v}" for k, v in sorted(arguments.items()))]
    return " ".join([*(prefix if arguments else []), *words])


def copy_history_line(defaults: ContainerDefaults, step: m.Copy, digest: str, kind: str) -> str:
    """``created_by`` of COPY and ADD: *kind* is ``file``, ``dir`` or ``multi``."""
    shell = " ".join(defaults.shell or DEFAULT_SHELL)
    return f"{shell} #(nop) {step.name} {kind}:{digest} in {step.destination} "


def _described(defaults: ContainerDefaults, step: m.Instruction) -> str:
    match step:
        case m.Env(pairs=pairs) | m.Label(pairs=pairs):
            words = " ".join(f"{name}={value}" for name, value in pairs)
        case m.Arg(names=names):
            words = " ".join(n if value is None else f"{n}={value}" for n, value in names)
        case m.Cmd(command=command) | m.Entrypoint(command=command):
            words = _quoted(argv(defaults, command))
        case m.Shell(words=shell):
            words = f"[{' '.join(shell)}]"
        case m.Expose(ports=ports):
            words = " ".join(ports)
        case m.Volume(paths=paths):
            words = f"[{' '.join(paths)}]"
        case m.User(user=word) | m.Stopsignal(signal=word) | m.Workdir(path=word):
            words = word
        case _:
            return step.text
    return f"{type(step).__name__.upper()} {words}"


def _quoted(words: Sequence[str]) -> str:
    escaped = [word.replace("\\", "\\\\").replace('"', '\\"') for word in words]
    return "[" + " ".join(f'"{word}"' for word in escaped) + "]"
