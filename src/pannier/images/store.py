"""Images: a config, an ordered list of layers, and names that point to it.

An image's id is the digest of its config, so equal images are one. What removing one means is in
``removal``, how images are shown in ``summaries``; files are the layer store's.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

from pannier.base.database import Database
from pannier.base.errors import Conflict, InvalidArgument, NotFound
from pannier.base.ids import short
from pannier.base.instance import Instance
from pannier.base.units import parse_time
from pannier.images import references
from pannier.images.layers import Layer, LayerStore
from pannier.images.references import Reference
from pannier.oci.image import ImageConfig, decode, digest_of, encode

_HEX = re.compile(r"[0-9a-f]{1,64}")


@dataclass(frozen=True, slots=True)
class Image:
    """One image.

    Args:
        id: ``sha256:...`` of the config document.
        config: that document.
        layers: base first.
        tags: full references with a tag, ``docker.io/library/debian:12``.
        digests: full references with a digest, where the image came from.
        created_ns: when it was made, by its config.
        stored_ns: when it came into this store.
        size: bytes of its layers.
    """

    id: str
    config: ImageConfig
    layers: tuple[Layer, ...]
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    created_ns: int
    stored_ns: int

    @property
    def size(self) -> int:
        return sum(layer.size for layer in self.layers)

    @property
    def labels(self) -> dict[str, str]:
        return self.config.defaults.labels or {}

    @property
    def dangling(self) -> bool:
        return not self.tags


class ImageStore:
    """All images of one engine. To be used from the event loop's thread only.

    Attributes:
        layers: the layer store beneath.
    """

    def __init__(self, db: Database, instance: Instance, layers: LayerStore | None = None) -> None:
        self._db = db
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.layers = layers or LayerStore(db, instance)

    # -- reading

    def get(self, ref: str) -> Image:
        """Find an image by name, digest, id, or the start of its id, in this order.

        Raises:
            NotFound: ``No such image: <ref>``, which docker-py looks for.
            InvalidArgument: several ids start like this.
        """
        image_id = self._resolve(ref)
        if image_id is None:
            raise NotFound(f"No such image: {_with_tag(ref)}")
        return self._load(image_id)

    def find(self, ref: str) -> Image | None:
        """As ``get``, None if there is none."""
        image_id = self._resolve(ref)
        return None if image_id is None else self._load(image_id)

    def list(self) -> list[Image]:
        """All images, newest first."""
        rows = self._db.query("SELECT id FROM images")
        images = [self._load(row["id"]) for row in rows]
        return sorted(images, key=lambda image: (-image.created_ns, image.id))

    def raw_config(self, image: Image) -> bytes:
        """The config document exactly as it came."""
        row = self._db.one("SELECT config FROM images WHERE id = ?", (image.id,))
        if row is None:
            raise NotFound(f"No such image: {image.id}")
        return bytes(row["config"])

    def users_of(self, layer: Layer) -> int:
        """How many images contain *layer*."""
        row = self._db.one("SELECT count(*) AS n FROM image_layers WHERE layer_id = ?", (layer.id,))
        return int(row["n"]) if row else 0

    # -- changing

    def lock(self, name: str) -> asyncio.Lock:
        """Held while the image *name* is fetched or made, so that two requests do it once."""
        lock = self._locks.get(name)
        if lock is None:
            lock = self._locks[name] = asyncio.Lock()
        return lock

    def create(
        self,
        config: ImageConfig | bytes,
        layers: Sequence[Layer],
        tags: Iterable[str] = (),
    ) -> Image:
        """Store an image and name it; takes over one pin of each layer.

        Args:
            config: the document; bytes are kept as they are, so that the id stays.
            layers: base first; their diff ids must be those of the config.
            tags: references; a name that exists moves to this image.

        Raises:
            InvalidArgument: a bad reference, or layers that don't belong to the config.
        """
        raw = config if isinstance(config, bytes) else encode(config)
        document = decode(raw, ImageConfig, "image config")
        if [layer.diff_id for layer in layers] != document.rootfs.diff_ids:
            raise InvalidArgument("invalid image: the layers are not those that the config names")
        names = [references.parse(tag) for tag in tags]
        image_id = digest_of(raw)
        with self._db.transaction():
            self._insert(image_id, raw, layers)
            for name in names:
                self._point(name, image_id)
        self.layers.release(layers)
        return self._load(image_id)

    def tag(self, image: Image | str, ref: str) -> Image:
        """Let the name *ref* point to *image* (an image or a reference to one).

        Raises:
            NotFound: no such image.
            InvalidArgument: *ref* is no name with a tag.
        """
        found = self.get(image) if isinstance(image, str) else image
        name = references.parse(ref)
        if name.digest:
            raise InvalidArgument("refusing to create a tag with a digest reference")
        self._point(name, found.id)
        return self._load(found.id)

    def note_digest(self, image: Image, ref: Reference, digest: str) -> Image:
        """Remember under which digest a registry has *image*."""
        self._point(ref.with_digest(digest), image.id)
        return self._load(image.id)

    def untag(self, ref: str) -> bool:
        """Take the name *ref* (in full) away; False if there is no such name."""
        return self._db.execute("DELETE FROM tags WHERE reference = ?", (ref,)) > 0

    def delete(self, image: Image) -> None:
        """Forget the image and all its names; its layers stay until they are collected."""
        self._db.execute("DELETE FROM images WHERE id = ?", (image.id,))

    # -- details

    def _insert(self, image_id: str, raw: bytes, layers: Sequence[Layer]) -> None:
        added = self._db.execute(
            "INSERT OR IGNORE INTO images (id, config, created_ns) VALUES (?, ?, ?)",
            (image_id, raw, time.time_ns()),
        )
        if added <= 0:
            return
        for position, layer in enumerate(layers):
            try:
                self._db.execute(
                    "INSERT INTO image_layers (image_id, position, layer_id) VALUES (?, ?, ?)",
                    (image_id, position, layer.id),
                )
            except sqlite3.IntegrityError as error:
                raise Conflict(f"layer {layer.id} was removed meanwhile") from error

    def _point(self, name: Reference, image_id: str) -> None:
        self._db.execute(
            "INSERT INTO tags (reference, image_id) VALUES (?, ?)"
            " ON CONFLICT (reference) DO UPDATE SET image_id = excluded.image_id",
            (str(name), image_id),
        )

    def _resolve(self, ref: str) -> str | None:
        if references.is_id(ref):
            return self._by_prefix(ref)
        try:
            name = references.parse(ref)
        except InvalidArgument:
            return self._by_prefix(ref)
        wanted = name.with_digest(name.digest) if name.digest else name
        row = self._db.one("SELECT image_id FROM tags WHERE reference = ?", (str(wanted),))
        if row is not None:
            return str(row["image_id"])
        return self._by_prefix(ref)

    def _by_prefix(self, ref: str) -> str | None:
        digits = ref.removeprefix("sha256:")
        if not _HEX.fullmatch(digits):
            return None
        rows = self._db.query(
            "SELECT id FROM images WHERE id >= ? AND id < ? LIMIT 2",
            (f"sha256:{digits}", f"sha256:{digits}g"),
        )
        if len(rows) > 1:
            raise InvalidArgument(f"ambiguous image id: '{ref}'", hint="give more of its digits")
        return rows[0]["id"] if rows else None

    def _load(self, image_id: str) -> Image:
        row = self._db.one("SELECT * FROM images WHERE id = ?", (image_id,))
        if row is None:
            raise NotFound(f"No such image: {short(image_id)}")
        names = self._db.query(
            "SELECT reference FROM tags WHERE image_id = ? ORDER BY reference", (image_id,)
        )
        config = decode(row["config"], ImageConfig, f"config of image {short(image_id)}")
        return Image(
            id=image_id,
            config=config,
            layers=tuple(self.layers.of_image(image_id)),
            tags=tuple(n["reference"] for n in names if "@" not in n["reference"]),
            digests=tuple(n["reference"] for n in names if "@" in n["reference"]),
            created_ns=created_ns(config.created),
            stored_ns=row["created_ns"],
        )


def created_ns(text: str | None) -> int:
    """A document's time as nanoseconds since the epoch; 0 if it has none that can be read."""
    try:
        return parse_time(text) if text else 0
    except InvalidArgument:
        return 0


def _with_tag(ref: str) -> str:
    """As Docker says it: ``No such image: debian:latest``."""
    try:
        return ref if references.is_id(ref) else references.parse(ref).familiar
    except InvalidArgument:
        return ref
