"""The worker's side of ``save`` and ``load``: many files in one tar, streamed.

Which files make an image is decided in ``archive``. Reading writes every member to a file of a
number, so that names from the archive never become paths here.
"""

from __future__ import annotations

import json
import os
import posixpath
from typing import Any

from pannier.base.errors import Internal
from pannier.images import tarformat
from pannier.images.compression import Decompressed, HashingWriter, Writer
from pannier.images.tarformat import Entry, Reader, TarReader
from pannier.images.tree import TarWriter


def write_archive(target: Writer, arguments: dict[str, Any]) -> None:
    """Write the files and layers that the JSON file ``plan`` lists.

    ``files`` are names and texts; ``layers`` names, sizes and where their archives come from.

    Raises:
        Internal: a layer is not what the store said when the sizes were written.
    """
    with open(arguments["plan"], "rb") as source:
        plan = json.load(source)
    for item in plan["files"]:
        _write_file(target, item["name"].encode(), item["text"].encode())
    for layer in plan["layers"]:
        target.write(_header(layer["name"].encode(), layer["size"]))
        content = HashingWriter(target)
        copy_layer(content, layer)
        if (content.count, content.digest) != (layer["size"], layer["diff_id"]):
            raise Internal(
                f"layer {layer['diff_id']} was changed on disk: its archive is {content.digest}",
                hint="remove the image and get it again",
            )
        target.write(tarformat.padding(content.count))
    target.write(tarformat.END)


def copy_layer(target: Writer, layer: dict[str, Any]) -> None:
    """Write a layer's uncompressed archive, from its ``blob`` or packed from its ``path``."""
    if not layer.get("blob"):
        TarWriter(target).write(layer["path"])
        return
    with open(layer["blob"], "rb") as source:
        content = Decompressed(source)
        while chunk := content.read(1 << 18):
            target.write(chunk)


def explode_archive(source: Reader, into: str) -> dict[str, str]:
    """Write the regular files of an archive, compressed or not, as ``0``, ``1``, ... below *into*.

    Returns:
        the member names (without leading ``./``) and their files. Links, which old archives have
        for layers that images share, name the same file.
    """
    members: dict[str, str] = {}
    links: dict[str, str] = {}
    reader = TarReader(Decompressed(source))
    for entry in reader:
        name = _clean(entry.name)
        if entry.kind == tarformat.REGULAR:
            path = os.path.join(into, str(len(members)))
            with open(path, "wb") as target:
                target.writelines(reader.data())
            members[name] = path
        elif entry.kind == tarformat.SYMLINK:
            links[name] = posixpath.normpath(
                posixpath.join(posixpath.dirname(name), os.fsdecode(entry.link))
            )
        elif entry.kind == tarformat.HARDLINK:
            links[name] = _clean(entry.link)
    return members | {name: members[link] for name, link in links.items() if link in members}


def _clean(name: bytes) -> str:
    return posixpath.normpath(os.fsdecode(name)).lstrip("/")


def _write_file(target: Writer, name: bytes, data: bytes) -> None:
    target.write(_header(name, len(data)))
    target.write(data)
    target.write(tarformat.padding(len(data)))


def _header(name: bytes, size: int) -> bytes:
    return tarformat.header(Entry(name=name, kind=tarformat.REGULAR, size=size))
