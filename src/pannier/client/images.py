"""Calls on images: lists, names, transfer, build."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pannier.base import jsonlite
from pannier.client.bare import Response
from pannier.client.resource import Filters, Json, Jsons, Resource, Strings, filters_json, segment

_TAR = {"Content-Type": "application/x-tar"}


class Images(Resource):
    """``client.images``; *ref* is a name with or without tag, or an id.

    Every method raises an error of `base.errors`.
    """

    def list(
        self,
        *,
        all: bool = False,  # noqa: A002 - the API's word
        filters: Filters | None = None,
        digests: bool = False,
    ) -> Jsons:
        arguments = {"all": all, "filters": filters_json(filters), "digests": digests}
        found: Jsons = self._client.get("/images/json", arguments)
        return found

    def inspect(self, ref: str) -> Json:
        found: Json = self._client.get(f"/images/{segment(ref)}/json")
        return found

    def history(self, ref: str) -> Jsons:
        found: Jsons = self._client.get(f"/images/{segment(ref)}/history")
        return found

    def tag(self, ref: str, repository: str, tag: str) -> None:
        self._client.post(f"/images/{segment(ref)}/tag", {"repo": repository, "tag": tag})

    def remove(self, ref: str, *, force: bool = False, noprune: bool = False) -> Jsons:
        """What was untagged and deleted."""
        arguments = {"force": force, "noprune": noprune}
        return self._client.json("DELETE", f"/images/{segment(ref)}", arguments) or []

    def prune(self, filters: Filters | None = None) -> Json:
        answer: Json = self._client.post("/images/prune", {"filters": filters_json(filters)})
        return answer

    def pull(
        self, repository: str, tag: str, *, platform: str = "", auth: str = ""
    ) -> Iterator[Json]:
        """Progress as it goes on."""
        arguments = {"fromImage": repository, "tag": tag, "platform": platform}
        return self._client.stream("POST", "/images/create", arguments, headers=_auth(auth))

    def push(self, repository: str, tag: str, *, auth: str = "") -> Iterator[Json]:
        path = f"/images/{segment(repository)}/push"
        return self._client.stream("POST", path, {"tag": tag}, headers=_auth(auth or "e30="))

    def import_tar(
        self, tar: Iterable[bytes], repository: str, tag: str, *, message: str, changes: Strings
    ) -> Iterator[Json]:
        """A one-layer image of a root file system."""
        arguments = {
            "fromSrc": "-", "repo": repository, "tag": tag, "message": message, "changes": changes,
        }  # fmt: skip
        return self._client.stream("POST", "/images/create", arguments, body=tar, headers=_TAR)

    def save(self, refs: Iterable[str]) -> Response:
        """A tar of whole images."""
        return self._client.send("GET", "/images/get", {"names": list(refs)})

    def load(self, tar: Iterable[bytes], *, quiet: bool = False) -> Iterator[Json]:
        arguments = {"quiet": "1" if quiet else "0"}
        return self._client.stream("POST", "/images/load", arguments, body=tar, headers=_TAR)

    def bootstrap(self, reference: str, *, mirror: str = "", init: str = "") -> Iterator[Json]:
        """Make a base image from a distribution's signed archives."""
        body = {"Reference": reference, "Mirror": mirror, "Init": init}
        return self._client.stream("POST", "/pannier/images/bootstrap", body=jsonlite.encode(body))

    def build(self, context: Iterable[bytes], arguments: Json) -> Iterator[Json]:
        """Build a Dockerfile.

        Args:
            context: a tar, in pieces.
            arguments: the query of ``POST /build``.
        """
        arguments = {"version": "1", **arguments}
        return self._client.stream("POST", "/build", arguments, body=context, headers=_TAR)

    def prune_builds(
        self,
        filters: Filters | None = None,
        *,
        all: bool = False,  # noqa: A002
        keep: int = 0,
    ) -> Json:
        arguments = {
            "all": all, "keep-storage": keep or None, "filters": filters_json(filters),
        }  # fmt: skip
        answer: Json = self._client.post("/build/prune", arguments)
        return answer

    def login(self, username: str, password: str, server: str) -> Json:
        body = {"username": username, "password": password, "serveraddress": server}
        answer: Json = self._client.post("/auth", body=body)
        return answer


def _auth(auth: str) -> dict[str, str]:
    return {"X-Registry-Auth": auth} if auth else {}
