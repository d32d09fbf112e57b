"""Bytes between this process's streams and a hijacked connection."""

from __future__ import annotations

import os
import socket
import threading

import pytest
from answering import Server, frame

from pannier.client.bare import Connection
from pannier.client.relay import DetachKeys, Relay

UPGRADE = b"HTTP/1.1 101 UPGRADED\r\nPannier-Container: abc\r\n\r\n"


def _hijack(server: Server, dial, handler) -> Connection:
    server.on("POST /run", handler)
    connection = dial()
    assert connection.request("POST", "/run", b"{}", hijack=True).status == 101
    return connection


def test_output_and_status(server: Server, dial, capfd) -> None:
    data = UPGRADE + frame(1, b"out\n") + frame(2, b"err\n") + frame(4, b'{"StatusCode":7}')
    connection = _hijack(server, dial, lambda _, c: c.sendall(data))
    relay = Relay(connection, framed=True)
    relay.run()
    assert relay.status == 7
    assert capfd.readouterr() == ("out\n", "err\n")


def test_frames_split_anywhere(server: Server, dial, capfd) -> None:
    def answer(_, connection) -> None:
        for byte in UPGRADE + frame(1, b"hello") + frame(4, b'{"StatusCode":0}'):
            connection.sendall(bytes([byte]))

    relay = Relay(_hijack(server, dial, answer), framed=True)
    relay.run()
    assert relay.status == 0
    assert capfd.readouterr().out == "hello"


def test_error_frame(server: Server, dial, capfd) -> None:
    error = frame(3, b'{"message":"no such command","exitCode":127}')

    def answer(_, connection) -> None:
        connection.sendall(UPGRADE + error)
        connection.shutdown(socket.SHUT_RDWR)

    relay = Relay(_hijack(server, dial, answer), framed=True)
    relay.run()
    assert relay.status is None
    assert relay.error == {"message": "no such command", "exitCode": 127}


def test_stdin_goes_out_and_its_end_is_a_half_close(server: Server, dial, capfd) -> None:
    received = bytearray()

    def answer(_, connection) -> None:
        connection.sendall(UPGRADE)
        while data := connection.recv(4096):
            received.extend(data)
        connection.sendall(frame(1, b"seen") + frame(4, b'{"StatusCode":0}'))

    inside, outside = os.pipe()
    threading.Thread(target=lambda: (os.write(outside, b"x" * 3000), os.close(outside))).start()
    relay = Relay(_hijack(server, dial, answer), framed=True, stdin=inside)
    relay.run()
    assert (relay.status, bytes(received)) == (0, b"x" * 3000)
    assert capfd.readouterr().out == "seen"


def test_no_deadlock_when_both_directions_are_full(server: Server, dial) -> None:
    """`cat` with more input than all buffers hold: output must be taken while input waits."""
    size = 4 << 20

    def answer(_, connection) -> None:
        connection.sendall(UPGRADE)
        while data := connection.recv(65536):
            connection.sendall(frame(1, data))
        connection.sendall(frame(4, b'{"StatusCode":0}'))

    inside, outside = os.pipe()

    def feed() -> None:
        os.set_blocking(outside, True)
        left = size
        while left:
            left -= os.write(outside, bytes(min(left, 65536)))
        os.close(outside)

    saved, null = os.dup(1), os.open("/dev/null", os.O_WRONLY)
    os.dup2(null, 1)
    try:
        threading.Thread(target=feed).start()
        relay = Relay(_hijack(server, dial, answer), framed=True, stdin=inside)
        relay.run()
    finally:
        os.dup2(saved, 1)
    assert relay.status == 0


def test_detach(server: Server, dial) -> None:
    ended = threading.Event()

    def answer(_, connection) -> None:
        connection.sendall(UPGRADE)
        assert connection.recv(100) == b"ls\n"
        ended.wait(5)

    inside, outside = os.pipe()
    os.write(outside, b"ls\n\x10\x11")
    relay = Relay(_hijack(server, dial, answer), framed=False, stdin=inside, keys=b"\x10\x11")
    relay.run()
    ended.set()
    assert relay.detached


@pytest.mark.parametrize(
    ("pieces", "passed", "complete"),
    [
        ([b"a\x10b"], b"a\x10b", False),
        ([b"a\x10", b"\x11b"], b"a", True),
        ([b"\x10\x10\x11"], b"\x10", True),
        ([b"\x11\x10"], b"\x11", False),
    ],
)
def test_detach_keys(pieces: list[bytes], passed: bytes, complete: bool) -> None:
    keys = DetachKeys(b"\x10\x11")
    out = b""
    found = False
    for piece in pieces:
        data, found = keys.feed(piece)
        out += data
    assert (out, found) == (passed, complete)
