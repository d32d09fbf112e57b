"""What a command is: its words for people, its flags, and the function that does it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from pannier.cli.flags import Flags, Option
    from pannier.cli.session import Session

    # Returns the exit status.
    Handler: TypeAlias = Callable[[Session, Flags, list[str]], int]

ANY = -1


class Command:
    """One command, such as ``ps`` or ``network create``.

    Args:
        run: does it; returns the exit status.
        usage: what follows the name in the usage line.
        summary: one line, no final period.
        options: its flags.
        least, most: number of arguments; `ANY` means no upper limit.
        interspersed: whether flags may follow the first argument.
        examples: pairs of a command line (without ``pannier``) and what it does.
        see: names of related commands.
        failure: exit status when the engine refuses; Docker has 125 for run and 1 for others.
        complete: what its arguments name: ``container``, ``running``, ``image``, ``network``,
            ``volume``, ``file`` or "".
        notes: paragraphs for the help page.
    """

    __slots__ = (
        "complete",
        "examples",
        "failure",
        "interspersed",
        "least",
        "most",
        "notes",
        "options",
        "run",
        "see",
        "summary",
        "usage",
    )

    def __init__(  # noqa: PLR0913 - a table row: every argument is a keyword
        self,
        run: Handler,
        *,
        usage: str = "",
        summary: str,
        options: Sequence[Option] = (),
        least: int = 0,
        most: int = ANY,
        interspersed: bool = True,
        examples: Sequence[tuple[str, str]] = (),
        see: Sequence[str] = (),
        failure: int = 1,
        complete: str = "",
        notes: str = "",
    ) -> None:
        self.run = run
        self.usage = usage
        self.summary = summary
        self.options = options
        self.least = least
        self.most = most
        self.interspersed = interspersed
        self.examples = examples
        self.see = see
        self.failure = failure
        self.complete = complete
        self.notes = notes
