"""What an engine remembers of each stack, as one JSON file: enough to scale, roll back and resume.

The containers themselves are the truth about what runs; this is what was wanted, and before that.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from pannier.base.atomic import write_atomic
from pannier.base.errors import Internal
from pannier.compose.model import Project, Service

_VERSION = 1
_MOST_REVISIONS = 10


class Revision(msgspec.Struct, frozen=True):
    """A service as it once ran: its definition and the image behind its reference."""

    service: Service
    image_id: str


class Pending(msgspec.Struct, frozen=True, omit_defaults=True):
    """An operation that has begun: taken up again when the engine died in the middle of it."""

    kind: str  # "up" or "down"
    services: list[str] | None = None
    start: bool = True
    remove_orphans: bool = False
    volumes: bool = False
    images: str = ""
    timeout: float | None = None


class Stored(msgspec.Struct, omit_defaults=True):
    """One stack.

    Args:
        project: as wanted now, scale included.
        current: by service, what was brought up last with success.
        previous: by service, what ran before, newest last.
        undone: by service, what a rollback left, newest last.
        pinned: image ids that services run whatever their tags say now (after a rollback).
        pending: the operation under way.
    """

    project: Project
    current: dict[str, Revision] = {}
    previous: dict[str, list[Revision]] = {}
    undone: dict[str, list[Revision]] = {}
    pinned: dict[str, str] = {}
    pending: Pending | None = None
    version: int = _VERSION

    def settle(self, service: str, revision: Revision) -> None:
        """Note that *service* now runs *revision*; what it ran before can be rolled back to."""
        before = self.current.get(service)
        if before is not None and _differs(before, revision):
            kept = [*self.previous.get(service, []), before]
            self.previous[service] = kept[-_MOST_REVISIONS:]
            self.undone.pop(service, None)
        self.current[service] = revision

    def image_ids(self) -> set[str]:
        """Images that a rollback or its undoing may need."""
        revisions = [
            *self.current.values(),
            *(r for many in self.previous.values() for r in many),
            *(r for many in self.undone.values() for r in many),
        ]
        return {revision.image_id for revision in revisions}


def _differs(one: Revision, other: Revision) -> bool:
    neutral = {"scale": 1, "build": None}
    return one.image_id != other.image_id or msgspec.structs.replace(
        one.service, **neutral
    ) != msgspec.structs.replace(other.service, **neutral)


class StackStore:
    """The files of all stacks below one directory (root's alone: secrets are in them)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, name: str) -> Stored | None:
        """The stack *name*, or None.

        Raises:
            Internal: the file is not ours, or of a newer pannier.
        """
        path = self._path(name)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            stored = msgspec.json.decode(data, type=Stored)
        except msgspec.DecodeError as error:
            raise Internal(f"cannot read {path}: {error}") from error
        if stored.version > _VERSION:
            raise Internal(f"{path} was written by a newer pannier")
        return stored

    def save(self, stored: Stored) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(stored.project.name)
        write_atomic(path, msgspec.json.encode(stored), sync=True)

    def forget(self, name: str) -> None:
        """Remove what is remembered, and the files written for its secrets and configs."""
        self._path(name).unlink(missing_ok=True)
        directory = self._directory / name
        for path in directory.glob("*/*"):
            path.unlink(missing_ok=True)
        for path in [*directory.glob("*"), directory]:
            if path.is_dir():
                path.rmdir()

    def names(self) -> list[str]:
        return sorted(path.stem for path in self._directory.glob("*.json"))

    def write_files(self, project: Project) -> dict[str, str]:
        """Host path by ``secrets/KEY`` and ``configs/KEY``; texts are written into files."""
        result = {}
        for kind, objects in (("secrets", project.secrets), ("configs", project.configs)):
            for key, file in objects.items():
                result[f"{kind}/{key}"] = file.file
                if file.content is not None:
                    path = self._directory / project.name / kind / key
                    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    # Programs inside read it under their own user; the directory is root's alone.
                    write_atomic(path, file.content.encode(), 0o444)
                    result[f"{kind}/{key}"] = str(path)
        return result

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"
