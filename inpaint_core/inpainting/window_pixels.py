"""Windows of an image: how they are cropped and resized.

Nothing of a masked pixel survives `cut`: what was under the mask is replaced before anything is resized or padded (unless
`blanked` is false).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inpaint_core.inpainting.windows import Box, Mask

Image = NDArray[np.uint8]

NO_COLOUR = 128
"""Grey level of a window in which every pixel is masked."""

_LARGE_MASK = 2**23  # pixels: half the memory is worth that shares of less than 1 / 65536 are not seen
_PIXELS_AT_ONCE = 2**20  # of a window that are looked up: in between, each takes some 20 bytes


def cut(image: Image, mask: Mask, box: Box, *, blanked: bool = True) -> tuple[Image, Mask]:
    """The pixels of a box and their mask; what is masked is blanked (see `blank`), unless told otherwise.

    What lies beyond the image is its reflection, in the mask as well: a masked object at the edge is masked in both.

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W) bool, True = fill.
        box: the window; some of it lies in the image.
        blanked: whether masked pixels are blanked; they need not be for who does not look at them.

    Returns:
        (box.height, box.width, 3) uint8 and (box.height, box.width) bool; not copied where nothing is changed.
    """
    height, width = mask.shape
    inside = box.within(width, height)
    pixels, masked = image[inside.slices], mask[inside.slices]
    if blanked:
        pixels = blank(pixels, masked)
    before_and_after = (inside.y0 - box.y0, box.y1 - inside.y1, inside.x0 - box.x0, box.x1 - inside.x1)
    if not any(before_and_after):
        return pixels, masked
    masked_bytes = np.ascontiguousarray(masked).view(np.uint8)
    pixels = cv2.copyMakeBorder(pixels, *before_and_after, cv2.BORDER_REFLECT_101).astype(np.uint8, copy=False)
    return pixels, cv2.copyMakeBorder(masked_bytes, *before_and_after, cv2.BORDER_REFLECT_101).view(np.bool_)


def blank(image: Image, mask: Mask) -> Image:
    """A copy of an image in which every masked pixel has the colour of the nearest pixel that is not masked.

    Where all is masked there is none: the copy is grey (`NO_COLOUR`).

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W) bool, True = blanked.
    """
    result = np.ascontiguousarray(image).copy()
    height, width = mask.shape
    x, y, mask_width, mask_height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    if mask_width == 0:
        return result
    # The nearest pixel that is not masked is never farther than one pixel outside the box of the mask.
    near = Box(x, y, x + mask_width, y + mask_height).grown(1).within(width, height).slices
    masked, pixels = np.ascontiguousarray(mask[near]), result[near]
    if masked.all():
        pixels[:] = NO_COLOUR
        return result
    nearest = cv2.distanceTransformWithLabels(masked.view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[1]
    colours = np.empty((int(nearest.max()) + 1, 3), np.uint8)
    step = max(1, _PIXELS_AT_ONCE // masked.shape[1])
    strips = [slice(row, row + step) for row in range(0, len(masked), step)]
    for rows in strips:
        known = ~masked[rows]
        colours[nearest[rows][known]] = pixels[rows][known]
    for rows in strips:
        pixels[rows][masked[rows]] = colours[nearest[rows][masked[rows]]]
    return result


def resize(image: Image, width: int, height: int) -> Image:
    """An image (H, W, 3) uint8 at another size: pixel areas averaged where it shrinks, bicubic where it grows.

    An image that has the size already is given back itself, not a copy; so is a mask by `resize_mask`.
    """
    if image.shape[:2] == (height, width):
        return image
    shrinks = width <= image.shape[1] and height <= image.shape[0]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=interpolation).astype(np.uint8, copy=False)


def resize_mask(mask: Mask, width: int, height: int) -> Mask:
    """A mask (H, W) bool at another size: True wherever a masked pixel has any share in what `resize` makes of it.

    Bicubic weights of growing images reach one pixel further than this: images are blanked first (`cut`).
    """
    if mask.shape == (height, width):
        return mask
    shrinks = width <= mask.shape[1] and height <= mask.shape[0]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    values = mask.astype(np.float32) if mask.size < _LARGE_MASK else mask * np.uint16(65535)
    covered: Mask = cv2.resize(values, (width, height), interpolation=interpolation) > 0
    return covered


def resized_maps(maps: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Values (n, n) or (n, n, c) float32 at another size: areas averaged where it shrinks, linear where it grows."""
    if maps.shape[0] == side:
        return maps
    interpolation = cv2.INTER_AREA if side < maps.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(maps, (side, side), interpolation=interpolation), np.float32)
