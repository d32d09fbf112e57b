"""Which stages a build needs: names, numbers, ``--target``, and what each one takes from others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pannier.base.errors import InvalidArgument
from pannier.build import model as m
from pannier.build.errors import DockerfileError
from pannier.build.words import expand

SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stage that is needed.

    Args:
        number: its place in the file, from 0.
        base: the expanded name after FROM.
        parent: the number of the stage that FROM names, or None for an image.
    """

    number: int
    stage: m.Stage
    base: str
    parent: int | None


class Graph:
    """The stages of a file with their names."""

    def __init__(self, file: m.Dockerfile, variables: Mapping[str, str]) -> None:
        """
        Args:
            variables: what FROM sees: the arguments before the first FROM.

        Raises:
            DockerfileError: a base name that comes out empty.
        """
        self._file = file
        self._planned = [self._plan(n, stage, variables) for n, stage in enumerate(file.stages)]

    def needed(self, target: str) -> list[PlannedStage]:
        """The stages for *target* ("" for the last one), in the order of the file.

        Raises:
            InvalidArgument: there is no such stage.
        """
        goal = self._target(target)
        wanted: set[int] = set()
        todo = [goal]
        while todo:
            number = todo.pop()
            if number not in wanted:
                wanted.add(number)
                todo += self._uses(self._planned[number])
        return [self._planned[number] for number in sorted(wanted)]

    def find(self, name: str, before: int) -> int | None:
        """The number of the stage called *name* (or that number) above stage *before*."""
        wanted = name.lower()
        for number in range(before - 1, -1, -1):
            if self._file.stages[number].name == wanted:
                return number
        return int(name) if name.isdigit() and int(name) < before else None

    def _target(self, target: str) -> int:
        stages = self._file.stages
        if not target:
            return len(stages) - 1
        number = self.find(target, len(stages))
        if number is None:
            names = ", ".join(stage.name for stage in stages if stage.name)
            raise InvalidArgument(
                f"failed to reach build target {target} in Dockerfile",
                hint=f"the stages are: {names}" if names else "no stage has a name",
            )
        return number

    def _plan(self, number: int, stage: m.Stage, variables: Mapping[str, str]) -> PlannedStage:
        line = stage.base.line
        try:
            base = expand(stage.base.image, variables, self._file.escape)
        except InvalidArgument as error:
            raise DockerfileError(self._file.file, line, f"FROM: {error}") from error
        if not base:
            problem = f"base name ({stage.base.image}) should not be blank"
            hint = "an ARG before the first FROM gives it a value"
            raise DockerfileError(self._file.file, line, problem, hint)
        named = None if base.isdigit() or base == SCRATCH else self.find(base, number)
        return PlannedStage(number, stage, base, named)

    def _uses(self, planned: PlannedStage) -> list[int]:
        found = [] if planned.parent is None else [planned.parent]
        for step in planned.stage.steps:
            if isinstance(step, m.Copy) and step.origin:
                number = self.find(step.origin, planned.number)
                if number is not None:
                    found.append(number)
        return found
