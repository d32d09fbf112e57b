"""Method and path to handler."""

from __future__ import annotations

from aiohttp import web

from pannier.api.call import Call
from pannier.api.router import Route, Router
from pannier.api.status import status_of
from pannier.base import errors


async def handler(call: Call) -> web.StreamResponse:
    return call.empty()


ROUTER = Router(
    Route(method, path, handler)
    for method, path in (
        ("GET", "/images/json"),
        ("GET", "/images/{name*}/json"),
        ("DELETE", "/images/{name*}"),
        ("GET", "/containers/{id}/json"),
        ("DELETE", "/containers/{id}"),
    )
)


def found(method: str, path: str) -> tuple[str, dict[str, str]] | None:
    result = ROUTER.find(method, path)
    return (result[0].path, result[1]) if result else None


def test_declared_order_decides():
    assert found("GET", "/images/json") == ("/images/json", {})


def test_starred_parameters_take_slashes():
    assert found("GET", "/images/a/b:1/json") == ("/images/{name*}/json", {"name": "a/b:1"})
    assert found("DELETE", "/images/a/b") == ("/images/{name*}", {"name": "a/b"})


def test_plain_parameters_do_not():
    assert found("GET", "/containers/a/json") == ("/containers/{id}/json", {"id": "a"})
    assert found("GET", "/containers/a/b/json") is None
    assert found("DELETE", "/containers/") is None
    assert found("POST", "/containers/a/json") is None
    assert found("GET", "") is None


def test_every_error_has_a_status():
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.PannierError)
    ]
    for kind in kinds:
        error = kind(2, "open") if kind is errors.KernelError else kind("x")
        assert status_of(error) in {304, 400, 403, 404, 409, 500, 501, 503}

    class Special(errors.Conflict):
        pass

    assert status_of(Special("x")) == 409
