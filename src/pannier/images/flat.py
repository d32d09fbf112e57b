"""An image of one layer from the files of a root file system (``docker import``)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from pannier.base.units import rfc3339
from pannier.images import references
from pannier.images.platform import host_platform
from pannier.images.store import Image, ImageStore
from pannier.oci import image as oci


async def import_tar(
    store: ImageStore,
    data: AsyncIterator[bytes],
    *,
    name: str = "",
    defaults: oci.ContainerDefaults | None = None,
    comment: str = "",
) -> Image:
    """Make a one-layer image of the files of a root file system.

    Args:
        data: a tar, compressed or not.
        name: reference, or "" for none.
        defaults: how to run it.
        comment: shown in the history.

    Raises:
        InvalidArgument: malformed archive or reference.
    """
    if name:
        references.parse(name)
    layer = await store.layers.unpack(data, canonical=True)
    host = host_platform()
    created = rfc3339(time.time_ns())
    config = oci.ImageConfig(
        architecture=host.architecture,
        os=host.os,
        variant=host.variant,
        created=created,
        config=defaults,
        rootfs=oci.RootFS([layer.diff_id]),
        history=[oci.History(created=created, comment=comment or "Imported from -")],
    )
    return store.create(config, [layer], [name] if name else [])
