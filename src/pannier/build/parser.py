"""A Dockerfile's text into instructions; pure: no file is read and no variable looked up.

Rules: docs.docker.com/reference/dockerfile. Lines and continuations are `lexer`'s matter, the shape
of each instruction's arguments is in `arguments`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pannier.base.errors import InvalidArgument
from pannier.build import arguments as a
from pannier.build.errors import DockerfileError
from pannier.build.lexer import LogicalLine, read_lines
from pannier.build.model import Arg, Dockerfile, From, Instruction, Onbuild, Stage

_PARSERS: dict[str, Callable[[a.Source], Instruction]] = {
    "ADD": a.parse_copy,
    "ARG": a.parse_arg,
    "CMD": a.parse_cmd,
    "COPY": a.parse_copy,
    "ENTRYPOINT": a.parse_entrypoint,
    "ENV": a.parse_env,
    "EXPOSE": a.parse_expose,
    "FROM": a.parse_from,
    "HEALTHCHECK": a.parse_healthcheck,
    "LABEL": a.parse_label,
    "MAINTAINER": a.parse_maintainer,
    "ONBUILD": a.parse_onbuild,
    "RUN": a.parse_run,
    "SHELL": a.parse_shell,
    "STOPSIGNAL": a.parse_stopsignal,
    "USER": a.parse_user,
    "VOLUME": a.parse_volume,
    "WORKDIR": a.parse_workdir,
}


def parse(source: str, file: str = "Dockerfile") -> Dockerfile:
    """Read a whole Dockerfile.

    Args:
        source: its text.
        file: its name, for messages.

    Raises:
        DockerfileError: the first mistake, with its line.
        UnsupportedInstruction: a flag that exists, and is not supported here.
    """
    escape, lines = read_lines(source, file)
    if not lines:
        raise DockerfileError(file, 1, "the file is empty: an instruction FROM was expected")
    instructions = [_parse_line(line, file, escape) for line in lines]
    arguments, stages = _grouped(instructions, file)
    return Dockerfile(file, arguments, stages, escape)


def parse_instruction(text: str, file: str = "ONBUILD", escape: str = "\\") -> Instruction:
    """Read one instruction: an ONBUILD trigger, or a change given to commit or import.

    Raises:
        DockerfileError, UnsupportedInstruction: as `parse`.
    """
    return _parse_line(LogicalLine(1, text.strip()), file, escape)


def _parse_line(line: LogicalLine, file: str, escape: str) -> Instruction:
    word, _, rest = _split_head(line.text)
    name = word.upper()
    parser = _PARSERS.get(name)
    if parser is None:
        raise DockerfileError(file, line.number, f"unknown instruction: {name}", _hint(name))
    source = a.Source(file, line, name, rest, escape)
    try:
        instruction = parser(source)
    except InvalidArgument as error:
        if isinstance(error, DockerfileError):
            raise
        raise DockerfileError(file, line.number, f"{name}: {error}", error.hint) from error
    if isinstance(instruction, Onbuild):
        _check_trigger(instruction, source)
    return instruction


def _split_head(text: str) -> tuple[str, str, str]:
    parts = text.split(None, 1)
    return parts[0], " ", parts[1] if len(parts) > 1 else ""


def _hint(name: str) -> str:
    import difflib  # noqa: PLC0415 - only after a mistake

    close = difflib.get_close_matches(name, _PARSERS, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return "expected one of " + " ".join(_PARSERS)


def _check_trigger(instruction: Onbuild, source: a.Source) -> None:
    """A trigger must be readable now: whoever writes it sees the mistake, not whoever uses it."""
    word = instruction.trigger.split(None, 1)[0].upper()
    if word == "ONBUILD":
        raise source.error("chaining ONBUILD via ONBUILD ONBUILD isn't allowed")
    if word in {"FROM", "MAINTAINER"}:
        raise source.error(f"{word} isn't allowed as an ONBUILD trigger")
    line = LogicalLine(source.line.number, instruction.trigger)
    _parse_line(line, source.file, source.escape)


def _grouped(
    instructions: Iterable[Instruction], file: str
) -> tuple[tuple[Arg, ...], tuple[Stage, ...]]:
    arguments: list[Arg] = []
    stages: list[tuple[From, list[Instruction]]] = []
    for instruction in instructions:
        if isinstance(instruction, From):
            _check_alias(instruction, [base.alias for base, _ in stages], file)
            stages.append((instruction, []))
        elif stages:
            stages[-1][1].append(instruction)
        elif isinstance(instruction, Arg):
            arguments.append(instruction)
        else:
            problem = "no build stage in current context: an instruction FROM was expected first"
            raise DockerfileError(file, instruction.line, problem, "begin with FROM image")
    if not stages:
        line = arguments[-1].line
        raise DockerfileError(file, line, "no build stage: an instruction FROM was expected")
    return tuple(arguments), tuple(Stage(base, tuple(steps)) for base, steps in stages)


def _check_alias(instruction: From, before: list[str], file: str) -> None:
    if instruction.alias and instruction.alias in before:
        problem = f"duplicate name {instruction.alias}: another stage has it already"
        raise DockerfileError(file, instruction.line, problem)
