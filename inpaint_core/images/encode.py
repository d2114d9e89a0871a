"""Pixels to bytes: the source file with other pixels under the mask, and nothing else changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inpaint_core.errors import ImageError, Stage
from inpaint_core.images.decode import CODEC_ERRORS, Decoded
from inpaint_core.images.formats.format import Written
from inpaint_core.images.formats.samples import to_stored, to_upright


@dataclass(frozen=True)
class Encoded:
    """A file written again."""

    data: bytes
    changed: NDArray[np.bool_]
    """(H, W) bool as displayed: the pixels that the format does not promise to keep: the mask, and in JPEG all that the
    blocks which it touches reach. Whether the others are kept is measured (`inpaint_core.removal.measure`)."""
    notes: tuple[str, ...] = ()
    """Remarks for the record."""


def encode(
    source: Decoded, pixels: NDArray[np.uint8], mask: NDArray[np.bool_], *, lossy_quality: int | None
) -> Encoded:
    """Write the source's file again with other pixels where the mask is True.

    Format, size, mode, orientation and metadata are the source's. In lossless formats every sample outside the mask
    is kept exactly, in JPEG every DCT block that the mask does not touch; other lossy formats are coded again. Previews and
    further copies of the old picture in the metadata are left out.

    Args:
        source: the decoded source.
        pixels: (H, W, 3) uint8 RGB as displayed, or (H, W, 4) RGBA, straight alpha, where the source has `rgba`: without
            alpha, the source's is kept. Values outside the mask are not read.
        mask: (H, W) bool as displayed, True = take the pixel from `pixels`.
        lossy_quality: 1 to 100, of lossy WebP, AVIF and HEIC; None: about the one that the file was coded with.

    Raises:
        ImageError: stage `encode`; shapes or types do not fit the source, or the encoder refuses the image.
    """
    shapes = [source.pixels.shape, *([] if source.rgba is None else [source.rgba.shape])]
    if pixels.shape not in shapes or pixels.dtype != np.uint8:
        raise ImageError(
            Stage.ENCODE,
            f"The pixels are {pixels.shape} {pixels.dtype}, and the image is {source.pixels.shape} uint8.",
        )
    if mask.shape != pixels.shape[:2] or mask.dtype != np.bool_:
        raise ImageError(
            Stage.ENCODE, f"The mask is {mask.shape} {mask.dtype}, and the image is {pixels.shape[:2]} bool."
        )
    try:
        written = source.file.write(
            to_stored(pixels, source.orientation), to_stored(mask, source.orientation), lossy_quality
        )
    except CODEC_ERRORS as error:
        raise ImageError(
            Stage.ENCODE,
            f"The {source.format} file cannot be written: {str(error).rstrip('.') or type(error).__name__}.",
        ) from error
    if not isinstance(written, Written):
        written = Written(written)
    changed = mask if written.changed is None else to_upright(written.changed, source.orientation)
    return Encoded(written.data, changed, written.notes)
