"""Calls on stacks (compose projects at work)."""

from __future__ import annotations

from collections.abc import Iterator

from pannier.base import jsonlite
from pannier.client.resource import Json, Jsons, Resource, segment


class Stacks(Resource):
    """``client.stacks``; bodies are those of `wire.stacks`; answers say what is done, step by step.

    Every method raises an error of `base.errors`.
    """

    def act(self, name: str, action: str, body: Json) -> Iterator[Json]:
        """*action* is ``up``, ``down``, ``scale`` or ``rollback``."""
        path = f"/pannier/stacks/{segment(name)}/{action}"
        return self._client.stream("POST", path, body=jsonlite.encode(body))

    def status(self, name: str) -> Json:
        found: Json = self._client.get(f"/pannier/stacks/{segment(name)}")
        return found

    def list(self) -> Jsons:
        found: Jsons = self._client.get("/pannier/stacks")
        return found
