"""Volumes, binds and tmpfs of a service, in the short and the long form."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Collection
from pathlib import Path
from typing import Literal, cast

from pannier.compose.convert import Reader, integer, text
from pannier.compose.model import Mount
from pannier.compose.source import ComposeError, Map, Mark, Seq

_PROPAGATIONS = frozenset({"shared", "rshared", "slave", "rslave", "private", "rprivate"})


def read_mounts(reader: Reader, volumes: Collection[str], base: Path) -> list[Mount]:
    """All mounts of a service.

    Args:
        reader: the service.
        volumes: keys of the project's named volumes.
        base: relative bind sources are below it.

    Raises:
        ComposeError: a form that is none, or a volume that the file does not define.
    """
    result = [
        _tmpfs(item, reader.place("tmpfs"), f"{reader.path}.tmpfs")
        for item in reader.texts("tmpfs")
    ]
    items = reader.get("volumes")
    for index, item in enumerate(items if isinstance(items, Seq) else ()):
        path, mark = f"{reader.path}.volumes.{index}", items.place(index)
        if isinstance(item, Map):
            mount = _long(Reader(item, path), base)
        else:
            mount = _short(text(item), base, mark, path)
        if mount.type == "volume" and mount.source and mount.source not in volumes:
            raise ComposeError(
                mark,
                path,
                f"volume '{mount.source}' is not defined",
                hint=f"add '{mount.source}:' under the top-level 'volumes:', "
                f"or write ./{mount.source} for a directory",
            )
        result.append(mount)
    return _distinct(result, reader)


def _distinct(mounts: list[Mount], reader: Reader) -> list[Mount]:
    seen: set[str] = set()
    for mount in mounts:
        if mount.target in seen:
            raise reader.error("volumes", f"two mounts have the target {mount.target}")
        seen.add(mount.target)
    return mounts


def _short(spec: str, base: Path, mark: Mark, path: str) -> Mount:
    parts = spec.split(":")
    if len(parts) > 3 or not all(parts):
        raise ComposeError(
            mark,
            path,
            f"'{spec}' is not a volume",
            hint="write source:/target or source:/target:ro",
        )
    if len(parts) == 1:
        return Mount(type="volume", target=_target(parts[0], mark, path))
    source, target = parts[0], _target(parts[1], mark, path)
    read_only = nocopy = False
    propagation = ""
    for option in parts[2].split(",") if len(parts) == 3 else ():
        if option in _PROPAGATIONS:
            propagation = option
        elif option not in {"rw", "ro", "z", "Z", "nocopy", "cached", "delegated", "consistent"}:
            raise ComposeError(mark, path, f"unknown mount option '{option}'")
        read_only = read_only or option == "ro"
        nocopy = nocopy or option == "nocopy"
    if not _is_path(source):
        return Mount(
            type="volume", source=source, target=target, read_only=read_only, nocopy=nocopy
        )
    return Mount(
        type="bind",
        source=absolute(source, base),
        target=target,
        read_only=read_only,
        create_host_path=True,
        propagation=propagation,
    )


def _long(reader: Reader, base: Path) -> Mount:
    kind = reader.text("type")
    if kind not in {"bind", "volume", "tmpfs"}:
        raise reader.error("type", f"mounts of the type '{kind}' are not supported")
    if not reader.has("target"):
        raise reader.error("", "the key 'target' is missing")
    source = reader.text("source")
    if kind == "bind":
        if not source:
            raise reader.error("", "a bind needs a 'source'")
        source = absolute(source, base)
    bind, volume, tmpfs = reader.sub("bind"), reader.sub("volume"), reader.sub("tmpfs")
    mode = tmpfs.get("mode")
    return Mount(
        type=cast(Literal["bind", "volume", "tmpfs"], kind),
        source=source,
        target=_target(reader.text("target"), reader.place("target"), f"{reader.path}.target"),
        read_only=reader.boolean("read_only"),
        create_host_path=bind.boolean("create_host_path", kind == "bind"),
        propagation=bind.text("propagation"),
        nocopy=volume.boolean("nocopy"),
        subpath=volume.text("subpath"),
        size=tmpfs.size("size"),
        mode=int(mode, 8) if isinstance(mode, str) else integer(mode or 0),
    )


def _tmpfs(spec: str, mark: Mark, path: str) -> Mount:
    """``/run`` or ``/run:size=64m,mode=755``."""
    target, _, options = spec.partition(":")
    words = Map(mark)
    read_only = False
    for option in filter(None, options.split(",")):
        name, separator, value = option.partition("=")
        read_only = read_only or name == "ro"
        if separator:
            words.put(name, value, mark)
    reader = Reader(words, path)
    mode = reader.text("mode", "0")
    return Mount(
        type="tmpfs",
        target=_target(target, mark, path),
        read_only=read_only,
        size=reader.size("size"),
        mode=int(mode, 8) if mode.isdigit() else 0,
    )


def _is_path(source: str) -> bool:
    return source.startswith(("/", ".", "~"))


def absolute(source: str, base: Path) -> str:
    """A host path: ``~`` filled, relative ones below *base*, dots resolved by name only."""
    return os.path.normpath(base / os.path.expanduser(source))


def _target(path: str, mark: Mark, key: str) -> str:
    if not path.startswith("/"):
        raise ComposeError(mark, key, f"the target '{path}' is not an absolute path")
    return posixpath.normpath(path)
