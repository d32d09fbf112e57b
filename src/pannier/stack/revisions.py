"""Back to what a service ran before, and forth again: pure changes of what is remembered."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pannier.base.errors import InvalidArgument, NotFound
from pannier.stack.state import Revision, Stored


def roll_back(stored: Stored, services: Sequence[str], *, undo: bool) -> list[str]:
    """Make the previous revision of each service the wanted one; returns their names.

    Args:
        stored: changed in place.
        services: none means every service that has somewhere to go.
        undo: to the revision that a rollback left, instead.

    Raises:
        InvalidArgument: no such service.
        NotFound: there is nothing to go to.
    """
    source = stored.undone if undo else stored.previous
    names = list(services) or [name for name in stored.project.services if source.get(name)]
    for name in names:
        if name not in stored.project.services:
            known = ", ".join(stored.project.services)
            raise InvalidArgument(f"no such service: {name}", hint=f"there are: {known}")
    if not names or not all(source.get(name) for name in names):
        lacking = ", ".join(n for n in names if not source.get(n)) or stored.project.name
        what = "no rollback to undo" if undo else "no previous image to go back to"
        raise NotFound(f"{what} for {lacking}")
    for name in names:
        _go(stored, name, undo=undo)
    return names


def want(stored: Stored, name: str, revision: Revision) -> None:
    """Make *revision* what service *name* shall run; its number of replicas stays."""
    services = dict(stored.project.services)
    scale = services[name].scale
    services[name] = msgspec.structs.replace(revision.service, scale=scale)
    stored.project = msgspec.structs.replace(stored.project, services=services)
    stored.pinned[name] = revision.image_id


def _go(stored: Stored, name: str, *, undo: bool) -> None:
    source, target = stored.previous, stored.undone
    if undo:
        source, target = target, source
    revision = source[name].pop()
    if name in stored.current:
        target.setdefault(name, []).append(stored.current[name])
    stored.current[name] = revision
    want(stored, name, revision)
