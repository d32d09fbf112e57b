"""One request as the routes see it: typed query and body on the way in, answers on the way out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from typing import TypeVar

from aiohttp import web

from pannier.base.errors import InvalidArgument
from pannier.base.units import parse_time
from pannier.wire import codec
from pannier.wire.filters import parse_filters
from pannier.wire.signals import parse_signal
from pannier.wire.system import API_VERSION

_T = TypeVar("_T")
_FALSE = frozenset({"", "0", "no", "false", "none"})
_BLOCK = 256 * 1024

JSON = "application/json"
TAR = "application/x-tar"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
RAW = "application/vnd.docker.raw-stream"
# Before 1.42 both kinds of streams were called raw; old clients refuse the other name.
_MULTIPLEXED_SINCE = (1, 42)


class Call:
    """A request with its path's parameters, and the API version it was made in."""

    __slots__ = ("opened", "params", "request", "server", "version")

    def __init__(
        self,
        request: web.Request,
        params: Mapping[str, str],
        version: tuple[int, int],
        server: str,
    ) -> None:
        self.request = request
        self.params = params
        self.version = version
        self.server = server
        self.opened: web.StreamResponse | None = None

    def text(self, name: str, default: str = "") -> str:
        """A query argument; the first one when it is repeated."""
        return self.request.query.get(name, default)

    def texts(self, name: str) -> list[str]:
        return [str(value) for value in self.request.query.getall(name, [])]

    def required(self, name: str) -> str:
        value = self.text(name)
        if not value:
            raise InvalidArgument(f"bad parameter: {name} is missing")
        return value

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A boolean as Docker reads it: anything but "", 0, no, false and none is true."""
        value = self.request.query.get(name)
        return default if value is None else value.strip().lower() not in _FALSE

    def integer(self, name: str, default: int | None = None) -> int | None:
        value = self.text(name)
        if not value:
            return default
        try:
            return int(value)
        except ValueError:
            raise InvalidArgument(f"bad parameter: {name}={value} is not a number") from None

    def seconds(self, name: str) -> float | None:
        """A timeout; negative means for ever (infinity)."""
        value = self.integer(name)
        return float("inf") if value is not None and value < 0 else value

    def time_ns(self, name: str) -> int | None:
        value = self.text(name)
        return parse_time(value) if value and value != "0" else None

    def signal(self, name: str = "signal") -> int | None:
        value = self.text(name)
        return parse_signal(value) if value else None

    def filters(self, allowed: Collection[str] | None = None) -> dict[str, list[str]]:
        return parse_filters(self.text("filters"), allowed)

    async def body(self, kind: type[_T]) -> _T:
        """The JSON body.

        Raises:
            InvalidArgument: see `wire.codec.decode`.
        """
        return codec.decode(await self.request.read(), kind)

    async def upload(self) -> AsyncIterator[bytes]:
        """The body in pieces, for tars."""
        async for piece in self.request.content.iter_chunked(_BLOCK):
            yield piece

    def headers(self, content_type: str | None = None) -> dict[str, str]:
        """What every routed answer carries."""
        headers = {
            "Api-Version": API_VERSION,
            "Docker-Experimental": "false",
            "Ostype": "linux",
            "Server": self.server,
        }
        if content_type:
            headers["Content-Type"] = content_type
        return headers

    def stream_type(self, *, tty: bool) -> str:
        """The content type of a container's output."""
        return RAW if tty or self.version < _MULTIPLEXED_SINCE else MULTIPLEXED

    def json(self, value: object, status: int = 200) -> web.Response:
        return web.Response(body=codec.encode(value), status=status, headers=self.headers(JSON))

    def empty(self, status: int = 204) -> web.Response:
        return web.Response(status=status, headers=self.headers())

    async def open(
        self, content_type: str, extra: Mapping[str, str] | None = None
    ) -> web.StreamResponse:
        """Send the headers at once; the body follows in chunks. After this no status can change."""
        response = web.StreamResponse(headers=self.headers(content_type) | dict(extra or {}))
        await response.prepare(self.request)
        self.opened = response
        return response

    async def send(
        self,
        pieces: AsyncIterator[bytes],
        content_type: str,
        extra: Mapping[str, str] | None = None,
    ) -> web.StreamResponse:
        """Send what an iterator yields; an error before its first piece still gets a status."""
        first = await anext(pieces, b"")
        response = await self.open(content_type, extra)
        await response.write(first)
        async for piece in pieces:
            await response.write(piece)
        return response
