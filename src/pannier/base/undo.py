"""Undo stacks: each step of a change pushes how to take it back; success drops the stack.

Steps are undone in reverse. A failing undo step never hides the first error: it becomes its note.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import ParamSpec, Self

from pannier.base.errors import Internal

P = ParamSpec("P")

_CLEANUP_LIMIT_S = 10.0


class UndoStack:
    """For synchronous changes: ``with UndoStack() as undo: undo.push(f, x); undo.commit()``."""

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []

    def push(self, step: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        self._steps.append(lambda: step(*args, **kwargs))

    def commit(self) -> None:
        self._steps.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        failures = []
        while self._steps:
            try:
                self._steps.pop()()
            except Exception as failure:  # every further step must still be undone
                failures.append(failure)
        _report(error, failures)


class AsyncUndoStack:
    """For asynchronous changes; steps may be plain or coroutine functions.

    The clean-up runs shielded from cancellation, within ten seconds.
    """

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []

    def push(self, step: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        self._steps.append(lambda: step(*args, **kwargs))

    def commit(self) -> None:
        self._steps.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._steps:
            failures = await asyncio.shield(self._undo())
            _report(error, failures)

    async def _undo(self) -> list[Exception]:
        failures: list[Exception] = []
        while self._steps:
            try:
                async with asyncio.timeout(_CLEANUP_LIMIT_S):
                    result = self._steps.pop()()
                    if inspect.isawaitable(result):
                        await _awaited(result)
            except Exception as failure:
                failures.append(failure)
        return failures


async def _awaited(result: Awaitable[object]) -> None:
    await result


def _report(error: BaseException | None, failures: list[Exception]) -> None:
    if not failures:
        return
    if error is None:
        raise Internal(f"clean-up failed: {failures[0]}") from failures[0]
    for failure in failures:
        error.add_note(f"while undoing: {failure!r}")
