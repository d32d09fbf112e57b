"""Questions that are not about containers, handed on to the host's name servers.

Every exchange has a socket of its own, so each has a random port and a random id (RFC 5452): an
answer cannot be forged by guessing one number. Nothing is cached.
"""

from __future__ import annotations

import _socket
import errno
import os
import time
from struct import pack, unpack_from

from pannier.network import dns
from pannier.network.polling import IN, OUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pannier.network.polling import Poller, Timer

_TRY_S = 2.0  # glibc asks again after 5 s: two servers can be tried before
_TRIES = 3
_AVOID_S = 30.0  # a silent server is asked last for so long
_REREAD_S = 1.0
_MOST = 1024  # exchanges at a time
_MOST_PER_SOURCE = 256  # one container must not use them all up
_NEXT_PLEASE = {dns.SERVFAIL, dns.NOTIMP, dns.REFUSED}


class Upstreams:
    """The host's name servers, read again when the file changes.

    Loopback ones are fine: the resolver lives in the host's network namespace, so a local
    systemd-resolved or dnsmasq is asked as the host itself asks it. Only our own are left out.
    """

    def __init__(self, path: str = "/etc/resolv.conf") -> None:
        self._path = path
        self._servers: list[str] = []
        self._stamp: tuple[int, int] = (0, 0)
        self._checked = 0.0

    def servers(self, own: set[str]) -> list[str]:
        """The servers without those in *own*."""
        now = time.monotonic()
        if now - self._checked >= _REREAD_S:
            self._checked = now
            self._reread()
        return [server for server in self._servers if server not in own]

    def _reread(self) -> None:
        try:
            status = os.stat(self._path)
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp == self._stamp:
                return
            with open(self._path, encoding="utf-8", errors="replace") as file:
                self._servers = parse_servers(file.read())
            self._stamp = stamp
        except OSError:
            return  # somebody is replacing it: what was known stays


def parse_servers(text: str) -> list[str]:
    """The ``nameserver`` lines of a resolv.conf(5) that hold an address."""
    words = (line.split() for line in text.splitlines())
    found = [w[1].partition("%")[0] for w in words if len(w) > 1 and w[0] == "nameserver"]
    return [address for address in found if _family(address) is not None]


class Forwarder:
    """Runs the exchanges.

    Args:
        poller: the process' loop.
        port: of the name servers.
    """

    def __init__(self, poller: Poller, port: int = 53) -> None:
        self.poller = poller
        self.port = port
        self._running = 0
        self._by_source: dict[str, int] = {}
        self._avoided: dict[str, float] = {}

    def forward(
        self,
        data: bytes,
        servers: Sequence[str],
        source: str,
        deliver: Callable[[bytes], None],
        *,
        tcp: bool = False,
    ) -> None:
        """Ask *servers* in turn and hand the first useful answer to *deliver*, SERVFAIL if none."""
        if self._running >= _MOST or self._by_source.get(source, 0) >= _MOST_PER_SOURCE:
            deliver(dns.refusal(data, dns.SERVFAIL))
            return
        self._running += 1
        self._by_source[source] = self._by_source.get(source, 0) + 1

        def finish(answer: bytes) -> None:
            self._count_down(source)
            deliver(answer)

        exchange = _TcpExchange if tcp else _UdpExchange
        exchange(self, data, self._ordered(servers), finish).try_next()

    def avoid(self, server: str) -> None:
        """*server* did not answer."""
        self._avoided[server] = time.monotonic() + _AVOID_S

    def _ordered(self, servers: Sequence[str]) -> list[str]:
        now = time.monotonic()
        return sorted(servers, key=lambda server: self._avoided.get(server, 0.0) > now)

    def _count_down(self, source: str) -> None:
        self._running -= 1
        left = self._by_source[source] - 1
        if left:
            self._by_source[source] = left
        else:
            del self._by_source[source]


