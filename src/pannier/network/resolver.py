"""The resolver: a small process that answers for the containers' names on every bridge address.

Started by its path, with nothing but the standard library:

    python -IS .../pannier/network/resolver.py RUN_DIRECTORY [RESOLV_CONF]

What it knows comes from the zone files, so it answers with the daemon down. Names are looked up by
the asker's address; what nobody has is forwarded, except names without a dot (those can only be
containers: no search list produces them) and askers on internal networks alone.
It holds no capability but the one for port 53, and no packet ends it.
"""

from __future__ import annotations

import _socket
import os
import sys

if __name__ == "__main__":  # -I leaves out the directory that holds the package
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(__file__))))

from struct import pack, unpack_from

from pannier.kernel import _libc, inotify
from pannier.network import dns
from pannier.network.forwarding import Forwarder, Upstreams
from pannier.network.polling import IN, OUT, Poller
from pannier.network.zones import TTL_S, Names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pannier.network.polling import Timer
    from pannier.network.zones import Zone

_PORT = 53
_IP_FREEBIND = 15
_BATCH = 64  # datagrams per turn, so that TCP and timers get theirs
_MOST_CLIENTS = 128  # TCP connections at a time
_IDLE_S = 10.0
_RETRY_S = 2.0
_CAP_NET_BIND_SERVICE = 10
_CHANGES = inotify.IN_MOVED_TO | inotify.IN_MOVED_FROM | inotify.IN_DELETE | inotify.IN_CLOSE_WRITE


