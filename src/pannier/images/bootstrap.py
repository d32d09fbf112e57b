"""Base images made on this host from a distribution's signed packages.

``debian:12`` is one layer; with an init, ``debian:12-os`` is that layer and one on top. What
releases there are is in ``releases``; installing is a worker's job in ``rootfs``.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import msgspec

from pannier.base.errors import InvalidArgument, Unsupported
from pannier.base.ids import new_id
from pannier.base.instance import Instance
from pannier.base.undo import AsyncUndoStack
from pannier.base.units import rfc3339
from pannier.images import jobs
from pannier.images.aptsources import Source, read_sources
from pannier.images.layers import Layer
from pannier.images.platform import host_platform
from pannier.images.releases import OS_SUFFIX, Release, choose_sources, find_release
from pannier.images.report import Report, say
from pannier.images.store import Image, ImageStore
from pannier.oci.image import ContainerDefaults, History, ImageConfig, RootFS

# Tells people and tools that the image is made to be booted.
_KIND_LABEL = "io.pannier.kind"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_COMMON = ("iproute2", "iputils-ping", "netbase", "procps")
# Packages, and the signal that ends it in good order ("" where a command is needed).
_INITS: dict[str, tuple[tuple[str, ...], str]] = {
    "systemd": (("systemd", "systemd-sysv", "libpam-systemd", "dbus"), "SIGRTMIN+3"),
    "sysvinit": (("sysvinit-core",), ""),
    "runit": (("runit-init",), ""),
}


async def bootstrap(
    store: ImageStore,
    instance: Instance,
    ref: str,
    *,
    mirror: str = "",
    init: str = "",
    report: Report | None = None,
) -> Image:
    """Make a base image anew and name it.

    Args:
        store: gets the image.
        instance: its temporary directory is used.
        ref: ``debian:12``, ``debian:bookworm``, ``debian:12-os``, ...; the image gets both names.
        mirror: archive to fetch from; "" takes the host's own apt configuration.
        init: ``systemd``, ``sysvinit``, ``runit``; "" for none. With one, the image without init is
            used as the base (and made first if it is not here), and ``-os`` added to the names.
        report: gets a line for each step.

    Raises:
        NotFound: no such release is known.
        InvalidArgument: unknown init or a bad address.
        Unsupported: mmdebstrap, the archive's keys or an address is missing; says how to get it.
        Unavailable: fetching or installing failed. Nothing is left behind.
    """
    release = find_release(ref)
    _check_wish(mirror, init)
    init = init or ("systemd" if release.suffix else "")
    wanted = replace(release, suffix=OS_SUFFIX if init else "")
    asked_ns = time.time_ns()
    async with store.lock(wanted.names()[0]):
        made = store.find(wanted.names()[0])
        if made is not None and made.stored_ns > asked_ns:
            return made  # by another request, while this one waited
        if not init:
            return await _make_base(store, instance, wanted, mirror, report)
        base = await _find_base(store, instance, replace(wanted, suffix=""), mirror, report)
        return await _add_init(store, wanted, base, init, report)


async def _find_base(
    store: ImageStore, instance: Instance, release: Release, mirror: str, report: Report | None
) -> Image:
    async with store.lock(release.names()[0]):
        base = store.find(release.names()[0])
        return base or await _make_base(store, instance, release, mirror, report)


def _check_wish(mirror: str, init: str) -> None:
    if init and init not in _INITS:
        raise InvalidArgument(f"unknown init '{init}'", hint="one of: " + ", ".join(_INITS))
    # The address becomes part of a line of apt's source list.
    if mirror and (any(c.isspace() or c in "[]" for c in mirror) or "://" not in mirror):
        raise InvalidArgument(
            f"invalid mirror '{mirror}'", hint="write an archive's address: http://host/debian"
        )


def _check_tools(release: Release) -> None:
    if shutil.which("mmdebstrap") is None:
        raise Unsupported(
            "mmdebstrap is not installed", hint="install it: apt-get install mmdebstrap"
        )
    if not os.path.exists(release.vendor.keyring):
        raise Unsupported(
            f"the keys of {release.vendor.name}'s archive are missing: {release.vendor.keyring}",
            hint=f"install them: apt-get install {release.vendor.keyring_package}",
        )


async def _make_base(
    store: ImageStore, instance: Instance, release: Release, mirror: str, report: Report | None
) -> Image:
    _check_tools(release)
    sources = choose_sources(release, read_sources(), mirror)
    for source in sources:
        say(report, status=f"Packages: {source.uri} {source.suite}")
    async with AsyncUndoStack() as undo:
        scratch = _scratch(instance)
        undo.push(_remove, scratch)
        tree = scratch / "upper"
        arguments = {
            "into": str(tree),
            "suite": release.codename,
            "vendor": release.vendor.name,
            "keyring": release.vendor.keyring,
            "sources": [(s.uri, s.suite, s.components) for s in sources],
            "tmp": str(scratch),
        }
        await jobs.run("rootfs", arguments, on_line=_liner(report))
        say(report, status="Computing the layer's digest")
        layer = await store.layers.adopt(tree)
    return _name_base(store, release, layer, sources, report)


def _name_base(
    store: ImageStore, release: Release, layer: Layer, sources: list[Source], report: Report | None
) -> Image:
    host = host_platform()
    now = rfc3339(time.time_ns())
    where = f"{sources[0].uri} {sources[0].suite}"
    config = ImageConfig(
        architecture=host.architecture,
        os=host.os,
        variant=host.variant,
        created=now,
        config=ContainerDefaults(env=[_PATH], cmd=["bash"]),
        rootfs=RootFS([layer.diff_id]),
        history=[History(created=now, created_by=f"mmdebstrap minbase {where}")],
    )
    return _named(store, config, [layer], release, report)


async def _add_init(
    store: ImageStore,
    release: Release,
    base: Image,
    init: str,
    report: Report | None,
) -> Image:
    packages, stop_signal = _INITS[init]
    layers = store.layers
    layers.pin(base.layers)
    try:
        async with AsyncUndoStack() as undo:
            upper = layers.new_upper()
            undo.push(layers.discard, upper)
            arguments = {
                "lowers": layers.lower_paths(base.layers),
                "upper": str(upper.upper),
                "work": str(upper.work),
                "tmp": str(upper.upper.parent),
                "packages": [*packages, *_COMMON],
            }
            say(report, status=f"Installing {init} on {base.tags[0] if base.tags else base.id}")
            await jobs.run("init", arguments, on_line=_liner(report))
            top = await layers.adopt(upper.upper)
            undo.commit()
    except BaseException:
        layers.release(base.layers)
        raise
    config = _init_config(base.config, top.diff_id, init, stop_signal)
    return _named(store, config, [*base.layers, top], release, report)


def _init_config(base: ImageConfig, diff_id: str, init: str, stop_signal: str) -> ImageConfig:
    now = rfc3339(time.time_ns())
    step = History(created=now, created_by=f"apt-get install {init}")
    config = msgspec.structs.replace(
        base.defaults,
        cmd=["/sbin/init"],
        labels={**(base.defaults.labels or {}), _KIND_LABEL: "os"},
        stop_signal=stop_signal,
    )
    return msgspec.structs.replace(
        base,
        created=now,
        config=config,
        rootfs=RootFS([*base.rootfs.diff_ids, diff_id]),
        history=[*(base.history or []), step],
    )


def _named(
    store: ImageStore,
    config: ImageConfig,
    layers: list[Layer],
    release: Release,
    report: Report | None,
) -> Image:
    image = store.create(config, layers, release.names())
    say(report, status=f"{' and '.join(release.names())}: {image.id}")
    return image


def _scratch(instance: Instance) -> Path:
    path = instance.tmp / "images" / f"bootstrap-{new_id()[:16]}"
    path.mkdir(mode=0o700)
    return path


async def _remove(path: Path) -> None:
    await jobs.run("remove", {"paths": [str(path)]})


def _liner(report: Report | None) -> jobs.OnLine | None:
    """Lines of programs as they come, without their progress bars."""
    if report is None:
        return None
    return lambda line: say(report, status=line)
