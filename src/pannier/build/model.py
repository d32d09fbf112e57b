"""The instructions of a Dockerfile as frozen data, before variables are expanded.

Reference: docs.docker.com/reference/dockerfile. What an instruction does is in `effects` (the
image's configuration) and `executor` (files).
"""

from __future__ import annotations

from dataclasses import dataclass

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A here-document below an instruction.

    Args:
        name: the word that ends it.
        content: its lines; leading tabs are gone already for ``<<-``.
        expand: whether variables count (the name was not quoted).
    """

    name: str
    content: str
    expand: bool


@dataclass(frozen=True, slots=True)
class Command:
    """A command in its two forms: ``["exec", "form"]``, or one line for the SHELL."""

    words: tuple[str, ...]
    shell_form: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """Args:
    line: the first line, counted from 1.
    text: the whole instruction on one line, as builds show it.
    """

    line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class From(Instruction):
    image: str
    alias: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Instruction):
    """Names with their defaults; None when there is none."""

    names: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Instruction):
    pairs: Pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Instruction):
    pairs: Pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintainer(Instruction):
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Instruction):
    command: Command
    network: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmd(Instruction):
    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint(Instruction):
    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck(Instruction):
    """Times in nanoseconds, 0 where not given; ``command`` None stands for HEALTHCHECK NONE."""

    command: Command | None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Instruction):
    """COPY and ADD; ``heredocs`` are inline files, copied like sources."""

    sources: tuple[str, ...]
    destination: str
    add: bool = False
    heredocs: tuple[Heredoc, ...] = ()
    origin: str = ""
    chown: str = ""
    chmod: str = ""

    @property
    def name(self) -> str:
        return "ADD" if self.add else "COPY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose(Instruction):
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(Instruction):
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Instruction):
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir(Instruction):
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopsignal(Instruction):
    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell(Instruction):
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Onbuild(Instruction):
    """``trigger`` is an instruction's text; it is read again when it fires."""

    trigger: str


@dataclass(frozen=True, slots=True)
class Stage:
    """What one FROM begins."""

    base: From
    steps: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        return self.base.alias


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A whole file.

    Args:
        file: its name, for messages.
        arguments: the ARG instructions before the first FROM.
        stages: in the order of the file.
        escape: the character of the ``escape`` directive.
    """

    file: str
    arguments: tuple[Arg, ...]
    stages: tuple[Stage, ...]
    escape: str = "\\"