class Resolver:
    """Sockets by gateway, and the way of one query through names and upstreams."""

    def __init__(
        self, poller: Poller, names: Names, upstreams: Upstreams, forwarder: Forwarder
    ) -> None:
        self._poller = poller
        self._names = names
        self._upstreams = upstreams
        self._forwarder = forwarder
        self._sockets: dict[str, list[_socket.socket]] = {}
        self._clients: list[_Client] = []
        self._failed: set[str] = set()
        self._retry: Timer | None = None
        self._refresh: Callable[[], None] = lambda: None

    def watch(self, directory: str) -> None:
        """Follow the zone files. The queue is read before each answer, so that a query sent after
        a change never sees the state before it.
        """
        queue = inotify.Inotify()
        queue.add(directory, _CHANGES)
        self._poller.add(queue.fileno(), self.refresh)
        self._refresh = lambda: self._drain(queue)
        self._names.load_all()
        self._listen()

    def refresh(self) -> None:
        """Take in what has changed."""
        self._refresh()

    def handle(
        self, data: bytes, gateway: str, source: str, reply: Callable[[bytes], None]
    ) -> None:
        """Answer one message that came over UDP; see ``handle_stream``."""
        self._handle(data, gateway, source, reply, tcp=False)

    def handle_stream(
        self, data: bytes, gateway: str, source: str, reply: Callable[[bytes], None]
    ) -> None:
        """Answer one message from *source* to *gateway* that came over TCP."""
        self._handle(data, gateway, source, reply, tcp=True)

    def drop(self, client: _Client) -> None:
        """A TCP client is gone."""
        if client in self._clients:
            self._clients.remove(client)

    def _handle(
        self, data: bytes, gateway: str, source: str, reply: Callable[[bytes], None], *, tcp: bool
    ) -> None:
        try:
            query = dns.Query(data)
        except dns.Malformed as error:
            if error.code is not None:
                reply(dns.refusal(data, error.code))
            return
        zones = self._names.visible(gateway, source)
        if not zones:  # a stranger by another interface: not even a refusal for him
            return
        answer = self._own(query, zones, 0xFFFF if tcp else query.udp_limit)
        if answer is None:
            self._pass_on(data, query, zones, (gateway, source), reply, tcp=tcp)
        else:
            reply(answer)

    def _own(self, query: dns.Query, zones: list[Zone], limit: int) -> bytes | None:
        """The answer from our zones; None if the question is not about containers."""
        if query.qclass not in {dns.IN, dns.ANY}:
            return None
        address = dns.reverse_address(query.name)
        if address:
            return self._reverse(query, zones, address)
        found = self._names.addresses(zones, query.name)
        if found is None:
            if query.name == "localhost" or query.name.endswith(".localhost"):
                found = ["127.0.0.1"]  # RFC 6761: never leaves the host
            elif "." not in query.name and query.name:
                return dns.answer(query, code=dns.NXDOMAIN)
            else:
                return None
        if not found:
            return dns.answer(query, code=dns.NXDOMAIN)
        records = []
        if query.qtype in {dns.A, dns.ANY}:
            records = [(dns.A, _socket.inet_aton(a)) for a in found]
        return dns.answer(query, records, ttl=TTL_S, limit=limit)

    def _reverse(self, query: dns.Query, zones: list[Zone], address: str) -> bytes | None:
        name = self._names.name_of(zones, address)
        if name is None:
            return None
        if not name:
            return dns.answer(query, code=dns.NXDOMAIN)
        records = [(dns.PTR, dns.encode_name(name))] if query.qtype in {dns.PTR, dns.ANY} else []
        return dns.answer(query, records, ttl=TTL_S)

    def _pass_on(
        self,
        data: bytes,
        query: dns.Query,
        zones: list[Zone],
        asker: tuple[str, str],
        reply: Callable[[bytes], None],
        *,
        tcp: bool,
    ) -> None:
        if all(zone["internal"] for zone in zones):
            reply(dns.answer(query, code=dns.REFUSED))
            return
        servers: Sequence[str] = self._names.servers(*asker)
        servers = servers or self._upstreams.servers(self._names.gateways())
        self._forwarder.forward(data, servers, asker[1], reply, tcp=tcp)

    # -------------------------------------------------------------- sockets

    def _drain(self, queue: inotify.Inotify) -> None:
        changed = False
        for _, mask, name in queue.read():
            changed = True
            if mask & inotify.IN_IGNORED:  # the directory was replaced: begin anew with it
                self._poller.stop()
            elif mask & inotify.IN_Q_OVERFLOW:
                self._names.load_all()
            else:
                self._names.reload(name)
        if changed:
            self._listen()

    def _listen(self) -> None:
        """Have sockets on exactly the gateways there are."""
        wanted = self._names.gateways()
        for gateway in set(self._sockets) - wanted:
            for sock in self._sockets.pop(gateway):
                self._poller.remove(sock.fileno())
                sock.close()
        for gateway in sorted(wanted - set(self._sockets)):
            self._open(gateway)
        if wanted - set(self._sockets) and self._retry is None:
            self._retry = self._poller.call_later(_RETRY_S, self._listen_again)

    def _listen_again(self) -> None:
        self._retry = None
        self._listen()

    def _open(self, gateway: str) -> None:
        made: list[_socket.socket] = []
        try:
            made.append(_bound(gateway, _socket.SOCK_DGRAM))
            made.append(_bound(gateway, _socket.SOCK_STREAM))
            made[1].listen(64)
        except OSError as error:
            for sock in made:
                sock.close()
            if gateway not in self._failed:  # said once, tried again for ever
                self._failed.add(gateway)
                _say(
                    f"cannot answer on {gateway} port {_PORT}: {error}; does another name server "
                    "listen on all addresses?"
                )
            return
        self._failed.discard(gateway)
        udp, tcp = made
        self._sockets[gateway] = made
        self._poller.add(udp.fileno(), lambda: self._datagrams(udp, gateway))
        self._poller.add(tcp.fileno(), lambda: self._accept(tcp, gateway))

    def _datagrams(self, sock: _socket.socket, gateway: str) -> None:
        for _ in range(_BATCH):
            try:
                data, peer = sock.recvfrom(4096)
            except OSError:  # nothing left, or an ICMP error of an earlier answer
                return
            self.refresh()
            if sock.fileno() < 0:
                return  # that change took the network away
            self.handle(data, gateway, peer[0], _datagram_reply(sock, peer))

    def _accept(self, sock: _socket.socket, gateway: str) -> None:
        try:
            fd, peer = sock._accept()  # type: ignore[attr-defined]
        except OSError:
            if self._clients:  # perhaps out of descriptors: the oldest gives way
                self._clients[0].close()
            return
        connection = _socket.socket(fileno=fd)
        connection.setblocking(False)
        os.set_inheritable(fd, False)
        if len(self._clients) >= _MOST_CLIENTS:
            self._clients[0].close()
        self._clients.append(_Client(self, self._poller, connection, gateway, peer[0]))


