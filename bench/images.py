"""What builds and rollbacks cost when nothing, or only the image, has changed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.model import Row, in_turns, median, spread
from bench.ours import IMAGE, Ours
from bench.peer import Peer

_DOCKERFILE = f"""\
FROM {IMAGE}
ENV LANG=C.UTF-8 MODE=production
LABEL org.example.purpose=measurement
WORKDIR /srv/app
COPY . .
RUN echo one > /srv/one
RUN mkdir -p /srv/data && echo two > /srv/data/two
RUN cp /etc/debian_version /srv/version
RUN ls -l /srv > /srv/listing
CMD ["sh", "-c", "cat /srv/listing"]
"""
_FILES = 40


def second_build(ours: Ours, peer: Peer, rounds: int) -> Iterator[Row]:
    """Ten steps, forty files, nothing changed since the last time."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        context = Path(name)
        _write_context(context)
        words = ("build", "-t", "bench-ten-steps", ".")
        mine, theirs = in_turns(
            rounds,
            lambda: ours.cli(*words, cwd=context),
            lambda: peer.cli(*words, cwd=context),
            warm_up=2,
        )
    yield Row(
        "second build of an unchanged 10-step Dockerfile",
        median(mine),
        "ms",
        peer=median(theirs),
        limit=0.5,
        note=spread(mine),
    )


def _write_context(context: Path) -> None:
    (context / "Dockerfile").write_text(_DOCKERFILE)
    for number in range(_FILES):
        (context / f"file{number}").write_text(f"content of file {number}\n" * 200)


def rollback(ours: Ours, rounds: int) -> Iterator[Row]:
    """A stopped container back to its previous image, and the way forward again."""
    for size, limit in ((10, None), (300, 100)):
        _two_images(ours, size)
        ours.cli("create", "--name", f"back{size}", f"bench-{size}:1", "true")
        ours.cli("update", "--image", f"bench-{size}:2", f"back{size}")
        back, forth = in_turns(
            rounds,
            lambda name=f"back{size}": ours.cli("rollback", name),
            lambda name=f"back{size}": ours.cli("rollback", "--undo", name),
            warm_up=1,
        )
        yield Row(
            f"rollback of a stopped container, images of {size} MB",
            median(back),
            "ms",
            limit=limit,
            note=f"{spread(back)}; --undo {median(forth):.1f}",
        )
        ours.cli("rm", f"back{size}")


def _two_images(ours: Ours, size: int) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        context = Path(name)
        for version in (1, 2):
            make = f"head -c {size * 10**6} /dev/urandom > /blob{version}"
            (context / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN {make}\n")
            ours.cli("build", "-t", f"bench-{size}:{version}", ".", cwd=context)
