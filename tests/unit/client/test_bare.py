"""HTTP by hand: bodies however they are delimited, chunked requests, paths and queries."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest
from answering import Server, reply
from hypothesis import given
from hypothesis import strategies as st

from pannier.base import jsonlite
from pannier.base.errors import InvalidArgument
from pannier.client.bare import Connection, query, quote, socket_path

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_json_reads_and_writes_as_the_standard_library(value) -> None:
    assert json.loads(jsonlite.encode(value)) == value
    assert jsonlite.decode(json.dumps(value, indent=1).encode()) == value


@pytest.mark.parametrize("text", ["", "{", "[1,]", '{"a":1} x', "nope"])
def test_json_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|Expecting"):
        jsonlite.decode(text)


def test_json_refuses_what_has_no_form() -> None:
    with pytest.raises(TypeError):
        jsonlite.encode({"a": object()})


def test_body_with_length(server: Server, dial) -> None:
    server.on("GET /x", reply(200, b"hello", "X-Fact: 1\r\n"))
    response = dial().request("GET", "/x")
    assert (response.status, response.headers["x-fact"], response.read()) == (200, "1", b"hello")


def test_chunked_body_in_small_pieces(server: Server, dial) -> None:
    def answer(_, connection) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for byte in b"5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\n\r\n":
            connection.sendall(bytes([byte]))

    server.on("GET /x", answer)
    connection = dial()
    assert connection.request("GET", "/x").read() == b"hello world"
    assert connection.request("GET", "/x").read() == b"hello world", "the connection is reusable"
    assert server.connections == 1


def test_body_until_close(server: Server, dial) -> None:
    def answer(_, connection) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nabc")
        connection.shutdown(2)

    server.on("GET /x", answer)
    assert dial().request("GET", "/x").read() == b"abc"


def test_body_cut_off_is_an_error(server: Server, dial) -> None:
    def answer(_, connection) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        connection.shutdown(2)

    server.on("GET /x", answer)
    with pytest.raises(ConnectionError):
        dial().request("GET", "/x").read()


def test_head_and_204_have_no_body(server: Server, dial) -> None:
    server.on("HEAD /x", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
    server.on("POST /x", b"HTTP/1.1 204 No Content\r\n\r\n")
    connection = dial()
    assert connection.request("HEAD", "/x").read() == b""
    assert connection.request("POST", "/x").read() == b""


def test_chunked_request(server: Server, dial) -> None:
    server.on("PUT /x", reply(200))
    dial().request("PUT", "/x", iter([b"abc", b"", b"d" * 5000])).read()
    assert server.requests[0].body == b"abc" + b"d" * 5000


def test_early_refusal_of_an_upload_is_read(tmp_path: Path) -> None:
    """The engine may answer and close before the upload is through."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()

    def refuse() -> None:
        connection, _ = listener.accept()
        connection.recv(10)
        connection.sendall(reply(400, b'{"message":"no"}'))
        connection.close()

    threading.Thread(target=refuse).start()
    pieces = (bytes(65536) for _ in range(100))
    connection = Connection(str(tmp_path / "s"))
    response = connection.request("PUT", "/x", pieces)
    assert (response.status, response.read()) == (400, b'{"message":"no"}')
    connection.close()
    listener.close()


def test_lines(server: Server, dial) -> None:
    server.on("GET /x", reply(200, b'{"a":1}\r\n\r\n{"a":2}\n{"a":3}'))
    lines = list(dial().request("GET", "/x").lines())
    assert [jsonlite.decode(line)["a"] for line in lines] == [1, 2, 3]


def test_query() -> None:
    arguments = {
        "a": 1,
        "b": True,
        "c": False,
        "d": None,
        "e": "",
        "t": ["x:1", "y&z"],
        "f": {"k": ["v"]},
    }
    assert query(arguments) == "?a=1&b=1&t=x%3A1&t=y%26z&f=%7B%22k%22%3A%5B%22v%22%5D%7D"
    assert query({}) == ""
    assert quote("127.0.0.1:5000/a b/ä") == "127.0.0.1%3A5000/a%20b/%C3%A4"


def test_socket_path() -> None:
    assert socket_path("unix:///a/b") == "/a/b"
    assert socket_path("/a/b") == "/a/b"
    with pytest.raises(InvalidArgument, match="unix socket only"):
        socket_path("tcp://1.2.3.4:5")
