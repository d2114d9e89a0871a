"""The original with its objects blurred: a possible output of an image whose cleaned version is not good enough."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inpaint_core.images.decode import Decoded
from inpaint_core.images.encode import Encoded, encode
from inpaint_core.images.names import without_names
from inpaint_core.removal.config import WriteConfig

CELLS = 6
"""Colours along the longer side of an object's box, at most, that are left of it. People tell a face from 16 and more pixels across
(Bachmann, "Identification of spatially quantised tachistoscopic images of faces", European Journal of Cognitive Psychology 3, 1991);
software that knows a person's face may need fewer."""

_SMALLEST_CELL = 4  # pixels


def blurred(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The image with each connected part of the mask blurred so far that `CELLS` by `CELLS` colours are left of it.

    The box of a part is reduced to cells of at least 4 pixels, whose colours are means, and enlarged again (bilinear). Nothing finer
    is left that a filter could bring back.

    Args:
        image: (H, W, 3) uint8, or (H, W, 4) with straight alpha, which is blurred too.
        mask: (H, W) bool.

    Returns:
        A new array, equal to the image outside the mask.
    """
    result = image.copy()
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    for label in range(1, count):
        left, top, width, height = (int(value) for value in stats[label, : cv2.CC_STAT_AREA])
        box = (slice(top, top + height), slice(left, left + width))
        longer = max(width, height)
        cells = min(CELLS, max(1, longer // _SMALLEST_CELL))
        size = (max(1, round(cells * width / longer)), max(1, round(cells * height / longer)))
        colours = cv2.resize(_premultiplied(image[box]), size, interpolation=cv2.INTER_AREA)
        smooth = np.asarray(cv2.resize(colours, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
        inside = labels[box] == label
        result[box][inside] = _straight(smooth)[inside]
    return result


def blurred_file(source: Decoded, mask: NDArray[np.bool_], options: WriteConfig) -> Encoded:
    """An image file with what the mask covers blurred, written as a cleaned version would be.

    Args:
        source: the decoded original.
        mask: (H, W) bool as displayed.
        options: of the job.

    Raises:
        ImageError: the encoder refuses the image.
    """
    if options.names == "drop":
        source, _ = without_names(source, mask)
    pixels = blurred(source.pixels if source.rgba is None else source.rgba, mask)
    return encode(source, pixels, mask, lossy_quality=options.quality)


def _premultiplied(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    values = image.astype(np.float32)
    if values.shape[2] == 4:
        values[..., :3] *= values[..., 3:] / 255
    return values


def _straight(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    if values.shape[2] == 4:
        values[..., :3] *= 255 / np.maximum(values[..., 3:], 1e-3)
    return np.asarray(np.rint(values.clip(0, 255)), np.uint8)
