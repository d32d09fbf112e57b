"""Calls on containers and on processes executed in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pannier.base import jsonlite
from pannier.client.bare import Response
from pannier.client.resource import Filters, Json, Jsons, Resource, Strings, filters_json, segment

_ARCHIVE = "/archive"


def _path(ref: str, action: str = "") -> str:
    return f"/containers/{segment(ref)}{action}"


class Containers(Resource):
    """``client.containers``; *ref* is a name, an id or the beginning of one.

    Every method raises an error of `base.errors`: NotFound, Conflict, InvalidArgument, ...
    """

    def list(
        self,
        *,
        all: bool = False,  # noqa: A002 - the API's word
        filters: Filters | None = None,
        limit: int = 0,
        size: bool = False,
    ) -> Jsons:
        """Newest first; only running ones unless *all* or *limit*."""
        arguments = {
            "all": all, "filters": filters_json(filters), "limit": limit or None, "size": size,
        }  # fmt: skip
        found: Jsons = self._client.get("/containers/json", arguments)
        return found

    def create(self, body: Json, *, name: str = "") -> str:
        """Returns the id.

        Args:
            body: ContainerConfig with HostConfig and NetworkingConfig, as in the API.
        """
        answer = self._client.post("/containers/create", {"name": name}, body)
        return str(answer["Id"])

    def start(self, ref: str) -> None:
        self._client.post(_path(ref, "/start"))

    def stop(self, ref: str, *, timeout: int | None = None, signal: str = "") -> None:
        """Ask, wait *timeout* seconds (None: as the container says), kill."""
        self._client.post(_path(ref, "/stop"), {"t": timeout, "signal": signal})

    def restart(self, ref: str, *, timeout: int | None = None, signal: str = "") -> None:
        self._client.post(_path(ref, "/restart"), {"t": timeout, "signal": signal})

    def kill(self, ref: str, *, signal: str = "") -> None:
        self._client.post(_path(ref, "/kill"), {"signal": signal})

    def pause(self, ref: str) -> None:
        self._client.post(_path(ref, "/pause"))

    def unpause(self, ref: str) -> None:
        self._client.post(_path(ref, "/unpause"))

    def rename(self, ref: str, name: str) -> None:
        self._client.post(_path(ref, "/rename"), {"name": name})

    def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it; *volumes*: its unnamed ones too."""
        self._client.json("DELETE", _path(ref), {"force": force, "v": volumes})

    def wait(self, ref: str, *, condition: str = "") -> int:
        """The exit status, once it has ended (``not-running``, ``next-exit``, ``removed``)."""
        answer = self._client.post(_path(ref, "/wait"), {"condition": condition})
        return int(answer["StatusCode"])

    def begin_wait(self, ref: str, *, condition: str) -> Response:
        """The head of the answer: from now on the exit is noted; read the body for it."""
        return self._client.send("POST", _path(ref, "/wait"), {"condition": condition})

    def inspect(self, ref: str, *, size: bool = False) -> Json:
        found: Json = self._client.get(_path(ref, "/json"), {"size": size})
        return found

    def update(self, ref: str, body: Json) -> Strings:
        """Change limits or the restart policy; returns warnings."""
        answer = self._client.post(_path(ref, "/update"), body=body)
        return (answer or {}).get("Warnings") or []

    def replace_image(self, ref: str, image: str) -> Json:
        """Go on from *image* with a new root file system; name, address and volumes stay."""
        path = f"/pannier/containers/{segment(ref)}/image"
        answer: Json = self._client.post(path, body={"Image": image})
        return answer or {}

    def rollback(self, ref: str, *, undo: bool = False) -> Json:
        """Back to the previous image (or forth again); name, address and volumes stay."""
        answer: Json = self._client.post(
            f"/pannier/containers/{segment(ref)}/rollback", {"undo": undo}
        )
        return answer or {}

    def top(self, ref: str, ps_args: str = "") -> Json:
        found: Json = self._client.get(_path(ref, "/top"), {"ps_args": ps_args})
        return found

    def changes(self, ref: str) -> Jsons:
        return self._client.get(_path(ref, "/changes")) or []

    def stats(self, ref: str) -> Iterator[Json]:
        """One sample each second until the container ends."""
        return self._client.stream("GET", _path(ref, "/stats"), {"stream": "1"})

    def stats_once(self, ref: str) -> Json:
        """One sample with the one before it, a second apart."""
        return next(self._client.stream("GET", _path(ref, "/stats"), {"stream": "0"}))

    def logs(self, ref: str, arguments: Json) -> Response:
        """The query is the API's: stdout, stderr, follow, tail, since, until, timestamps."""
        return self._client.send("GET", _path(ref, "/logs"), arguments)

    def attach(self, ref: str, *, stdin: bool, logs: bool = False, keys: str = "") -> Response:
        """Returns the hijacked connection, in the response."""
        arguments = {
            "stream": True, "stdout": True, "stderr": True, "stdin": stdin, "logs": logs,
            "detachKeys": keys,
        }  # fmt: skip
        return self._client.send("POST", _path(ref, "/attach"), arguments, hijack=True)

    def get_archive(self, ref: str, path: str) -> Response:
        """A tar of *path*; its head carries the path's facts."""
        return self._client.send("GET", _path(ref, _ARCHIVE), {"path": path})

    def stat_archive(self, ref: str, path: str) -> str:
        """The header X-Docker-Container-Path-Stat."""
        response = self._client.send("HEAD", _path(ref, _ARCHIVE), {"path": path})
        response.read()
        return response.headers.get("x-docker-container-path-stat", "")

    def put_archive(
        self, ref: str, path: str, tar: Iterable[bytes], *, keep_kind: bool, copy_ids: bool
    ) -> None:
        """Unpack a tar below *path*."""
        arguments = {"path": path, "noOverwriteDirNonDir": keep_kind, "copyUIDGID": copy_ids}
        headers = {"Content-Type": "application/x-tar"}
        self._client.send("PUT", _path(ref, _ARCHIVE), arguments, body=tar, headers=headers).read()

    def export(self, ref: str) -> Response:
        """The whole file system as a tar."""
        return self._client.send("GET", _path(ref, "/export"))

    def commit(self, ref: str, arguments: Json, body: Json | None = None) -> str:
        """Returns the image's id; *body* overrides the container's configuration."""
        answer = self._client.post("/commit", {"container": ref, **arguments}, body)
        return str(answer["Id"])

    def prune(self, filters: Filters | None = None) -> Json:
        answer: Json = self._client.post("/containers/prune", {"filters": filters_json(filters)})
        return answer


class Execs(Resource):
    """``client.execs``: further processes in a running container."""

    def create(self, ref: str, config: Json) -> str:
        return str(self._client.post(_path(ref, "/exec"), body=config)["Id"])

    def start(self, exec_id: str, *, detach: bool, tty: bool, size: Any = None) -> Response:
        """The hijacked connection; with *detach* an empty answer."""
        body: Json = {"Detach": detach, "Tty": tty}
        if size:
            body["ConsoleSize"] = size
        return self._client.send(
            "POST", f"/exec/{exec_id}/start", body=jsonlite.encode(body), hijack=not detach
        )

    def inspect(self, exec_id: str) -> Json:
        found: Json = self._client.get(f"/exec/{exec_id}/json")
        return found
