"""Calls on networks and volumes."""

from __future__ import annotations

from pannier.client.resource import Filters, Json, Jsons, Resource, filters_json, segment


class Networks(Resource):
    """``client.networks``; every method raises an error of `base.errors`."""

    def list(self, *, filters: Filters | None = None) -> Jsons:
        found: Jsons = self._client.get("/networks", {"filters": filters_json(filters)})
        return found

    def create(self, body: Json) -> str:
        """Returns the id; *body* is the API's NetworkCreate."""
        return str(self._client.post("/networks/create", body=body)["Id"])

    def inspect(self, ref: str) -> Json:
        found: Json = self._client.get(f"/networks/{segment(ref)}")
        return found

    def remove(self, ref: str) -> None:
        self._client.json("DELETE", f"/networks/{segment(ref)}")

    def connect(self, ref: str, container: str, endpoint: Json) -> None:
        body = {"Container": container, "EndpointConfig": endpoint}
        self._client.post(f"/networks/{segment(ref)}/connect", body=body)

    def disconnect(self, ref: str, container: str, *, force: bool = False) -> None:
        body = {"Container": container, "Force": force}
        self._client.post(f"/networks/{segment(ref)}/disconnect", body=body)

    def prune(self, filters: Filters | None = None) -> Json:
        answer: Json = self._client.post("/networks/prune", {"filters": filters_json(filters)})
        return answer


class Volumes(Resource):
    """``client.volumes``; every method raises an error of `base.errors`."""

    def list(self, *, filters: Filters | None = None) -> Jsons:
        answer = self._client.get("/volumes", {"filters": filters_json(filters)})
        return answer.get("Volumes") or []

    def create(self, body: Json) -> Json:
        """*body* is the API's VolumeCreateOptions."""
        found: Json = self._client.post("/volumes/create", body=body)
        return found

    def inspect(self, name: str) -> Json:
        found: Json = self._client.get(f"/volumes/{segment(name)}")
        return found

    def remove(self, name: str, *, force: bool = False) -> None:
        self._client.json("DELETE", f"/volumes/{segment(name)}", {"force": force})

    def prune(self, filters: Filters | None = None) -> Json:
        answer: Json = self._client.post("/volumes/prune", {"filters": filters_json(filters)})
        return answer
