"""Commands over several objects: do each, go on after a failure, end with 1 if any failed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

from pannier.base.errors import NotModified, PannierError


def each(names: Iterable[str], act: Callable[[str], object], *, quiet: bool = False) -> int:
    """Call *act* for each name and print the name, as Docker does.

    Args:
        act: raises an error of `base.errors`; what it returns is printed instead of the name if
            it is a string.
        quiet: print nothing.

    Returns:
        the exit status.
    """
    failed = 0
    for name in names:
        try:
            result = act(name)
        except NotModified:
            result = None  # it is as wanted already
        except PannierError as error:
            failed = 1
            sys.stdout.flush()
            sys.stderr.write(f"pannier: {error.message}\n")
            if error.hint:
                sys.stderr.write(f"hint: {error.hint}\n")
            continue
        if not quiet:
            sys.stdout.write(f"{result if isinstance(result, str) else name}\n")
    return failed


def confirm(question: str) -> bool:
    """Ask for yes or no on the terminal; without one the answer is no."""
    sys.stdout.write(f"{question}\nAre you sure you want to continue? [y/N] ")
    sys.stdout.flush()
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        sys.stdout.write("\n")
    return answer.strip().lower() in {"y", "yes"}
