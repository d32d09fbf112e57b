"""Typed calls: errors, reuse of connections, streams."""

from __future__ import annotations

import pytest
from answering import Server, reply

from pannier.base import errors
from pannier.client.api import Client
from pannier.client.errors import error_from
from pannier.client.public import connect


@pytest.fixture
def client(dial) -> Client:
    return Client(dial)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (304, errors.NotModified),
        (400, errors.InvalidArgument),
        (403, errors.Denied),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (500, errors.Internal),
        (501, errors.Unsupported),
        (503, errors.Unavailable),
    ],
)
def test_statuses_become_errors(status: int, kind: type[errors.PannierError]) -> None:
    error = error_from(status, b'{"message":"m","hint":"h","exitCode":127}')
    assert type(error) is kind
    assert (error.message, error.hint, error.fields["exit_code"]) == ("m", "h", 127)


def test_error_body_that_is_no_json() -> None:
    assert error_from(502, b"bad gateway\n").message == "bad gateway"


def test_connection_is_reused(client: Client, server: Server) -> None:
    server.on("GET /containers/json", reply(200, b"[]"))
    assert client.containers.list() == []
    assert client.containers.list(all=True, filters={"label": ["a=b"]}) == []
    assert server.connections == 1
    assert server.requests[1].target == (
        "/containers/json?all=1&filters=%7B%22label%22%3A%5B%22a%3Db%22%5D%7D"
    )


def test_connection_closed_while_idle_is_replaced(client: Client, server: Server) -> None:
    def once(_, connection) -> None:
        connection.sendall(reply(200, b"[]"))
        connection.shutdown(2)

    server.on("GET /networks", once)
    assert client.networks.list() == []
    assert client.networks.list() == []
    assert server.connections == 2


def test_engine_that_goes_away(client: Client, server: Server) -> None:
    server.on("GET /info", lambda _, connection: connection.shutdown(2))
    with pytest.raises(errors.Unavailable, match="closed the connection"):
        client.system.info()


def test_stream_ends_with_its_error(client: Client, server: Server) -> None:
    lines = b'{"status":"Pulling"}\n{"error":"gone","errorDetail":{"code":404,"message":"gone"}}\n'
    server.on("POST /images/create", reply(200, lines))
    messages = client.images.pull("x", "1")
    assert next(messages) == {"status": "Pulling"}
    with pytest.raises(errors.NotFound, match="gone"):
        next(messages)


def test_failing_build_step_carries_its_exit_status(client: Client, server: Server) -> None:
    lines = b'{"error":"returned 3","errorDetail":{"code":3,"message":"returned 3"}}\n'
    server.on("POST /build", reply(200, lines))
    with pytest.raises(errors.PannierError) as caught:
        list(client.images.build(iter([b"tar"]), {}))
    assert caught.value.fields["exit_code"] == 3


def test_names_with_slashes(client: Client, server: Server) -> None:
    server.on("GET /images/127.0.0.1%3A5000/a/b%3A1/json", reply(200, b'{"Id":"x"}'))
    assert client.images.inspect("127.0.0.1:5000/a/b:1")["Id"] == "x"


def test_public_connect(server: Server) -> None:
    server.on("GET /version", reply(200, b'{"Version":"1"}'))
    with connect(f"unix://{server.path}") as engine:
        assert engine.system.version()["Version"] == "1"


def test_public_connect_without_engine(tmp_path) -> None:
    with (
        connect(f"unix://{tmp_path}/none", start=False) as engine,
        pytest.raises(errors.Unavailable, match="no pannier engine listens"),
    ):
        engine.system.version()
