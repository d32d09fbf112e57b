"""One heavy job in a process of its own, then gone: ``python -m ... JOB FD JSON``.

FD is where the answer goes, one JSON document: 1, or 2 where standard output carries a stream. Jobs
touch the paths they are given and nothing else; databases and undoing belong to the daemon. If the
daemon dies, so does its worker, and the next start clears away the half-made directories.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import IO, Any

from pannier.base.errors import Internal, InvalidArgument, KernelError, PannierError
from pannier.images.archive_format import explode_archive, write_archive
from pannier.images.compression import Compressor, Decompressed, HashingReader, HashingWriter
from pannier.images.diff import changes
from pannier.images.extract import extract
from pannier.images.rootfs import add_init, make
from pannier.images.tree import TarWriter, hash_layer
from pannier.kernel import _libc

Arguments = dict[str, Any]
Answer = dict[str, Any]


def unpack(arguments: Arguments) -> Answer:
    """A layer archive from standard input or ``source`` into the new directory ``into``.

    ``digest`` (of the bytes as they come) and ``diff_id`` are checked when given; ``blob`` names a
    file that gets the bytes as they come.
    """
    os.mkdir(arguments["into"], 0o755)
    try:
        with _input(arguments) as source, _blob(arguments.get("blob")) as copy:
            return _unpack(source, copy, arguments)
    except (PannierError, OSError):
        shutil.rmtree(arguments["into"], ignore_errors=True)
        if arguments.get("blob"):
            _remove_if_there(arguments["blob"])
        raise


def _unpack(source: IO[bytes], copy: IO[bytes] | None, arguments: Arguments) -> Answer:
    raw = HashingReader(source, copy)
    content = Decompressed(raw)
    archive = HashingReader(content)
    size = extract(archive, arguments["into"])
    raw.drain()
    _expect("digest", arguments.get("digest"), raw.digest)
    _expect("diff id", arguments.get("diff_id"), archive.digest)
    return {
        "diff_id": archive.digest,
        "tar_size": archive.count,
        "size": size,
        "digest": raw.digest,
        "blob_size": raw.count,
        "compression": content.compression,
    }


def _expect(what: str, wanted: str | None, found: str) -> None:
    if wanted and wanted != found:
        raise InvalidArgument(
            f"layer verification failed: {what} is {found}, expected {wanted}",
            hint="the content was damaged on its way or at its source; try again",
        )


def extract_plain(arguments: Arguments) -> Answer:
    """Any archive, compressed or not, into the existing directory ``into``; names as they are."""
    with _input(arguments) as source:
        return {"size": extract(Decompressed(source), arguments["into"], whiteouts="keep")}


def export(arguments: Arguments) -> Answer:
    """The archive of the layer directory ``path``, or the content of the stored ``blob``.

    ``compression`` is none, gzip or zstd; goes to the file ``into`` or to standard output.
    """
    with _output(arguments.get("into")) as target:
        outer = HashingWriter(target)
        compressor = Compressor(outer, arguments.get("compression", "none"))
        inner = HashingWriter(compressor)
        _write_content(arguments, inner)
        compressor.finish()
    _expect("diff id", arguments.get("diff_id"), inner.digest)
    return {"digest": outer.digest, "size": outer.count, "diff_id": inner.digest}


def _write_content(arguments: Arguments, target: Any) -> None:
    if not arguments.get("blob"):
        TarWriter(target).write(arguments["path"])
        return
    with open(arguments["blob"], "rb") as source:
        content = Decompressed(source)
        while chunk := content.read(1 << 18):
            target.write(chunk)


def list_changes(arguments: Arguments) -> Answer:
    """``docker diff`` of ``upper`` against ``lowers``."""
    found = changes(arguments["upper"], arguments["lowers"])
    return {"changes": [(int(kind), path) for kind, path in found]}


def remove(arguments: Arguments) -> Answer:
    """Delete the directories ``paths`` with all they hold."""
    for path in arguments["paths"]:
        shutil.rmtree(path, ignore_errors=True)
    return {}


def copy(arguments: Arguments) -> Answer:
    """The content of ``source`` with all its marks into the directory ``into``; shares blocks."""
    command = ("cp", "-a", "--reflink=auto", f"{arguments['source']}/.", arguments["into"])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Internal(f"cannot copy {arguments['source']}: {done.stderr.strip()[-500:]}")
    return {}


def save(arguments: Arguments) -> Answer:
    """Images as one archive; see ``archive_format``."""
    with _output(arguments.get("into")) as target:
        write_archive(target, arguments)
    return {}


def explode(arguments: Arguments) -> Answer:
    """The files of an archive of images, into the directory ``into``."""
    with _input(arguments) as source:
        return {"members": explode_archive(source, arguments["into"])}


_JOBS: dict[str, Callable[[Arguments], Answer]] = {
    "hash": hash_layer,
    "unpack": unpack,
    "extract": extract_plain,
    "export": export,
    "changes": list_changes,
    "remove": remove,
    "copy": copy,
    "save": save,
    "explode": explode,
    "rootfs": make,
    "init": add_init,
}


def _input(arguments: Arguments) -> IO[bytes]:
    source = arguments.get("source")
    return open(source, "rb") if source else os.fdopen(0, "rb", 1 << 18, closefd=False)


def _output(path: str | None) -> IO[bytes]:
    return open(path, "xb") if path else os.fdopen(1, "wb", 1 << 18, closefd=False)


class _Nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _blob(path: str | None) -> IO[bytes] | _Nothing:
    return open(path, "xb") if path else _Nothing()


def _remove_if_there(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _describe(error: PannierError | OSError) -> Answer:
    if isinstance(error, PannierError) and not isinstance(error, KernelError):
        kind = type(error).__name__
        fields = {key: str(value) for key, value in error.fields.items()}
        return {"kind": kind, "message": error.message, "hint": error.hint, "fields": fields}
    path = getattr(error, "path", None) or error.filename
    return {
        "errno": error.errno or errno.EIO,
        "what": getattr(error, "what", "open"),
        "path": None if path is None else os.fsdecode(path),
        "hint": getattr(error, "hint", None),
    }


def serve(jobs: Mapping[str, Callable[[Arguments], Answer]]) -> None:
    """Do the job that the command line names and answer; for every module that is a worker."""
    job, answer_fd, text = sys.argv[1:4]
    _libc.prctl(_libc.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.umask(0)  # modes come from archives
    status = 0
    try:
        answer = jobs[job](json.loads(text))
    except BrokenPipeError:  # whoever read the stream has gone
        os._exit(1)
    except (PannierError, OSError) as error:
        answer, status = {"error": _describe(error)}, 1
    data = b"\n" + json.dumps(answer).encode() + b"\n"
    view = memoryview(data)
    while view:
        view = view[os.write(int(answer_fd), view) :]
    sys.exit(status)


if __name__ == "__main__":
    serve(_JOBS)
