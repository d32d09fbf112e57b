"""All containers, in memory and in the database; found by id, unique id prefix or name."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from pannier.base.database import Database
from pannier.base.errors import Conflict, InvalidArgument, NotFound
from pannier.engine.model import Container, Record

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


class ContainerStore:
    """The only place that reads and writes the table ``containers``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_id: dict[str, Container] = {}
        self._by_name: dict[str, Container] = {}

    def load(self) -> None:
        """Read every record; called once, inside the event loop."""
        for row in self._database.query("SELECT record FROM containers"):
            self._remember(Container(_decoder.decode(row["record"])))

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._by_id.values()))

    def __contains__(self, container_id: str) -> bool:
        return container_id in self._by_id

    def __len__(self) -> int:
        return len(self._by_id)

    def check_free(self, name: str) -> None:
        """
        Raises:
            Conflict: another container has this name; Docker's wording, clients match it.
        """
        other = self._by_name.get(name)
        if other is not None:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container '
                f'"{other.id}". You have to remove (or rename) that container to be able to reuse '
                "that name."
            )

    def add(self, record: Record) -> Container:
        self.check_free(record.name)
        container = Container(record)
        self._database.execute(
            "INSERT INTO containers VALUES (?, ?, ?)",
            (record.id, record.name, _encoder.encode(record)),
        )
        self._remember(container)
        return container

    def save(self, container: Container) -> None:
        self._database.execute(
            "UPDATE containers SET name = ?, record = ? WHERE id = ?",
            (container.name, _encoder.encode(container.record), container.id),
        )

    def rename(self, container: Container, name: str) -> None:
        self.check_free(name)
        del self._by_name[container.name]
        container.record.name = name
        self._by_name[name] = container
        self.save(container)

    def remove(self, container: Container) -> None:
        self._database.execute("DELETE FROM containers WHERE id = ?", (container.id,))
        self._by_id.pop(container.id, None)
        self._by_name.pop(container.name, None)

    def get(self, reference: str) -> Container:
        """Find by full id, name, or unique prefix of the id.

        Raises:
            NotFound: ``No such container: x``, which clients match.
            InvalidArgument: several ids begin so.
        """
        found = self._by_id.get(reference) or self._by_name.get(reference.removeprefix("/"))
        if found:
            return found
        matches = [c for i, c in self._by_id.items() if reference and i.startswith(reference)]
        if len(matches) > 1:
            raise InvalidArgument(f"Multiple IDs found with provided prefix: {reference}")
        if not matches:
            raise NotFound(f"No such container: {reference}")
        return matches[0]

    def _remember(self, container: Container) -> None:
        self._by_id[container.id] = container
        self._by_name[container.name] = container
