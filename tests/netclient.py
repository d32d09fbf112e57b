"""Asks and serves from inside a network namespace; standard library only. Prints JSON.

serve tcp|udp|dns PORT TEXT [ADDRESS]    answers TEXT and the peer's address, for ever
ask tcp|udp ADDRESS PORT                 {"text": ..., "peer": ...} or {"error": "timeout"}
dns SERVER NAME TYPE [tcp]               {"code": 0, "answers": [...]} or {"error": ...}
"""

import json
import os
import socket
import struct
import sys

TIMEOUT_S = 1.5


def serve(kind: str, port: str, text: str, address: str = "0.0.0.0") -> None:
    stream = kind == "tcp"
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, int(port)))
    if stream:
        sock.listen(16)
    print("ready", flush=True)
    while True:
        if stream:
            peer, name = sock.accept()
            peer.sendall(json.dumps({"text": text, "peer": name[0]}).encode())
            peer.close()
            continue
        data, name = sock.recvfrom(4096)
        if kind == "dns":  # echoes the question with one A record
            answer = data[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + data[12:].split(b"\0\0\x29")[0]
            answer += b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(text)
            sock.sendto(answer, name)
        else:
            sock.sendto(json.dumps({"text": text, "peer": name[0]}).encode(), name)


def ask(kind: str, address: str, port: str) -> object:
    stream = kind == "tcp"
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
    sock.settimeout(TIMEOUT_S)
    try:
        sock.connect((address, int(port)))
        if not stream:
            sock.send(b"?")
        return json.loads(sock.recv(4096))
    except TimeoutError:
        return {"error": "timeout"}
    except OSError as error:
        return {"error": os.strerror(error.errno or 0)}


def dns(server: str, name: str, kind: str, transport: str = "udp") -> object:
    number = {"A": 1, "PTR": 12, "AAAA": 28}[kind]
    labels = b"".join(bytes([len(x)]) + x.encode() for x in name.split("."))
    query = struct.pack(">6H", 77, 0x100, 1, 0, 0, 0) + labels + struct.pack(">xHH", number, 1)
    try:
        answer = _exchange(server, query, transport)
    except TimeoutError:
        return {"error": "timeout"}
    except OSError as error:
        return {"error": os.strerror(error.errno or 0)}
    identity, flags, _, count = struct.unpack_from(">4H", answer)
    assert identity == 77
    return {"code": flags & 15, "answers": _answers(answer, len(query), count)}


def _exchange(server: str, query: bytes, transport: str) -> bytes:
    if transport == "tcp":
        with socket.create_connection((server, 53), TIMEOUT_S) as sock:
            sock.sendall(struct.pack(">H", len(query)) + query)
            file = sock.makefile("rb")
            return file.read(struct.unpack(">H", file.read(2))[0])
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(TIMEOUT_S)
    sock.connect((server, 53))
    sock.send(query)
    return sock.recv(4096)


def _answers(data: bytes, offset: int, count: int) -> list[str]:
    found = []
    for _ in range(count):
        _, kind, _, _, size = struct.unpack_from(">HHHIH", data, offset)
        offset += 12
        raw = data[offset : offset + size]
        offset += size
        found.append(socket.inet_ntoa(raw) if kind == 1 else _labels(raw))
    return found


def _labels(raw: bytes) -> str:
    labels, offset = [], 0
    while raw[offset]:
        labels.append(raw[offset + 1 : offset + 1 + raw[offset]].decode())
        offset += 1 + raw[offset]
    return ".".join(labels)


if __name__ == "__main__":
    result = {"serve": serve, "ask": ask, "dns": dns}[sys.argv[1]](*sys.argv[2:])
    print(json.dumps(result))
