"""The arguments of each of the eighteen instructions: flags, JSON and shell form, pairs, lists.

One function for each instruction, called by `parser`. Words keep their quotes and variables: they
are expanded when the instruction is executed (`words`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pannier.base.errors import InvalidArgument
from pannier.base.units import parse_duration
from pannier.build import model as m
from pannier.build.errors import DockerfileError, UnsupportedInstruction
from pannier.build.lexer import LogicalLine
from pannier.build.words import expand, split_words

_FLAG = re.compile(r"--([A-Za-z][A-Za-z-]*)(?:=(\S*))?(?:\s+|$)")
_ALIAS = re.compile(r"[a-z][a-z0-9_.-]*")
_MILLISECOND_NS = 10**6

# Flags that Docker knows; what is in a parser's own list is supported, the rest is named so.
_DOCKER_FLAGS = {
    "FROM": ("platform",),
    "RUN": ("mount", "network", "security", "device"),
    "COPY": ("from", "chown", "chmod", "link", "parents", "exclude"),
    "ADD": ("chown", "chmod", "link", "keep-git-dir", "checksum", "exclude", "unpack"),
    "HEALTHCHECK": ("interval", "timeout", "start-period", "start-interval", "retries"),
}


class _AlwaysSet(dict[str, str]):
    """Stands for any environment while only the form of a word is checked."""

    def get(self, key: str, default: object = None) -> str:
        return key


@dataclass(frozen=True, slots=True)
class Source:
    """One instruction's text: ``rest`` is what follows its ``name``."""

    file: str
    line: LogicalLine
    name: str
    rest: str
    escape: str

    def error(self, problem: str, hint: str | None = None) -> DockerfileError:
        return DockerfileError(self.file, self.line.number, problem, hint)

    @property
    def place(self) -> dict[str, int | str]:
        return {"line": self.line.number, "text": self.line.text}

    def checked(self, words: Sequence[str]) -> tuple[str, ...]:
        """The words, once their quotes and braces are known to be closed."""
        for word in words:
            expand(word, _AlwaysSet(), self.escape)
        return tuple(words)


def _flags(source: Source, supported: Sequence[str]) -> tuple[dict[str, str], str]:
    """Take ``--name=value`` words from the front."""
    flags: dict[str, str] = {}
    rest = source.rest
    while match := _FLAG.match(rest):
        name, value = match[1].lower(), match[2]
        _check_flag(source, name, value, supported)
        if name in flags:
            raise source.error(f"duplicate flag --{name} of {source.name}")
        flags[name] = source.checked([value])[0]
        rest = rest[match.end() :]
    return flags, rest


def _check_flag(source: Source, name: str, value: str | None, supported: Sequence[str]) -> None:
    known = _DOCKER_FLAGS.get(source.name, ())
    if name not in known:
        expected = f"known are {' '.join('--' + flag for flag in known)}" if known else None
        raise source.error(f"unknown flag of {source.name}: --{name}", expected)
    if name not in supported:
        raise UnsupportedInstruction(
            source.file, source.line.number, f"{source.name} --{name} is not supported"
        )
    if not value:
        raise source.error(f"flag --{name} of {source.name}: a value was expected: --{name}=...")


def _json_words(text: str) -> tuple[str, ...] | None:
    """The JSON form, or None: what is no list of strings is a shell's line, as in Docker."""
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return None
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return tuple(value)
    return None


def _command(source: Source, text: str) -> m.Command:
    words = _json_words(text)
    return (
        m.Command((text,), shell_form=True) if words is None else m.Command(words, shell_form=False)
    )


def _required(source: Source, text: str) -> str:
    if not text:
        raise source.error(f"{source.name} requires at least one argument")
    return text


def _one_word(source: Source) -> str:
    words = split_words(source.rest, source.escape)
    if len(words) != 1:
        raise source.error(f"{source.name} requires exactly one argument, {len(words)} given")
    return source.checked(words)[0]


def _list(source: Source, text: str) -> tuple[str, ...]:
    """JSON form, or words cut at blanks without regard to quotes (as the classic builder)."""
    words = _json_words(text)
    return source.checked(text.split() if words is None else words)


