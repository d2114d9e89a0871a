"""Names of removed people, removed from the regions in a file's metadata."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from inpaint_core.images.decode import Decoded
from inpaint_core.images.formats.format import FileWithXmp
from inpaint_core.images.formats.samples import to_stored
from inpaint_core.images.metadata.regions import without_regions


def without_names(source: Decoded, mask: NDArray[np.bool_]) -> tuple[Decoded, int]:
    """The source without the regions in its XMP that lie over removed pixels, nor the names of those regions.

    Args:
        source: the decoded source.
        mask: (H, W) bool as displayed, True = removed.

    Returns:
        The source to encode, and the number of regions that went.
    """
    if not isinstance(source.file, FileWithXmp):
        return source, 0
    stored, count = to_stored(mask, source.orientation), 0

    def edit(packets: tuple[bytes, ...]) -> tuple[bytes, ...]:
        nonlocal count
        packets, count = without_regions(packets, stored, source.orientation)
        return packets

    file = source.file.with_xmp(edit)
    return (replace(source, file=file), count) if count else (source, 0)
