"""Calls on the engine as a whole."""

from __future__ import annotations

from collections.abc import Iterator

from pannier.client.resource import Filters, Json, Resource, filters_json


class System(Resource):
    """``client.system``; every method raises an error of `base.errors`."""

    def version(self) -> Json:
        found: Json = self._client.get("/version")
        return found

    def info(self) -> Json:
        found: Json = self._client.get("/info")
        return found

    def disk_usage(self) -> Json:
        found: Json = self._client.get("/system/df")
        return found

    def shutdown(self, *, force: bool = False) -> None:
        """End the engine; *force* stops containers that run."""
        self._client.post("/pannier/shutdown", {"force": force})

    def events(
        self, *, filters: Filters | None = None, since: str = "", until: str = ""
    ) -> Iterator[Json]:
        """One object per event, until *until* or until the caller stops reading."""
        arguments = {"filters": filters_json(filters), "since": since, "until": until}
        return self._client.stream("GET", "/events", arguments)
