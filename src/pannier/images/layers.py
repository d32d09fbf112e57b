"""Layers: immutable directories ``layers/<id>`` that images, build cache and containers share.

A layer is one overlay lower directory with unshifted owners, known by the digest of its archive;
the same digest is never stored twice. A layer goes when no image, build step or container needs it.
Mounting and what an image is do not belong here.

Its life: ``new_upper`` and ``adopt``, or ``unpack``, give a *pinned* layer, safe from ``collect``
until ``ImageStore.create`` takes it over or ``release`` gives it up. What a crash leaves behind is
in the scratch directory or has no row, and ``gc`` removes it at the next start.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pannier.base.database import Database
from pannier.base.errors import Internal, NotFound
from pannier.base.instance import Instance
from pannier.base.undo import AsyncUndoStack
from pannier.images import jobs
from pannier.images.blobs import BlobStore
from pannier.images.tree import hash_layer, open_directory, walk
from pannier.oci.image import MEDIA_OCI_LAYER, MEDIA_OCI_LAYER_GZIP, MEDIA_OCI_LAYER_ZSTD

_MEDIA = {
    "none": MEDIA_OCI_LAYER,
    "gzip": MEDIA_OCI_LAYER_GZIP,
    "zstd": MEDIA_OCI_LAYER_ZSTD,
    "xz": "",  # not known to registries: packed again when pushed
    "bzip2": "",
}
_SMALL_FILES = 100
_SMALL_SIZE = 1 << 20
_ID_BYTES = 8  # short, for mount(2) takes 4096 bytes for all lower directories together


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer.

    Args:
        id: the directory's name.
        diff_id: digest of the uncompressed archive; "" while it was not computed.
        size: bytes of its files.
        tar_size: bytes of the uncompressed archive.
        path: the directory.
        blob: digest of the archive as it was received, or "" if it can be made from the directory.
        media_type: of that blob.
    """

    id: str
    diff_id: str
    size: int
    tar_size: int
    path: Path
    blob: str = ""
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class Upper:
    """A private, writable directory pair for one overlay mount."""

    id: str
    upper: Path
    work: Path


@dataclass(frozen=True, slots=True)
class Exported:
    """A layer's archive as a file; ``temporary`` ones are the caller's to delete."""

    path: Path
    digest: str
    size: int
    media_type: str
    temporary: bool


