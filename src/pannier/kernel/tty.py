"""Pseudo-terminals of a devpts instance (pts(4), ioctl_tty(2))."""

from __future__ import annotations

import fcntl
import os
import struct

_TIOCSCTTY = 0x540E
_TIOCSWINSZ = 0x5414
_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441  # since Linux 4.13: the slave without its path, safe across mount namespaces


def from_ptmx(master: int) -> tuple[int, int]:
    """The (master, slave) of a freshly opened ptmx of some devpts instance; takes *master* over."""
    try:
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        os.close(master)
        raise
    return master, slave


def set_size(fd: int, rows: int, columns: int) -> None:
    """Tell the terminal its size in characters; programs on it get SIGWINCH."""
    fcntl.ioctl(fd, _TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def make_controlling(fd: int) -> None:
    """Make *fd* the controlling terminal of this session leader."""
    fcntl.ioctl(fd, _TIOCSCTTY, 0)
