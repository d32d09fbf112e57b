"""Content by digest: ``blobs/sha256/<hex>``, as in an OCI image layout.

Holds layer archives exactly as a registry or file delivered them, because a compressed archive
cannot be made again with the same digest. Who refers to a blob is in the database, not here.
"""

from __future__ import annotations

import os
from pathlib import Path

from pannier.base.errors import InvalidArgument


class BlobStore:
    """Files named by the digest of their content.

    Args:
        root: the ``blobs`` directory.
    """

    def __init__(self, root: Path) -> None:
        self._root = root / "sha256"

    def path(self, digest: str) -> Path:
        """Where the blob is, or would be.

        Raises:
            InvalidArgument: no sha256 digest; nothing else is used as a file name.
        """
        algorithm, _, name = digest.partition(":")
        if algorithm != "sha256" or len(name) != 64 or not set(name) <= set("0123456789abcdef"):
            raise InvalidArgument(f"unsupported digest '{digest}'")
        return self._root / name

    def add(self, file: Path, digest: str) -> None:
        """Move *file* in, whose content has been checked against *digest*."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.rename(file, self.path(digest))

    def remove(self, digest: str) -> None:
        self.path(digest).unlink(missing_ok=True)

    def digests(self) -> list[str]:
        """All that is stored."""
        if not self._root.is_dir():
            return []
        return [f"sha256:{name}" for name in os.listdir(self._root)]
