"""How a Dockerfile's mistakes are told: always file, line and what was expected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pannier.base.errors import InvalidArgument, Unsupported


class DockerfileError(InvalidArgument):
    """A Dockerfile breaks its own rules.

    Args:
        file: the Dockerfile's path inside the context.
        line: the first line of the instruction, counted from 1.
        problem: what is wrong and what was expected.
        hint: what to do about it.
    """

    def __init__(self, file: str, line: int, problem: str, hint: str | None = None) -> None:
        super().__init__(f"{file}:{line}: {problem}", hint=hint, file=file, line=line)


class UnsupportedInstruction(Unsupported):
    """Correct, and not supported by this builder; arguments as of `DockerfileError`."""

    def __init__(self, file: str, line: int, problem: str, hint: str | None = None) -> None:
        super().__init__(f"{file}:{line}: {problem}", hint=hint, file=file, line=line)


class CommandFailed(InvalidArgument):
    """A RUN step ended with a code other than 0; it is in the fields as ``exit_code``.

    The wording is that of Docker's classic builder, which clients match.
    """

    def __init__(self, command: str, code: int) -> None:
        super().__init__(
            f"The command '{command}' returned a non-zero code: {code}", exit_code=code
        )


@contextmanager
def located(file: str, line: int) -> Iterator[None]:
    """Give errors that are an instruction's fault its place."""
    try:
        yield
    except (DockerfileError, CommandFailed):
        raise
    except InvalidArgument as error:
        raise DockerfileError(file, line, error.message, error.hint) from error
