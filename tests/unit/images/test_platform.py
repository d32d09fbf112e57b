"""Which images run here, and what is said about the others."""

from __future__ import annotations

import msgspec
import pytest

from pannier.base.errors import Unsupported
from pannier.images.platform import check_platform, choose, host_platform
from pannier.oci.image import Descriptor, ImageConfig, Platform, RootFS

_HOST = host_platform()
_AMD64 = Platform(os="linux", architecture="amd64")


def _entry(os: str, architecture: str, variant: str = "") -> Descriptor:
    platform = Platform(os=os, architecture=architecture, variant=variant)
    return Descriptor(
        media_type="m", digest=f"{os}/{architecture}/{variant}", size=1, platform=platform
    )


def test_the_hosts_own_images_run() -> None:
    config = ImageConfig(architecture=_HOST.architecture, os="linux", rootfs=RootFS([]))
    check_platform(config)


@pytest.mark.parametrize(("os", "architecture"), [("windows", "amd64"), ("linux", "s390x")])
def test_others_are_refused_and_it_says_why(os: str, architecture: str) -> None:
    config = ImageConfig(architecture=architecture, os=os, rootfs=RootFS([]))
    if architecture == _HOST.architecture and os == "linux":
        config = msgspec.structs.replace(config, architecture="amd64")
    with pytest.raises(Unsupported, match=rf"shares this host's kernel.*{os}/"):
        check_platform(config)


def test_the_index_entry_that_fits_best() -> None:
    entries = [_entry("windows", "amd64"), _entry("linux", "arm", "v6"), _entry("linux", "amd64")]
    assert choose(entries, _AMD64, "x").digest == "linux/amd64/"
    arm = [_entry("linux", "arm64"), _entry("linux", "arm64", "v8")]
    wanted = Platform(os="linux", architecture="arm64", variant="v8")
    assert choose(arm, wanted, "x").digest == "linux/arm64/v8"
    assert choose(arm[:1], wanted, "x").digest == "linux/arm64/"


def test_an_index_without_a_fit_lists_what_it_has() -> None:
    entries = [_entry("windows", "amd64"), _entry("unknown", "unknown"), _entry("linux", "arm64")]
    with pytest.raises(Unsupported, match=r"is for linux/arm64, windows/amd64$"):
        choose(entries, _AMD64, "x")