class _Exchange:
    """One question on its way; subclasses speak UDP or TCP."""

    kind = _socket.SOCK_DGRAM

    def __init__(
        self,
        forwarder: Forwarder,
        data: bytes,
        servers: Sequence[str],
        finish: Callable[[bytes], None],
    ) -> None:
        self._forwarder = forwarder
        self._data = data
        self._question = dns.question_of(data).lower()
        tries = max(_TRIES, len(servers)) if servers else 0
        self._servers = [servers[i % len(servers)] for i in range(tries)]
        self._finish = finish
        self._sock: _socket.socket | None = None
        self._timer: Timer | None = None
        self._server = ""
        self._id = b""
        self._last = b""

    def try_next(self) -> None:
        """Ask the next server; the end if there is none."""
        self._close()
        while self._servers:
            self._server = self._servers.pop(0)
            self._id = os.urandom(2)
            try:
                self._open()
            except OSError:
                self._close()
                continue
            self._timer = self._forwarder.poller.call_later(_TRY_S, self._timed_out)
            return
        self._end(self._last or dns.refusal(self._data, dns.SERVFAIL))

    def _open(self) -> None:
        family = _family(self._server) or _socket.AF_INET
        flags = _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
        self._sock = _socket.socket(family, self.kind | flags)
        self._begin(self._sock)

    def _begin(self, sock: _socket.socket) -> None:
        raise NotImplementedError

    def _timed_out(self) -> None:
        self._forwarder.avoid(self._server)
        self.try_next()

    def _received(self, answer: bytes) -> bool:
        """Whether *answer* is one to this question; the exchange goes on or ends then."""
        fits = len(answer) >= 12 and answer[:2] == self._id and answer[2] & 0x80
        if not fits or not self._about_this(answer):
            return False
        restored = self._data[:2] + answer[2:]
        if answer[3] & 0x0F in _NEXT_PLEASE and self._servers:
            self._last = restored
            self.try_next()
        else:
            self._end(restored)
        return True

    def _about_this(self, answer: bytes) -> bool:
        """Errors may come without the question, everything else must repeat it."""
        bare_error = answer[4:6] == b"\0\0" and answer[3] & 0x0F != dns.NOERROR
        return bare_error or dns.question_of(answer).lower() == self._question

    def _end(self, answer: bytes) -> None:
        self._close()
        self._finish(answer)

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sock is not None:
            self._forwarder.poller.remove(self._sock.fileno())
            self._sock.close()
            self._sock = None


class _UdpExchange(_Exchange):
    def _begin(self, sock: _socket.socket) -> None:
        sock.connect((self._server, self._forwarder.port))
        sock.send(self._id + self._data[2:])
        self._forwarder.poller.add(sock.fileno(), lambda: self._readable(sock))

    def _readable(self, sock: _socket.socket) -> None:
        try:
            answer = sock.recv(0xFFFF)
        except BlockingIOError:
            return
        except OSError:  # an ICMP error: nobody listens there
            self._timed_out()
            return
        self._received(answer)


class _TcpExchange(_Exchange):
    kind = _socket.SOCK_STREAM
    _outgoing = b""
    _incoming = b""

    def _begin(self, sock: _socket.socket) -> None:
        code = sock.connect_ex((self._server, self._forwarder.port))
        if code not in {0, errno.EINPROGRESS}:
            raise OSError(code, os.strerror(code))
        query = self._id + self._data[2:]
        self._outgoing = pack(">H", len(query)) + query
        self._incoming = b""
        self._forwarder.poller.add(sock.fileno(), lambda: self._ready(sock), OUT)

    def _ready(self, sock: _socket.socket) -> None:
        try:
            if self._outgoing:
                self._outgoing = self._outgoing[sock.send(self._outgoing) :]
                if not self._outgoing:
                    self._forwarder.poller.change(sock.fileno(), IN)
                return
            data = sock.recv(0xFFFF)
        except BlockingIOError:
            return
        except OSError:
            self._timed_out()
            return
        self._incoming += data
        if not data:
            self._timed_out()
        elif len(self._incoming) >= 2:
            self._check()

    def _check(self) -> None:
        size: int = unpack_from(">H", self._incoming)[0]
        whole = len(self._incoming) >= size + 2
        if whole and not self._received(self._incoming[2 : size + 2]):
            self._timed_out()


def _family(address: str) -> int | None:
    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, address)
        except OSError:
            continue
        return family
    return None
