"""The daemon is killed and kept down for half a minute, while all that it once set up is in use.

Load: a web tier with a published port that looks its back end up by name for each request and asks
it; another container that looks names up; one that writes to its log without pause. All four counts
have to be zero: none of this may need the daemon.
"""

from __future__ import annotations

import re
import threading
import time
import urllib.request
from collections.abc import Iterator

from bench.model import Row
from bench.ours import IMAGE, Ours

_DOWN_S = 30.0
_PORT = 18099
_VISITORS = 4
_BLOCKED_S = 1.0
_UP_S = 30.0

# perl-base is in every Debian image: no other image is needed.
_BACK = r"""
use IO::Socket::INET; $| = 1; $SIG{CHLD} = 'IGNORE';
my $s = IO::Socket::INET->new(LocalPort => 80, Listen => 64, ReuseAddr => 1) or die $!;
while (my $c = $s->accept) { print $c "from the back end\n"; close $c }
"""
_FRONT = r"""
use IO::Socket::INET; $| = 1;
my $s = IO::Socket::INET->new(LocalPort => 80, Listen => 64, ReuseAddr => 1) or die $!;
for (1 .. 3) { last unless fork }
while (1) {
  my $c = $s->accept or next;
  while (defined(my $line = <$c>)) { last if $line =~ /^\r?$/ }
  my $b = IO::Socket::INET->new(PeerAddr => 'back', PeerPort => 80, Timeout => 5);
  my $text = $b ? <$b> : undef;
  my $state = defined $text ? '200 OK' : '502 Bad Gateway';
  $text //= "none\n";
  print $c "HTTP/1.0 $state\r\nContent-Length: " . length($text) . "\r\n\r\n$text";
  close $c;
}
"""
_LOOKER = r"""
my ($good, $bad, $end) = (0, 0, 0); $SIG{TERM} = sub { $end = 1 };
until ($end) {
  if (gethostbyname('back')) { $good++ } else { $bad++ }
  select undef, undef, undef, 0.01;
}
print "good=$good bad=$bad\n";
"""
_WRITER = r"""
use Time::HiRes 'time'; $| = 1;
my ($number, $slowest, $end) = (0, 0, 0); $SIG{TERM} = sub { $end = 1 };
until ($end) {
  my $begin = time;
  print "line $number of the writer, which has to arrive in its turn and whole\n";
  my $took = time - $begin; $slowest = $took if $took > $slowest; $number++;
  select undef, undef, undef, 0.001;
}
print "written=$number slowest=$slowest\n";
"""


class _Visitors:
    """Threads that ask the published port without pause."""

    def __init__(self) -> None:
        self._end = threading.Event()
        self._begin = time.monotonic()
        self.good = 0
        self.failed: list[str] = []
        self._threads = [threading.Thread(target=self._visit) for _ in range(_VISITORS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _visit(self) -> None:
        while not self._end.is_set():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{_PORT}/", timeout=10) as answer:
                    answer.read()
                self.good += 1
            except OSError as error:
                self.failed.append(f"{time.monotonic() - self._begin:.1f} s: {error}")
            time.sleep(0.005)


def outage(ours: Ours, _: int) -> Iterator[Row]:
    """See the module."""
    _begin(ours)
    visitors = _Visitors()
    visitors.start()
    time.sleep(2)
    before = visitors.good
    ours.engine.kill9()
    time.sleep(_DOWN_S)
    served = visitors.good - before
    ours.engine.start()
    time.sleep(2)
    visitors.stop()
    good, bad = _numbers(_last_words(ours, "looker")[-1], r"good=(\d+) bad=(\d+)")
    lines = _last_words(ours, "writer")
    written, slowest = _numbers(lines[-1], r"written=(\d+) slowest=([\d.]+)")
    lost = _lost(lines[:-1], int(written))
    ours.cli("rm", "-f", "front", "back", "looker", "writer")
    ours.cli("network", "rm", "tiers")
    note = f"daemon down {_DOWN_S:.0f} s, {served} requests served meanwhile"
    if visitors.failed:
        note += f"; first failure at {visitors.failed[0]}"
    yield Row("daemon down: failed requests", len(visitors.failed), "", limit=0, note=note)
    yield Row("daemon down: failed look-ups", bad, "", limit=0, note=f"of {good + bad:.0f}")
    note = f"of {written:.0f} lines"
    yield Row("daemon down: lost log bytes", lost, "", limit=0, note=note)
    blocked = float(slowest > _BLOCKED_S)
    note = f"slowest write {slowest * 1000:.1f} ms"
    yield Row("daemon down: blocked writers", blocked, "", limit=0, note=note)


def _begin(ours: Ours) -> None:
    ours.cli("network", "create", "tiers")
    for name, program, options in (
        ("back", _BACK, []),
        ("front", _FRONT, ["-p", f"{_PORT}:80"]),
        ("looker", _LOOKER, []),
        ("writer", _WRITER, ["--log-opt", "max-size=-1"]),
    ):
        command = [IMAGE, "perl", "-e", program]
        ours.cli("run", "-d", "--network", "tiers", "--name", name, *options, *command)
    _await_front()


def _await_front() -> None:
    """Until the front end listens and its back end answers."""
    deadline = time.monotonic() + _UP_S
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{_PORT}/", timeout=10) as answer:
                answer.read()
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _last_words(ours: Ours, name: str) -> list[str]:
    """Everything it has printed, after it was asked to end."""
    ours.cli("stop", name)
    return ours.cli("logs", name).splitlines()


def _numbers(line: str, pattern: str) -> tuple[float, float]:
    found = re.search(pattern, line)
    if not found:
        raise RuntimeError(f"not what was expected in the log: {line!r}")
    return float(found[1]), float(found[2])


def _lost(lines: list[str], written: int) -> int:
    """Bytes of the lines that are not in the log."""
    text = "line {} of the writer, which has to arrive in its turn and whole"
    expected = [text.format(number) for number in range(written)]
    if lines == expected:
        return 0
    missing = set(expected) - set(lines)
    return sum(len(line) + 1 for line in missing) or 1  # out of turn is not whole either
