"""Which images this host can run: a container shares the host's kernel and processor."""

from __future__ import annotations

import os
from collections.abc import Iterable

from pannier.base.errors import Unsupported
from pannier.oci.image import Descriptor, ImageConfig, Platform

# uname -m -> Go's GOARCH and GOARM, which image-spec config.md prescribes.
_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
    "loongarch64": ("loong64", ""),
}


def host_platform() -> Platform:
    """This machine in the words of the image specification."""
    machine = os.uname().machine
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    return Platform(architecture=architecture, os="linux", variant=variant)


def describe(platform: Platform | ImageConfig) -> str:
    """``linux/arm64/v8``."""
    parts = (platform.os, platform.architecture, platform.variant)
    return "/".join(part for part in parts if part)


def check_platform(config: ImageConfig) -> None:
    """Refuse an image that cannot run here.

    Raises:
        Unsupported: another operating system or architecture; says which.
    """
    host = host_platform()
    if config.os != host.os or not _runs(config.architecture, host):
        raise Unsupported(
            f"image platform ({describe(config)}) does not match the host ({describe(host)}): "
            f"a container shares this host's kernel, and the image is {describe(config)}",
            hint=f"use an image for {describe(host)}",
        )


def choose(manifests: Iterable[Descriptor], wanted: Platform, name: str) -> Descriptor:
    """The manifest of an index that fits *wanted* best.

    Args:
        manifests: entries of the index.
        wanted: usually ``host_platform()``.
        name: the image, for the error.

    Raises:
        Unsupported: none fits; says which platforms there are.
    """
    offered = [entry for entry in manifests if entry.platform is not None]
    for exact in (True, False):
        for entry in offered:
            assert entry.platform is not None
            if _fits(entry.platform, wanted, exact=exact):
                return entry
    # Attestations are listed as unknown/unknown.
    found = sorted(
        {describe(e.platform) for e in offered if e.platform and e.platform.os != "unknown"}
    )
    raise Unsupported(
        f"no matching manifest for {describe(wanted)} in the manifest list entries of {name}: "
        f"a container shares this host's kernel, and the image is for {', '.join(found) or 'none'}",
        hint="choose an image that is made for this platform",
    )


def _fits(offered: Platform, wanted: Platform, *, exact: bool) -> bool:
    if (offered.os, offered.architecture) != (wanted.os, wanted.architecture):
        return False
    if exact or not offered.variant:
        return offered.variant == wanted.variant or not exact
    # Arm's variants go upwards, so an older one runs too; amd64's v3 need not run here.
    return wanted.architecture.startswith("arm") and offered.variant <= (wanted.variant or "v9")


def _runs(architecture: str, host: Platform) -> bool:
    return architecture == host.architecture or (architecture, host.architecture) == (
        "386",
        "amd64",
    )
