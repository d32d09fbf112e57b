"""A new volume gets what the image has at its place, once (Docker's "copy up")."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pannier.base.errors import Internal
from pannier.kernel import _libc
from pannier.kernel.overlay import Stack, mount_overlay
from pannier.kernel.rooted import open_in_root


def fill_volume(roots: Sequence[str], destination: str, target: str, tmp: Path) -> None:
    """Copy the image's directory *destination* into *target* with owners, modes and xattrs.

    Nothing happens if *target* is not empty, or the image has nothing there. Links inside the
    image cannot lead out of it (openat2(2), RESOLVE_IN_ROOT).

    Args:
        roots: the image's layers, uppermost first.
        destination: absolute path inside.
        target: the volume's data directory.
        tmp: for the mount's unused upper directory.

    Raises:
        Internal: the copy failed; the volume is as empty as before then.
    """
    if os.listdir(target):
        return
    with tempfile.TemporaryDirectory(dir=tmp, prefix="fill-") as scratch:
        merged = mount_overlay(_with_upper(roots, Path(scratch)))
        try:
            _copy(merged, destination, target)
        finally:
            os.close(merged)


def _with_upper(roots: Sequence[str], scratch: Path) -> Stack:
    """An overlay of a single layer needs an upper directory (overlayfs refuses it otherwise)."""
    upper, work = scratch / "upper", scratch / "work"
    for directory in (upper, work):
        directory.mkdir()
    return Stack(roots, str(upper), str(work))


def _copy(merged: int, destination: str, target: str) -> None:
    with suppress(FileNotFoundError, NotADirectoryError):
        source = open_in_root(merged, destination, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _run_cp(source, target)
        finally:
            os.close(source)


def _run_cp(source: int, target: str) -> None:
    command = ["cp", "-a", "--reflink=auto", f"/proc/self/fd/{source}/.", target]
    done = subprocess.run(
        command,
        pass_fds=[source],
        capture_output=True,
        check=False,
        # Else it would go on after a crash, while the next daemon empties the volume.
        preexec_fn=lambda: _libc.prctl(_libc.PR_SET_PDEATHSIG, signal.SIGKILL),
    )
    if done.returncode:
        raise Internal(
            f"cannot copy the image's content to {target}: {done.stderr.decode().strip()}"
        )
