"""Typed calls over plain connections: what every program but the CLI's hot path uses.

`Client` does requests; what can be asked is grouped by resource as in the API
(``client.containers``, ``client.images``, ...).  Answers are the API's JSON objects as dicts, with
Docker's names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

from pannier.base import jsonlite
from pannier.base.errors import PannierError, Unavailable
from pannier.client.bare import Connection, Response, query
from pannier.client.containers import Containers, Execs
from pannier.client.errors import error_from
from pannier.client.images import Images
from pannier.client.networks import Networks, Volumes
from pannier.client.stacks import Stacks
from pannier.client.system import System

Json = dict[str, Any]
_FIRST_ERROR_STATUS = 400


class Client:
    """Requests on one engine.

    Args:
        connect: makes a fresh connection; see `client.public.connect` for the usual one.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._idle: Connection | None = None

    @cached_property
    def containers(self) -> Containers:
        return Containers(self)

    @cached_property
    def execs(self) -> Execs:
        return Execs(self)

    @cached_property
    def images(self) -> Images:
        return Images(self)

    @cached_property
    def networks(self) -> Networks:
        return Networks(self)

    @cached_property
    def volumes(self) -> Volumes:
        return Volumes(self)

    @cached_property
    def stacks(self) -> Stacks:
        return Stacks(self)

    @cached_property
    def system(self) -> System:
        return System(self)

    def send(
        self,
        method: str,
        path: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        hijack: bool = False,
    ) -> Response:
        """One request; the answer's body is still to be read.

        Args:
            path: quoted, without the query.
            arguments: the query; None, False and "" are left out.

        Raises:
            PannierError: the engine refuses (status 304, 400 and above), or does not answer.
        """
        target = path + query(arguments or {})
        response = self._request(method, target, body, headers, hijack=hijack)
        if response.status >= _FIRST_ERROR_STATUS or response.status == 304:
            raise error_from(response.status, response.read())
        return response

    def _request(
        self,
        method: str,
        target: str,
        body: bytes | Iterable[bytes] | None,
        headers: Mapping[str, str] | None,
        *,
        hijack: bool,
    ) -> Response:
        connection, fresh = self._take()
        try:
            response = connection.request(method, target, body, headers, hijack=hijack)
        except ConnectionError as error:
            connection.close()
            if fresh or not (body is None or isinstance(body, bytes)):
                raise _gone(error) from error
            # The engine closes connections that were idle for long: once more on a new one.
            connection = self._connect()
            try:
                response = connection.request(method, target, body, headers, hijack=hijack)
            except ConnectionError as again:
                raise _gone(again) from again
        if not hijack:
            last = response.headers.get("connection", "").lower() == "close"
            response.on_end = connection.close if last else lambda: self._put(connection)
        return response

    def _take(self) -> tuple[Connection, bool]:
        connection, self._idle = self._idle, None
        return (connection, False) if connection else (self._connect(), True)

    def _put(self, connection: Connection) -> None:
        if self._idle is None:
            self._idle = connection
        elif self._idle is not connection:
            connection.close()

    def json(
        self,
        method: str,
        path: str,
        arguments: Mapping[str, Any] | None = None,
        body: object = None,
    ) -> Any:
        """A request with a JSON body and a JSON answer (None when it is empty)."""
        data = None if body is None else jsonlite.encode(body)
        answer = self.send(method, path, arguments, body=data).read()
        return jsonlite.decode(answer) if answer.strip() else None

    def get(self, path: str, arguments: Mapping[str, Any] | None = None) -> Any:
        return self.json("GET", path, arguments)

    def post(
        self, path: str, arguments: Mapping[str, Any] | None = None, body: object = None
    ) -> Any:
        return self.json("POST", path, arguments, body)

    def stream(
        self,
        method: str,
        path: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[Json]:
        """A request that is answered with one JSON object per line.

        Raises:
            PannierError: the engine refuses, also in the middle: a line with ``error``.
        """
        response = self.send(method, path, arguments, body=body, headers=headers)
        try:
            for line in response.lines():
                value = jsonlite.decode(line)
                if isinstance(value, dict) and value.get("error"):
                    raise _stream_error(value)
                yield value
        except ConnectionError as error:
            raise _gone(error) from error

    def close(self) -> None:
        """Close the idle connection; the client can still be used."""
        connection, self._idle = self._idle, None
        if connection:
            connection.close()


def _gone(error: ConnectionError) -> Unavailable:
    return Unavailable(
        f"the engine closed the connection ({error.strerror or error})",
        hint="it may be restarting: try again; its log is pannierd.log in the run directory",
    )


def _stream_error(value: Json) -> Exception:
    """The last line of a stream: its code is an HTTP status, or below that an exit status."""
    detail = value.get("errorDetail")
    code = detail.get("code", 0) if isinstance(detail, dict) else 0
    # A stack's last event carries its hint as Message (wire.stacks.StackEvent).
    text, hint = str(value["error"]), value.get("hint") or value.get("Message")
    if code >= _FIRST_ERROR_STATUS:
        return error_from(code, jsonlite.encode({"message": text, "hint": hint}))
    return PannierError(text, hint=hint, **({"exit_code": code} if code else {}))
