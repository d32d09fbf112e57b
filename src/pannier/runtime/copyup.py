"""Copies a directory of an image into the fresh tmpfs on top of it (mount option ``tmpcopyup``).

By file descriptors and names without a slash only: the tree belongs to the container.
"""

from __future__ import annotations

import os
import stat

_CHUNK = 1 << 20


def copy_tree(source: int, target: int) -> None:
    """Copy what is in the directory *source* into the directory *target*.

    Owners, modes and links are kept; sockets and device nodes are left out.
    """
    facts = os.fstat(source)
    os.fchown(target, facts.st_uid, facts.st_gid)
    os.fchmod(target, stat.S_IMODE(facts.st_mode))
    for name in os.listdir(source):
        _copy_entry(source, target, name)


def _copy_entry(source: int, target: int, name: str) -> None:
    facts = os.stat(name, dir_fd=source, follow_symlinks=False)
    if stat.S_ISLNK(facts.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        os.chown(name, facts.st_uid, facts.st_gid, dir_fd=target, follow_symlinks=False)
    elif stat.S_ISDIR(facts.st_mode):
        os.mkdir(name, 0o700, dir_fd=target)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        inner = os.open(name, flags, dir_fd=source)
        outer = os.open(name, flags, dir_fd=target)
        try:
            copy_tree(inner, outer)
        finally:
            os.close(inner)
            os.close(outer)
    elif stat.S_ISREG(facts.st_mode):
        _copy_file(source, target, name, facts)


def _copy_file(source: int, target: int, name: str, facts: os.stat_result) -> None:
    reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    writer = os.open(name, flags, 0o600, dir_fd=target)
    try:
        while chunk := os.read(reader, _CHUNK):
            os.write(writer, chunk)
        os.fchown(writer, facts.st_uid, facts.st_gid)
        os.fchmod(writer, stat.S_IMODE(facts.st_mode))
    finally:
        os.close(reader)
        os.close(writer)