def parse_from(source: Source) -> m.From:
    flags, rest = _flags(source, ["platform"])
    words = rest.split()
    if len(words) not in (1, 3):
        raise source.error("FROM requires either one or three arguments: FROM image [AS name]")
    alias = ""
    if len(words) == 3:
        if words[1].upper() != "AS":
            raise source.error(f"FROM: AS was expected in place of '{words[1]}'")
        alias = words[2].lower()
        if not _ALIAS.fullmatch(alias):
            raise source.error(
                f"invalid name for build stage: '{words[2]}'",
                "it begins with a letter and has letters, digits, _ . and - only",
            )
    image = source.checked([words[0]])[0]
    return m.From(
        line=source.line.number,
        text=source.line.text,
        image=image,
        alias=alias,
        platform=flags.get("platform", ""),
    )


def parse_arg(source: Source) -> m.Arg:
    words = source.checked(split_words(_required(source, source.rest), source.escape))
    names: list[tuple[str, str | None]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise source.error(f"ARG: a name was expected before '=' in '{word}'")
        names.append((name, value if equals else None))
    return m.Arg(line=source.line.number, text=source.line.text, names=tuple(names))


def _pairs(source: Source) -> m.Pairs:
    """``k=v k2="v 2"``, or the old form ``k v with blanks``."""
    words = split_words(_required(source, source.rest), source.escape)
    if "=" not in words[0]:
        parts = source.rest.split(None, 1)
        if len(parts) < 2:
            raise source.error(f"{source.name} must have two arguments: {source.name} name=value")
        pairs = [(parts[0], parts[1])]
    else:
        pairs = []
        for word in words:
            name, equals, value = word.partition("=")
            if not equals:
                raise source.error(
                    f"can't find = in '{word}'. Must be of the form: name=value",
                    "put a value with blanks in quotes",
                )
            if not name:
                raise source.error(f"{source.name} names can not be blank")
            pairs.append((name, value))
    source.checked([part for pair in pairs for part in pair])
    return tuple(pairs)


def parse_env(source: Source) -> m.Env:
    return m.Env(line=source.line.number, text=source.line.text, pairs=_pairs(source))


def parse_label(source: Source) -> m.Label:
    return m.Label(line=source.line.number, text=source.line.text, pairs=_pairs(source))


def parse_maintainer(source: Source) -> m.Maintainer:
    name = _required(source, source.rest)
    return m.Maintainer(line=source.line.number, text=source.line.text, name=name)


def parse_run(source: Source) -> m.Run:
    flags, rest = _flags(source, ["network"])
    network = flags.get("network", "")
    if network not in ("", "default", "none", "host"):
        raise source.error(f"RUN --network={network}: expected default, none or host")
    command = _command(source, _required(source, rest))
    if source.line.heredocs and command.shell_form:
        command = _heredoc_command(source, rest)
    return m.Run(
        line=source.line.number,
        text=source.line.text,
        command=command,
        network="" if network == "default" else network,
    )


def _heredoc_command(source: Source, rest: str) -> m.Command:
    """A lone here-document is the script itself; beside a command, the shell reads it."""
    first = source.line.heredocs[0]
    if len(split_words(rest, source.escape)) > 1:
        return m.Command((f"{rest}\n{source.line.raw_heredocs}",), shell_form=True)
    if first.content.startswith("#!"):
        raise UnsupportedInstruction(
            source.file,
            source.line.number,
            "RUN with a here-document that begins with #! is not supported",
            f"name the interpreter: RUN python3 <<{first.name}",
        )
    return m.Command((first.content,), shell_form=True)


def parse_cmd(source: Source) -> m.Cmd:
    return m.Cmd(
        line=source.line.number, text=source.line.text, command=_command(source, source.rest)
    )


def parse_entrypoint(source: Source) -> m.Entrypoint:
    command = _command(source, _required(source, source.rest))
    return m.Entrypoint(line=source.line.number, text=source.line.text, command=command)


def parse_healthcheck(source: Source) -> m.Healthcheck:
    flags, rest = _flags(source, _DOCKER_FLAGS["HEALTHCHECK"])
    parts = _required(source, rest).split(None, 1)
    kind = parts[0].upper()
    text = parts[1].strip() if len(parts) > 1 else ""
    if kind == "NONE":
        if text or flags:
            raise source.error("HEALTHCHECK NONE takes no arguments")
        return m.Healthcheck(line=source.line.number, text=source.line.text, command=None)
    if kind != "CMD":
        raise source.error(f"unknown type '{parts[0]}' in HEALTHCHECK: CMD or NONE was expected")
    if not text:
        raise source.error("missing command after HEALTHCHECK CMD")
    return m.Healthcheck(
        line=source.line.number,
        text=source.line.text,
        command=_command(source, text),
        interval=_duration(source, flags, "interval"),
        timeout=_duration(source, flags, "timeout"),
        start_period=_duration(source, flags, "start-period"),
        start_interval=_duration(source, flags, "start-interval"),
        retries=_retries(source, flags),
    )


def _duration(source: Source, flags: dict[str, str], name: str) -> int:
    if name not in flags:
        return 0
    value = parse_duration(flags[name])
    if 0 < value < _MILLISECOND_NS:
        raise source.error(f"HEALTHCHECK --{name}={flags[name]} cannot be less than 1ms")
    return value


def _retries(source: Source, flags: dict[str, str]) -> int:
    text = flags.get("retries", "0")
    if not text.isdigit():
        raise source.error(f"HEALTHCHECK --retries={text}: a number from 0 was expected")
    return int(text)


def parse_copy(source: Source) -> m.Copy:
    flags, rest = _flags(source, ["from", "chown", "chmod"])
    words = list(_list(source, rest))
    heredocs = source.line.heredocs
    if heredocs:
        words = [word for word in words if "<<" not in word]
    if len(words) + len(heredocs) < 2:
        raise source.error(
            f"{source.name} requires at least two arguments",
            f"{source.name} source... destination",
        )
    if "$" in flags.get("from", ""):
        raise source.error("variable expansion is not supported in COPY --from")
    return m.Copy(
        line=source.line.number,
        text=source.line.text,
        sources=tuple(words[:-1]),
        destination=words[-1],
        add=source.name == "ADD",
        heredocs=heredocs,
        origin=flags.get("from", ""),
        chown=flags.get("chown", ""),
        chmod=flags.get("chmod", ""),
    )


def parse_expose(source: Source) -> m.Expose:
    words = source.checked(split_words(_required(source, source.rest), source.escape))
    return m.Expose(line=source.line.number, text=source.line.text, ports=words)


def parse_volume(source: Source) -> m.Volume:
    paths = _list(source, _required(source, source.rest))
    if not all(paths) or not paths:
        raise source.error("VOLUME specified can not be an empty string")
    return m.Volume(line=source.line.number, text=source.line.text, paths=paths)


def parse_user(source: Source) -> m.User:
    return m.User(line=source.line.number, text=source.line.text, user=_one_word(source))


def parse_workdir(source: Source) -> m.Workdir:
    path = source.checked([_required(source, source.rest)])[0]
    return m.Workdir(line=source.line.number, text=source.line.text, path=path)


def parse_stopsignal(source: Source) -> m.Stopsignal:
    return m.Stopsignal(line=source.line.number, text=source.line.text, signal=_one_word(source))


def parse_shell(source: Source) -> m.Shell:
    words = _json_words(_required(source, source.rest))
    if not words:
        raise source.error('SHELL requires the arguments to be in JSON form: ["/bin/sh", "-c"]')
    return m.Shell(line=source.line.number, text=source.line.text, words=words)


def parse_onbuild(source: Source) -> m.Onbuild:
    trigger = _required(source, source.rest)
    return m.Onbuild(line=source.line.number, text=source.line.text, trigger=trigger)


def check_chmod(text: str) -> int | None:
    """The mode of ``--chmod``; None when it was not given.

    Raises:
        InvalidArgument: no octal number up to 7777.
    """
    if not text:
        return None
    if not re.fullmatch(r"0*[0-7]{1,4}", text):
        raise InvalidArgument(f"invalid chmod parameter: '{text}'", hint="write it in octal: 755")
    return int(text, 8)