class _Client:
    """A TCP connection: messages with their length before them (RFC 1035, 4.2.2)."""

    def __init__(
        self,
        resolver: Resolver,
        poller: Poller,
        sock: _socket.socket,
        gateway: str,
        source: str,
    ) -> None:
        self._resolver = resolver
        self._poller = poller
        self._sock = sock
        self._gateway = gateway
        self._source = source
        self._incoming = b""
        self._outgoing = b""
        self._open = True
        self._timer = poller.call_later(_IDLE_S, self.close)
        poller.add(sock.fileno(), self._ready)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._timer.cancel()
            self._poller.remove(self._sock.fileno())
            self._sock.close()
            self._resolver.drop(self)

    def _ready(self) -> None:
        try:
            if self._outgoing:
                self._flush()
                return
            data = self._sock.recv(0xFFFF)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not data:
            self.close()
            return
        self._incoming += data
        self._take_messages()

    def _take_messages(self) -> None:
        while self._open and len(self._incoming) >= 2:
            size: int = unpack_from(">H", self._incoming)[0]
            if len(self._incoming) < size + 2:
                return
            message = self._incoming[2 : size + 2]
            self._incoming = self._incoming[size + 2 :]
            self._resolver.refresh()
            self._resolver.handle_stream(message, self._gateway, self._source, self._reply)

    def _reply(self, answer: bytes) -> None:
        if not self._open:
            return
        self._outgoing += pack(">H", len(answer)) + answer
        if len(self._outgoing) > 1 << 18:  # asks and never reads
            self.close()
            return
        try:
            self._flush()
        except BlockingIOError:
            return
        except OSError:
            self.close()

    def _flush(self) -> None:
        if self._outgoing:
            self._outgoing = self._outgoing[self._sock.send(self._outgoing) :]
        self._poller.change(self._sock.fileno(), IN | OUT if self._outgoing else IN)


def _bound(gateway: str, kind: int) -> _socket.socket:
    sock = _socket.socket(_socket.AF_INET, kind | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)
    try:
        # The zone may be there before its bridge has the address.
        sock.setsockopt(_socket.IPPROTO_IP, _IP_FREEBIND, 1)
        if kind == _socket.SOCK_STREAM:
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        sock.bind((gateway, _PORT))
    except OSError:
        sock.close()
        raise
    return sock


def _datagram_reply(sock: _socket.socket, peer: tuple[str, int]) -> Callable[[bytes], None]:
    def reply(answer: bytes) -> None:
        try:
            sock.sendto(answer, peer)
        except OSError:
            return  # full, or the container is gone: it asks again if it lives

    return reply


def _say(text: str) -> None:
    sys.stderr.write(f"pannier resolver: {text}\n")
    sys.stderr.flush()


def _drop_privileges() -> None:
    _libc.prctl(_libc.PR_SET_NO_NEW_PRIVS, 1)
    only = 1 << _CAP_NET_BIND_SERVICE
    _libc.capset(only, only, 0)


def main(arguments: Sequence[str]) -> int:
    """The process: never returns while all goes well. Exit code 2 is a wrong command line."""
    if not 1 <= len(arguments) <= 2:
        _say("usage: resolver.py RUN_DIRECTORY [RESOLV_CONF]")
        return 2
    directory = os.path.join(arguments[0], "zones")
    os.makedirs(directory, 0o700, exist_ok=True)
    poller = Poller()
    upstreams = Upstreams(*arguments[1:])
    resolver = Resolver(poller, Names(directory), upstreams, Forwarder(poller))
    _drop_privileges()
    resolver.watch(directory)
    poller.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
