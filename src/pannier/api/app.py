"""The application: negotiation, dispatch, and errors turned into answers.

What a route does is in the modules by resource; which objects serve it is the daemon's choice.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator

from aiohttp import ClientError, web

from pannier.api import (
    archive,
    attach,
    build,
    containers,
    execs,
    images,
    networks,
    output,
    run,
    stacks,
    system,
    volumes,
)
from pannier.api.backend import Backend
from pannier.api.call import JSON, Call
from pannier.api.router import Route, Router
from pannier.api.status import body_of, status_of
from pannier.base.errors import InvalidArgument, PannierError
from pannier.wire import codec
from pannier.wire.system import API_VERSION, MIN_API_VERSION, ErrorBody

_log = logging.getLogger(__name__)
_VERSIONED = re.compile(r"/v(\d+)\.(\d+)(/.*)")
_BODY_LIMIT = 16 * 1024 * 1024  # bytes of a JSON body; tars are streamed past it
_LEAVE_TIME_S = 10.0


def make_app(backend: Backend) -> web.Application:
    """The whole API over ``backend``."""
    dispatcher = _Dispatcher(Router(_routes(backend)), backend.system.version().version)
    app = web.Application(client_max_size=_BODY_LIMIT)
    app.router.add_route("*", "/{path:.*}", dispatcher.handle)
    app.on_cleanup.append(dispatcher.finish)
    return app


def make_runner(app: web.Application) -> web.AppRunner:
    """The runner with the settings that the application relies on.

    ``handler_cancellation`` tells live handlers that their caller has gone; access to a socket
    of root and one group is not logged by line.
    """
    return web.AppRunner(
        app, access_log=None, handler_cancellation=True, handle_signals=False, shutdown_timeout=2.0
    )


def _routes(backend: Backend) -> Iterator[Route]:
    yield from system.routes(backend.system, backend.events)
    yield from run.routes(backend.containers)
    yield from containers.routes(backend.containers)
    yield from output.routes(backend.containers)
    yield from attach.routes(backend.containers)
    yield from archive.routes(backend.containers)
    yield from execs.routes(backend.execs)
    yield from images.routes(backend.images)
    yield from build.routes(backend.builder)
    yield from networks.routes(backend.networks)
    yield from volumes.routes(backend.volumes)
    yield from stacks.routes(backend.stacks)


class _Dispatcher:
    """Finds the route, guards unfinished changes, answers errors."""

    def __init__(self, router: Router, version: str) -> None:
        self._router = router
        self._server = f"pannier/{version} (linux)"
        self._unfinished: set[asyncio.Future[web.StreamResponse]] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        version, path = _split_version(request.path)
        call = Call(request, {}, version or _numbers(API_VERSION), self._server)
        try:
            _check_version(version)
            found = self._router.find(request.method, path)
            if found is None:
                return _error(404, ErrorBody("page not found"))
            route, call.params = found
            if route.live or route.method in ("GET", "HEAD"):
                return await route.handler(call)
            return await self._complete(route, call)
        except PannierError as error:
            return _answer(call, error)
        except (ConnectionError, ClientError):
            raise ConnectionResetError("the caller is gone") from None
        except web.HTTPRequestEntityTooLarge:
            return _answer(call, InvalidArgument("the request body is too large"))
        except Exception as error:  # the server's top loop: the daemon outlives any one request
            _log.exception("%s %s", request.method, request.path)
            return _unexpected(call, error)

    async def _complete(self, route: Route, call: Call) -> web.StreamResponse:
        """Run a change to its end, also when the caller leaves meanwhile."""
        work = asyncio.ensure_future(route.handler(call))
        self._unfinished.add(work)
        work.add_done_callback(self._unfinished.discard)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            work.add_done_callback(_report)
            raise

    async def finish(self, _app: web.Application) -> None:
        """Give changes under way a moment to end when the daemon stops."""
        if self._unfinished:
            await asyncio.wait(self._unfinished, timeout=_LEAVE_TIME_S)


def _report(work: asyncio.Future[web.StreamResponse]) -> None:
    """Log what went wrong after the caller had left: nobody else will."""
    if not work.cancelled() and (error := work.exception()):
        level = logging.INFO if isinstance(error, PannierError) else logging.ERROR
        _log.log(level, "a request whose caller left ended with: %r", error)


def _numbers(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return int(major), int(minor)


def _split_version(path: str) -> tuple[tuple[int, int] | None, str]:
    match = _VERSIONED.fullmatch(path)
    return ((int(match[1]), int(match[2])), match[3]) if match else (None, path)


def _check_version(version: tuple[int, int] | None) -> None:
    if version is None:
        return
    text = f"{version[0]}.{version[1]}"
    if version > _numbers(API_VERSION):
        raise InvalidArgument(
            f"client version {text} is too new. Maximum supported API version is {API_VERSION}"
        )
    if version < _numbers(MIN_API_VERSION):
        raise InvalidArgument(
            f"client version {text} is too old. Minimum supported API version is "
            f"{MIN_API_VERSION}, please upgrade your client to a newer version"
        )


def _answer(call: Call, error: PannierError) -> web.Response:
    status = status_of(error)
    if status >= 500 and status not in (501, 503):
        _log.error("%s %s: %s", call.request.method, call.request.path, error, exc_info=error)
    if call.opened is not None:
        # Half an answer is out: only a broken connection tells the caller that it is not whole.
        raise ConnectionResetError(error.message) from error
    if status == 304:
        return call.empty(304)
    return _error(status, body_of(error), call.headers(JSON))


def _unexpected(call: Call, error: Exception) -> web.Response:
    if call.opened is not None:
        raise ConnectionResetError(str(error)) from error
    message = f"internal error: {type(error).__name__}: {error}"
    return _error(500, ErrorBody(message), call.headers(JSON))


def _error(status: int, body: ErrorBody, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=codec.encode(body), status=status, headers=headers or {"Content-Type": JSON}
    )
