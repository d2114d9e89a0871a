"""From the objects of an image to the mask of pixels that are filled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inpaint_core.detection.detector import Detection, Region
from inpaint_core.images.distances import within
from inpaint_core.removal.config import MaskConfig
from inpaint_core.removal.shadows import cast_shadows

# A hole of the mask is filled up to this part of the largest grown object's area: what shows between an arm and the body,
# or between a person and a bus, is too small to be worth keeping, and its edge, tinted by the objects, would stay as a
# ghost. A larger one is background.
HOLE_FRACTION = 0.05

# Pixels that may belong to an object count no farther from it than this, as a fraction of the square root of its area.
UNCERTAIN_REACH = 0.15

CORE_COLOUR = (230, 30, 60)
RING_COLOUR = (255, 200, 0)
CONTOUR_COLOUR = (255, 255, 255)


@dataclass(frozen=True)
class ObjectMask:
    """What is removed from one image.

    Args:
        core: (H, W) bool, the objects themselves, and their shadows where asked for.
        mask: (H, W) bool, the objects grown: the pixels that are filled. Contains `core`.
        kept: the objects that `core` is made of.
        note: what a reader of the record should know; None when there is nothing to say.
    """

    core: NDArray[np.bool_]
    mask: NDArray[np.bool_]
    kept: list[Detection]
    note: str | None


def object_mask(
    detections: Sequence[Detection],
    shape: tuple[int, int],
    options: MaskConfig,
    image: NDArray[np.uint8] | None = None,
) -> ObjectMask:
    """The union of the objects, each with its uncertain pixels, grown by an amount that follows from its size.

    Of the pixels that may belong to an object of A pixels (`Detection.uncertain`) those are taken that lie no farther from it
    than 0.15 sqrt(A). With them it is grown by a disc of radius `grow * sqrt(A)`, not less than `grow_min` and not more than
    `grow_max` pixels. Then holes of the union are filled that are enclosed by it and not larger than 5 % of the
    largest grown object. Objects that are too small are left out, and if the mask would cover too much of the image,
    everything is; the note says so.

    Args:
        detections: the objects; their masks lie inside the image.
        shape: (H, W) of the image.
        options: see the config.
        image: (H, W, 3) uint8 RGB, in which the objects' shadows are searched if `options.shadows` asks for them; they
            belong to core and mask. None: no shadows.
    """
    kept = [detection for detection in detections if detection.pixels >= options.min_object_pixels]
    notes = []
    if ignored := len(detections) - len(kept):
        notes.append(f"{ignored} object{'s' * (ignored > 1)} smaller than {options.min_object_pixels} pixels ignored")
    core = np.zeros(shape, dtype=np.bool_)
    mask = np.zeros(shape, dtype=np.bool_)
    largest = 0
    for detection in kept:
        height, width = detection.mask.shape
        core[detection.top : detection.top + height, detection.left : detection.left + width] |= detection.mask
        radius = min(max(options.grow * math.sqrt(detection.pixels), options.grow_min), options.grow_max)
        grown, top, left = _grow(detection, radius, shape)
        mask[top : top + grown.shape[0], left : left + grown.shape[1]] |= grown
        largest = max(largest, int(np.count_nonzero(grown)))
    if kept:
        _fill_holes(mask, HOLE_FRACTION * largest)
    if kept and options.shadows and image is not None:
        shadows = cast_shadows(image, mask)
        if shadows.any():
            core |= shadows
            mask |= shadows
            notes.append("shadows on the ground are part of the mask")
    fraction = np.count_nonzero(mask) / mask.size
    if fraction > options.max_mask_fraction:
        notes.append(
            f"mask would cover {100 * fraction:.3g} % of the image, "
            f"more than max_mask_fraction ({100 * options.max_mask_fraction:.3g} %)"
        )
        core, mask, kept = np.zeros_like(core), np.zeros_like(mask), []
    return ObjectMask(core, mask, kept, "; ".join(notes) or None)


def overlay(image: NDArray[np.uint8], core: NDArray[np.bool_], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A picture to check a mask by: objects tinted red, the grown ring yellow, a white line around both.

    Args:
        image: (H, W, 3) uint8 RGB.
        core: (H, W) bool.
        mask: (H, W) bool.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    picture = image.copy()
    for region, colour in ((core, CORE_COLOUR), (mask & ~core, RING_COLOUR)):
        picture[region] = (image[region].astype(np.uint16) + np.array(colour, dtype=np.uint16)) // 2
    # Wide enough to be seen when the whole picture is shown on a screen.
    thickness = max(1, round(max(mask.shape) / 600))
    square = np.ones((2 * thickness + 1, 2 * thickness + 1), dtype=np.uint8)
    outline = mask & (cv2.erode(mask.astype(np.uint8), square) == 0)
    picture[outline] = CONTOUR_COLOUR
    return picture


def _grow(detection: Detection, radius: float, shape: tuple[int, int]) -> tuple[NDArray[np.bool_], int, int]:
    """All pixels within `radius` of the object and its uncertain pixels, cut at the image's borders, and where they lie in
    the image."""
    near = UNCERTAIN_REACH * math.sqrt(detection.pixels) if detection.uncertain is not None else 0.0
    reach = math.ceil(radius + near)
    height, width = detection.mask.shape
    top, left = max(detection.top - reach, 0), max(detection.left - reach, 0)
    bottom = min(detection.top + height + reach, shape[0])
    right = min(detection.left + width + reach, shape[1])
    elsewhere = np.ones((bottom - top, right - left), dtype=np.uint8)
    rows, columns = detection.top - top, detection.left - left
    elsewhere[rows : rows + height, columns : columns + width] = ~detection.mask
    if detection.uncertain is not None:
        maybe = _cut(detection.uncertain, top, left, elsewhere.shape)
        elsewhere[maybe & within(elsewhere, near)] = 0
    return within(elsewhere, radius), top, left


def _cut(region: Region, top: int, left: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A region as a mask of a box of the image."""
    result = np.zeros(shape, dtype=np.bool_)
    down, across = region.top - top, region.left - left
    part = region.mask[max(-down, 0) :, max(-across, 0) :]
    target = result[max(down, 0) :, max(across, 0) :]
    rows, columns = min(part.shape[0], target.shape[0]), min(part.shape[1], target.shape[1])
    target[:rows, :columns] = part[:rows, :columns]
    return result


def _fill_holes(mask: NDArray[np.bool_], largest: float) -> None:
    """Fill, in place, the holes of at most `largest` pixels; what opens to the image's border is no hole."""
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    part = mask[top : top + height, left : left + width]
    outside = cv2.copyMakeBorder((~part).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(outside, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] <= largest
    small[0] = False  # the mask itself
    small[labels[0, 0]] = False  # all around
    part |= small[labels[1:-1, 1:-1]]
