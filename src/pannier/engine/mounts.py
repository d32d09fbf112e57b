"""``-v``, ``--mount``, ``--tmpfs``, ``VOLUME`` and ``--volumes-from``: wishes into mount points."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Sequence

from pannier.base.errors import InvalidArgument
from pannier.engine.model import Container, MountPoint
from pannier.engine.volumes import Volume, Volumes
from pannier.oci.image import ContainerDefaults
from pannier.oci.runtime import Mount as OciMount
from pannier.runtime.mountplan import SUBPATH
from pannier.wire import containers as wire

_PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_IGNORED = {"z", "Z", "cached", "delegated", "consistent", "nocopy", "copy", "rw"}


def resolve(
    config: wire.ContainerConfig,
    host: wire.HostConfig,
    defaults: ContainerDefaults,
    volumes: Volumes,
    find: Callable[[str], Container],
) -> list[MountPoint]:
    """Look up and create what is needed; the later of two wishes for one place wins.

    Raises:
        InvalidArgument: a malformed wish, or a missing bind source of ``--mount``.
        NotFound: an unknown container in ``volumes_from``.
    """
    points: dict[str, MountPoint] = {}
    wishes = [
        *_inherited(host.volumes_from, find),
        *(_from_mount(mount, volumes) for mount in host.mounts),
        *(_from_bind(text, volumes) for text in host.binds),
        *(_tmpfs(target, options) for target, options in host.tmpfs.items()),
    ]
    for point in wishes:
        points[point.destination] = point
    for target in [*(defaults.volumes or {}), *config.volumes]:
        destination = _destination(target)
        if destination not in points:
            volume = volumes.create(pending=True)
            points[destination] = _volume_point(volume, volumes, destination, anonymous=True)
    return list(points.values())


def to_oci(points: Iterable[MountPoint]) -> list[OciMount]:
    """Mount points as OCI mounts, parents before what lies below them."""
    ordered = sorted(points, key=lambda point: point.destination.count("/"))
    return [_to_oci(point) for point in ordered]


def _to_oci(point: MountPoint) -> OciMount:
    if point.type == "tmpfs":
        return {
            "destination": point.destination,
            "type": "tmpfs",
            "source": "tmpfs",
            "options": list(point.options),
        }
    options = ["rbind", "nodev", "idmap", "rw" if point.writable else "ro", *point.options]
    if point.subpath:
        options.append(f"{SUBPATH}{point.subpath}")
    return {
        "destination": point.destination,
        "type": "bind",
        "source": point.source,
        "options": [*options, point.propagation or "rprivate"],
    }


def _inherited(names: Sequence[str], find: Callable[[str], Container]) -> list[MountPoint]:
    points = []
    for text in names:
        name, _, mode = text.partition(":")
        for point in find(name).record.mounts:
            if point.type != "tmpfs":
                writable = point.writable and mode != "ro"
                points.append(_with_writable(point, writable=writable))
    return points


def _with_writable(point: MountPoint, *, writable: bool) -> MountPoint:
    return MountPoint(
        point.type,
        point.source,
        point.destination,
        writable,
        point.name,
        point.propagation,
        point.options,
    )


def _from_bind(text: str, volumes: Volumes) -> MountPoint:
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not source or not target:
        raise InvalidArgument(f"invalid volume specification: '{text}'")
    modes = [m for m in mode.split(",") if m]
    propagation = next((m for m in modes if m in _PROPAGATION), "")
    unknown = [m for m in modes if m not in {*_PROPAGATION, *_IGNORED, "ro"}]
    if unknown:
        raise InvalidArgument(f"invalid mode: {unknown[0]}")
    destination = _destination(target)
    if not source.startswith("/"):
        volume = volumes.create(source)
        return _volume_point(volume, volumes, destination, writable="ro" not in modes)
    if not os.path.lexists(source):
        # -v creates a missing source (Docker's long-standing promise); --mount does not.
        os.makedirs(source, mode=0o755)
    return MountPoint("bind", source, destination, "ro" not in modes, "", propagation)


def _from_mount(mount: wire.Mount, volumes: Volumes) -> MountPoint:
    destination = _destination(mount.target)
    match mount.type:
        case "bind":
            return _bind_point(mount, destination)
        case "volume":
            options = mount.volume_options or wire.VolumeOptions()
            volume = volumes.create(mount.source, labels=options.labels, pending=not mount.source)
            return _volume_point(
                volume,
                volumes,
                destination,
                writable=not mount.read_only,
                anonymous=not mount.source,
                subpath=options.subpath,
            )
        case "tmpfs":
            tmpfs = mount.tmpfs_options or wire.TmpfsOptions()
            size = [f"size={tmpfs.size_bytes}"] if tmpfs.size_bytes else []
            mode = [f"mode={tmpfs.mode:o}"] if tmpfs.mode else []
            return _tmpfs(destination, ",".join(size + mode))
        case _:
            raise InvalidArgument(f"mount type unknown: '{mount.type}'")


def _bind_point(mount: wire.Mount, destination: str) -> MountPoint:
    options = mount.bind_options or wire.BindOptions()
    if not mount.source.startswith("/"):
        raise InvalidArgument(
            f"invalid mount config for type \"bind\": invalid mount path: '{mount.source}' mount "
            "path must be absolute"
        )
    if not os.path.lexists(mount.source):
        if not options.create_mountpoint:
            raise InvalidArgument(
                'invalid mount config for type "bind": bind source path does not exist: '
                f"{mount.source}"
            )
        os.makedirs(mount.source, mode=0o755)
    return MountPoint(
        "bind", mount.source, destination, not mount.read_only, "", options.propagation
    )


def _volume_point(
    volume: Volume,
    volumes: Volumes,
    destination: str,
    *,
    writable: bool = True,
    anonymous: bool = False,
    subpath: str = "",
) -> MountPoint:
    inside = posixpath.normpath(subpath) if subpath else ""
    if inside.startswith("/") or inside.split("/")[0] == "..":
        raise InvalidArgument(f"invalid volume subpath: {subpath}")
    return MountPoint(
        "volume",
        str(volumes.directory(volume)),
        destination,
        writable,
        volume.name,
        anonymous=anonymous,
        subpath=inside,
    )


def _tmpfs(target: str, options: str) -> MountPoint:
    given = [o for o in options.split(",") if o]
    for option in given:
        if option.partition("=")[0] not in _TMPFS_OPTIONS:
            raise InvalidArgument(f'invalid tmpfs option ["{option}"]')
    usual = [o for o in ("nosuid", "nodev", "noexec") if o.removeprefix("no") not in given]
    return MountPoint(
        "tmpfs", "", _destination(target), "ro" not in given, options=(*usual, *given)
    )


_TMPFS_OPTIONS = frozenset(
    "size mode uid gid nr_inodes nr_blocks ro rw exec noexec suid nosuid dev nodev atime noatime "
    "relatime norelatime strictatime nostrictatime sync async".split()
)


def _destination(target: str) -> str:
    if not target.startswith("/"):
        raise InvalidArgument(f"invalid mount path: '{target}' mount path must be absolute")
    path = posixpath.normpath("/" + target.lstrip("/"))
    if path == "/":
        raise InvalidArgument("invalid specification: destination can't be '/'")
    return path