class LayerStore:
    """All layers of one engine. To be used from the event loop's thread only."""

    def __init__(self, db: Database, instance: Instance) -> None:
        self._db = db
        self._root = instance.layers
        self._scratch = instance.tmp / "images"
        self._blobs = BlobStore(instance.blobs)
        self._pins: Counter[str] = Counter()
        self._holders: list[Callable[[], Iterable[str]]] = []
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)

    # -- reading

    def get(self, layer_id: str) -> Layer:
        """The layer of this id.

        Raises:
            NotFound: there is none.
        """
        row = self._db.one("SELECT * FROM layers WHERE id = ?", (layer_id,))
        if row is None:
            raise NotFound(f"No such layer: {layer_id}")
        return self._layer(row)

    def find(self, diff_id: str) -> Layer | None:
        """The layer with this content, if it is here; not pinned."""
        row = self._db.one("SELECT * FROM layers WHERE diff_id = ?", (diff_id,))
        return None if row is None else self._layer(row)

    def of_image(self, image_id: str) -> list[Layer]:
        """An image's layers, base first."""
        rows = self._db.query(
            "SELECT layers.* FROM image_layers JOIN layers ON layers.id = layer_id"
            " WHERE image_id = ? ORDER BY position",
            (image_id,),
        )
        return [self._layer(row) for row in rows]

    def lower_paths(self, layers: Sequence[Layer | str]) -> list[str]:
        """Directories for an overlay mount, uppermost first, from layers or ids, base first."""
        names = [layer if isinstance(layer, str) else layer.id for layer in layers]
        # A layer may stand in a stack twice; the upper one decides, and overlayfs refuses a second.
        return [str(self._root / name) for name in dict.fromkeys(reversed(names))]

    def total_size(self) -> int:
        """Bytes of all layers, each counted once."""
        row = self._db.one("SELECT coalesce(sum(size), 0) AS total FROM layers")
        return int(row["total"]) if row else 0

    async def changes(self, upper: Path | str, lowers: Sequence[str]) -> list[tuple[int, str]]:
        """What *upper* changes: (0 modified, 1 added, 2 deleted; path), as ``docker diff``.

        Args:
            upper: a container's upper directory; it may be in use.
            lowers: the layers below, uppermost first.
        """
        arguments = {"upper": str(upper), "lowers": list(lowers)}
        result = await jobs.run("changes", arguments)
        return [(kind, path) for kind, path in result["changes"]]

    # -- making

    def new_upper(self) -> Upper:
        """Empty directories for a temporary mount: ``adopt`` the upper, or ``discard`` both."""
        name = _new_id()
        base = self._scratch / name
        upper, work = base / "upper", base / "work"
        upper.mkdir(parents=True)
        work.mkdir()
        upper.chmod(0o755)  # becomes the mode of the container's root directory
        return Upper(name, upper, work)

    async def discard(self, upper: Upper | Path) -> None:
        """Delete what ``new_upper`` or ``copy_upper`` made."""
        directory = upper.upper if isinstance(upper, Upper) else upper
        await self._delete([directory.parent])

    async def copy_upper(self, upper: Path) -> Path:
        """A copy to ``adopt``, for an upper that stays in use (freeze its container meanwhile)."""
        copy = self.new_upper()
        async with AsyncUndoStack() as undo:
            undo.push(self.discard, copy)
            await jobs.run("copy", {"source": str(upper), "into": str(copy.upper)})
            undo.commit()
        return copy.upper

    async def adopt(self, upper: Path, *, hashed: bool = True) -> Layer:
        """Make *upper* a layer by renaming it; returns it pinned.

        Args:
            upper: an upper directory of this data directory that is mounted nowhere.
            hashed: compute the diff id now. An image needs it; a snapshot does not yet.

        Raises:
            Internal, KernelError: *upper* is unchanged then.
        """
        facts: dict[str, Any] = {"size": 0, "tar_size": 0}
        if hashed:
            facts = await _hash(upper)
        layer = self._insert(upper, facts)
        await self._clear(upper)
        return layer

    async def _clear(self, upper: Path) -> None:
        """What adopting left: the work directory of ours, or an upper whose content was known."""
        ours = upper.parent.parent == self._scratch
        if upper.exists():
            await self._delete([upper.parent if ours else upper])
        elif ours:
            shutil.rmtree(upper.parent)  # overlayfs leaves one empty directory in it

    async def hash(self, layer: Layer) -> Layer:
        """Give a layer that has none its diff id.

        Raises:
            Internal: another layer has this very content; use that one.
        """
        facts = await _hash(layer.path)
        try:
            self._db.execute(
                "UPDATE layers SET diff_id = ?, size = ?, tar_size = ? WHERE id = ?",
                (facts["diff_id"], facts["size"], facts["tar_size"], layer.id),
            )
        except sqlite3.IntegrityError as error:
            raise Internal(f"layer {layer.id} has the content of another layer") from error
        return self.get(layer.id)

    async def unpack(
        self,
        data: AsyncIterator[bytes] | Path,
        *,
        digest: str = "",
        diff_id: str = "",
        canonical: bool = False,
    ) -> Layer:
        """Make a layer from an archive (gzip, zstd, xz, bzip2 or plain); returns it pinned.

        Args:
            data: the bytes, or a file that holds them.
            digest: what the bytes must hash to; "" takes any.
            diff_id: what the uncompressed archive must hash to; "" takes any.
            canonical: give the layer the digest of the archive that this store would write, for
                files that nobody knows by a digest yet. Else the bytes are kept too, for they
                alone can be exported under the digest they have.

        Raises:
            InvalidArgument: malformed, cut off, unsafe, or another digest. Nothing is left behind.
        """
        base = self._scratch / _new_id()
        async with AsyncUndoStack() as undo:
            base.mkdir(mode=0o700)
            undo.push(self._delete, [base])
            arguments = {"into": str(base / "tree"), "digest": digest, "diff_id": diff_id}
            if not canonical:
                arguments["blob"] = str(base / "blob")
            facts = await _unpack(arguments, data)
            if canonical:
                facts |= await jobs.run("hash", {"path": str(base / "tree")})
            elif self.find(facts["diff_id"]) is None:
                self._blobs.add(base / "blob", facts["digest"])
                facts |= {"blob": facts["digest"], "media_type": _MEDIA[facts["compression"]]}
            return self._insert(base / "tree", facts)

    async def can_remake(self, layer: Layer) -> bool:
        """Whether the directory gives the layer's own archive again, bit by bit."""
        facts = await jobs.run("hash", {"path": str(layer.path)})
        return bool(facts["diff_id"] == layer.diff_id)

    def drop_blob(self, layer: Layer) -> Layer:
        """Forget the received archive of a layer that ``can_remake`` it."""
        self._db.execute(
            "UPDATE layers SET blob = NULL, media_type = NULL WHERE id = ?", (layer.id,)
        )
        self._blobs.remove(layer.blob)
        return self.get(layer.id)

    # -- giving

    def source(self, layer: Layer) -> dict[str, str]:
        """Where a worker finds the layer's archive: ``blob`` to decompress or ``path`` to pack."""
        if layer.blob:
            return {"blob": str(self._blobs.path(layer.blob)), "diff_id": layer.diff_id}
        return {"path": str(layer.path), "diff_id": layer.diff_id}

    def export(self, layer: Layer, compression: str = "none") -> AsyncIterator[bytes]:
        """The layer's archive in pieces; *compression* is none, gzip or zstd."""
        return jobs.stream("export", {**self.source(layer), "compression": compression})

    async def export_file(self, layer: Layer, compression: str = "gzip") -> Exported:
        """The layer's archive as a file: the received one where a registry would take it."""
        if layer.blob and layer.media_type:
            path = self._blobs.path(layer.blob)
            size = path.stat().st_size
            return Exported(path, layer.blob, size, layer.media_type, temporary=False)
        path = self._scratch / f"{_new_id()}.blob"
        arguments = {**self.source(layer), "compression": compression, "into": str(path)}
        try:
            facts = await jobs.run("export", arguments)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        media_type = _MEDIA[compression]
        return Exported(path, facts["digest"], facts["size"], media_type, temporary=True)

    # -- keeping and forgetting

    def add_holder(self, holder: Callable[[], Iterable[str]]) -> None:
        """Register who else needs layers (the engine: those of its containers), by id."""
        self._holders.append(holder)

    def pin(self, layers: Iterable[Layer]) -> None:
        """Keep *layers* until ``release``, for example while an image is made from them."""
        self._pins.update(layer.id for layer in layers)

    def release(self, layers: Iterable[Layer]) -> None:
        """Take back one pin of each; ``collect`` may remove them then."""
        for layer in layers:
            self._pins[layer.id] -= 1
            if self._pins[layer.id] <= 0:
                del self._pins[layer.id]

    async def collect(self) -> list[Layer]:
        """Remove the layers that nothing needs; returns them."""
        held = {name for holder in self._holders for name in holder()} | set(self._pins)
        rows = self._db.query(
            "SELECT * FROM layers WHERE id NOT IN (SELECT layer_id FROM image_layers)"
            " AND id NOT IN (SELECT layer_id FROM build_cache WHERE layer_id IS NOT NULL)"
        )
        doomed = [self._layer(row) for row in rows if row["id"] not in held]
        if not doomed:
            return []
        with self._db.transaction():
            for layer in doomed:
                self._db.execute("DELETE FROM layers WHERE id = ?", (layer.id,))
        for layer in doomed:
            if layer.blob:
                self._blobs.remove(layer.blob)
        await self._delete([layer.path for layer in doomed])
        return doomed

    async def gc(self) -> None:
        """At daemon start: remove what an earlier daemon left half-made, then ``collect``."""
        known = {row["id"] for row in self._db.query("SELECT id FROM layers")}
        orphans = [self._root / name for name in os.listdir(self._root) if name not in known]
        await self._delete([*orphans, *self._scratch.iterdir()])
        kept = {row["blob"] for row in self._db.query("SELECT blob FROM layers")}
        for digest in self._blobs.digests():
            if digest not in kept:
                self._blobs.remove(digest)
        await self.collect()

    def _insert(self, tree: Path, facts: dict[str, Any]) -> Layer:
        """Rename *tree* into place and write the row; an equal layer that is here wins."""
        diff_id = facts.get("diff_id")
        existing = self.find(diff_id) if diff_id else None
        if existing is not None:
            self._pins[existing.id] += 1
            return existing
        name = _new_id()
        path = self._root / name
        os.rename(tree, path)
        self._db.execute(
            "INSERT INTO layers (id, diff_id, size, tar_size, blob, media_type, created_ns)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                name,
                diff_id,
                facts["size"],
                facts["tar_size"],
                facts.get("blob"),
                facts.get("media_type"),
                time.time_ns(),
            ),
        )
        self._pins[name] += 1
        return self.get(name)

    async def _delete(self, paths: Sequence[Path]) -> None:
        """Move out of sight at once, delete in a worker."""
        trash = []
        for path in paths:
            target = self._scratch / f"trash-{_new_id()}"
            try:
                os.rename(path, target)
            except FileNotFoundError:
                continue
            trash.append(str(target))
        if trash:
            await jobs.run("remove", {"paths": trash})

    def _layer(self, row: sqlite3.Row) -> Layer:
        return Layer(
            id=row["id"],
            diff_id=row["diff_id"] or "",
            size=row["size"],
            tar_size=row["tar_size"],
            path=self._root / row["id"],
            blob=row["blob"] or "",
            media_type=row["media_type"] or "",
        )


async def _hash(upper: Path) -> dict[str, Any]:
    """A worker takes 100 ms to start: what a build step wrote is often done long before."""
    arguments = {"path": str(upper), "strip": True}
    if await asyncio.to_thread(_is_small, str(upper)):
        return await asyncio.to_thread(hash_layer, arguments)
    return await jobs.run("hash", arguments)


def _is_small(root: str) -> bool:
    files, size = 0, 0
    with open_directory(root) as fd:
        for node in walk(fd):
            files, size = files + 1, size + node.status.st_size
            if files > _SMALL_FILES or size > _SMALL_SIZE:
                return False
    return True


async def _unpack(arguments: dict[str, Any], data: AsyncIterator[bytes] | Path) -> jobs.Result:
    if isinstance(data, Path):
        return await jobs.run("unpack", {**arguments, "source": str(data)})
    return await jobs.run("unpack", arguments, data=data)


def has_changes(upper: Path) -> bool:
    """Whether anything was written to an upper directory."""
    with os.scandir(upper) as entries:
        return next(entries, None) is not None


def _new_id() -> str:
    return os.urandom(_ID_BYTES).hex()
