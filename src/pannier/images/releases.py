"""The distributions that can be made from their signed archives, and what a reference to one means.

Pure: names, suites, keyrings, and the choice of sources. No archive's address is written here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pannier.base.errors import InvalidArgument, NotFound, Unsupported
from pannier.images import references
from pannier.images.aptsources import Source
from pannier.images.references import DEFAULT_DOMAIN, Reference

_POCKETS = ("", "-updates", "-security")


@dataclass(frozen=True, slots=True)
class Vendor:
    """A distribution.

    Args:
        name: the repository's name, ``debian``.
        releases: version -> code name.
        keyring: the archive's keys, on the host and inside the image.
        keyring_package: Debian's package that brings it.
        components: which parts of the archive.
    """

    name: str
    releases: dict[str, str]
    keyring: str
    keyring_package: str
    components: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """One release of a vendor, and whether an init belongs in it."""

    vendor: Vendor
    version: str
    codename: str
    suffix: str = ""

    def names(self) -> list[str]:
        """Both references of the image: by version and by code name."""
        return [f"{self.vendor.name}:{tag}{self.suffix}" for tag in (self.version, self.codename)]


DEBIAN = Vendor(
    "debian",
    {"11": "bullseye", "12": "bookworm", "13": "trixie"},
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "debian-archive-keyring",
    ("main",),
)
UBUNTU = Vendor(
    "ubuntu",
    {"22.04": "jammy", "24.04": "noble"},
    "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
    "ubuntu-keyring",
    ("main", "universe"),
)
VENDORS = (DEBIAN, UBUNTU)
# What a suite of Debian may also be called in a host's lists.
_MOVING = ("oldoldstable", "oldstable", "stable", "testing")
OS_SUFFIX = "-os"


def find_release(ref: str) -> Release:
    """The release that *ref* names, such as ``debian:12``, ``debian:bookworm``, ``debian:12-os``.

    Raises:
        InvalidArgument: not a reference.
        NotFound: not a release that is known here; says which are.
    """
    name = references.parse(ref)
    release = _match(name)
    if release is None:
        raise NotFound(
            f"no recipe to bootstrap {name.familiar}",
            hint="these can be made: " + ", ".join(_all_names()),
        )
    return release


def can_bootstrap(ref: str) -> bool:
    """Whether ``find_release`` knows *ref*."""
    try:
        return _match(references.parse(ref)) is not None
    except InvalidArgument:
        return False


def _match(name: Reference) -> Release | None:
    if name.domain != DEFAULT_DOMAIN or name.digest:
        return None
    suffix = OS_SUFFIX if name.tag.endswith(OS_SUFFIX) else ""
    tag = name.tag.removesuffix(OS_SUFFIX)
    for vendor in VENDORS:
        if name.familiar_name == vendor.name:
            for version, codename in vendor.releases.items():
                if tag in (version, codename):
                    return Release(vendor, version, codename, suffix)
    return None


def _all_names() -> list[str]:
    return [f"{vendor.name}:{version}" for vendor in VENDORS for version in vendor.releases]


def choose_sources(release: Release, host: Sequence[Source], mirror: str = "") -> list[Source]:
    """Where the packages of *release* come from: base suite first, then updates and security.

    Args:
        release: what is wanted.
        host: the host's own sources.
        mirror: an archive to use for the base suite in place of the host's.

    Raises:
        Unsupported: neither the host nor *mirror* names an archive.
    """
    found: dict[str, Source] = {}
    if mirror:
        found[""] = _source(release, mirror, "")
    for source in host:
        pocket = _pocket(release, source)
        # A mirror of one's own need not carry updates; what the host has stays right.
        if pocket is not None and not (mirror and pocket == "-updates"):
            found.setdefault(pocket, _source(release, source.uri, pocket))
    if "" not in found:
        raise Unsupported(
            f"this host's apt configuration names no archive of {release.vendor.name}",
            hint="give one: --mirror URL",
        )
    return [found[pocket] for pocket in _POCKETS if pocket in found]


def _source(release: Release, uri: str, pocket: str) -> Source:
    return Source(uri.rstrip("/"), release.codename + pocket, release.vendor.components)


def _pocket(release: Release, source: Source) -> str | None:
    """Which part of its archive *source* is; None if it is no archive of this vendor.

    A host of another release has the same archives: only the suite's name differs.
    """
    known = (*release.vendor.releases.values(), *(_MOVING if release.vendor is DEBIAN else ()))
    base, dash, pocket = source.suite.partition("-")
    if base in known and dash + pocket in _POCKETS and "main" in source.components:
        return dash + pocket
    return None
