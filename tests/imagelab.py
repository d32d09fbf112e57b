"""Small archives and stores for tests of images."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from pannier.base.database import Database
from pannier.base.instance import Instance
from pannier.images.layers import Layer
from pannier.images.store import Image, ImageStore
from pannier.oci.image import ContainerDefaults, ImageConfig, RootFS


class Tar:
    """An archive made member by member, with names as they are given."""

    def __init__(self) -> None:
        self._out = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._out, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def file(self, name: str, data: bytes = b"x", mode: int = 0o644, **pax: str) -> Tar:
        return self._add(name, tarfile.REGTYPE, data=data, mode=mode, pax=pax)

    def directory(self, name: str, mode: int = 0o755, **pax: str) -> Tar:
        return self._add(name, tarfile.DIRTYPE, mode=mode, pax=pax)

    def symlink(self, name: str, target: str) -> Tar:
        return self._add(name, tarfile.SYMTYPE, link=target)

    def hardlink(self, name: str, target: str) -> Tar:
        return self._add(name, tarfile.LNKTYPE, link=target)

    def device(self, name: str, major: int, minor: int) -> Tar:
        return self._add(name, tarfile.CHRTYPE, device=(major, minor))

    def whiteout(self, name: str) -> Tar:
        parent, slash, base = name.rpartition("/")
        return self.file(f"{parent}{slash}.wh.{base}", b"")

    def opaque(self, directory: str) -> Tar:
        return self.file(f"{directory}/.wh..wh..opq", b"")

    def bytes(self) -> bytes:
        self._tar.close()
        return self._out.getvalue()

    def _add(
        self,
        name: str,
        kind: bytes,
        *,
        data: bytes = b"",
        mode: int = 0o644,
        link: str = "",
        device: tuple[int, int] = (0, 0),
        pax: dict[str, str] | None = None,
    ) -> Tar:
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.linkname, info.size = kind, mode, link, len(data)
        info.mtime = 1_700_000_000
        info.devmajor, info.devminor = device
        info.pax_headers = {key.replace("__", "."): value for key, value in (pax or {}).items()}
        self._tar.addfile(info, io.BytesIO(data))
        return self


async def pieces(data: bytes, size: int = 65536) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def collect(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in stream])


def new_store(instance: Instance) -> ImageStore:
    """A store of its own in the instance's directories."""
    return ImageStore(Database(instance.database), instance)


def image_of(store: ImageStore, layers: Sequence[Layer], *tags: str, **labels: str) -> Image:
    config = ImageConfig(
        architecture="amd64",
        os="linux",
        created="2026-01-02T03:04:05Z",
        config=ContainerDefaults(cmd=["true"], labels=labels or None),
        rootfs=RootFS([layer.diff_id for layer in layers]),
    )
    return store.create(config, layers, tags)


def leftovers(instance: Instance) -> list[Path]:
    """What a finished or failed change must not leave: scratch files and unknown layers."""
    return sorted((instance.tmp / "images").iterdir())
