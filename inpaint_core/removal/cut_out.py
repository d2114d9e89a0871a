"""Removal from images with transparency: what of a cut-out object lies outside its mask, and how it is measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from inpaint_core.detection.detector import DescribingDetector, Detection, Detector, Features
from inpaint_core.detection.ensemble import merged
from inpaint_core.images.decode import Decoded
from inpaint_core.images.distances import distance_map
from inpaint_core.images.transparency import BLACK, WHITE, backgrounds, over
from inpaint_core.inpainting.inpainter import Hole
from inpaint_core.inpainting.transparency import fill_alpha, transparent_hole
from inpaint_core.removal.measure import outside_max_diff, seam
from inpaint_core.removal.object_mask import UNCERTAIN_REACH, ObjectMask

Found = TypeVar("Found")


def over_backgrounds(image: Decoded) -> list[NDArray[np.uint8]]:
    """The views of an image that a detector gets: the image itself, or, where it is not opaque, the image over each of its `backgrounds`.

    Each is (H, W, 3) uint8.
    """
    if image.rgba is None:
        return [image.pixels]
    return [image.pixels if level == WHITE else over(image.rgba, level) for level in backgrounds(image.rgba)]


def detected(
    detector: Detector, images: Sequence[Sequence[NDArray[np.uint8]]], keys: Sequence[str]
) -> list[list[Detection]]:
    """The objects of several images, in one pass over their views: each once, with all pixels that some view shows.

    Args:
        detector: finds them.
        images: the views of each image.
        keys: the key of each image.

    Raises:
        ImageError: see `Detector.detect`.
    """
    found = detector.detect(*_views_and_keys(images, keys))
    return [_united(own) for own in _of_each(images, found)]


def described(
    detector: DescribingDetector, images: Sequence[Sequence[NDArray[np.uint8]]], keys: Sequence[str]
) -> list[tuple[list[Detection], Features]]:
    """As `detected`, and the features of the first view of each image."""
    found = detector.detect_and_describe(*_views_and_keys(images, keys))
    return [(_united([objects for objects, _ in own]), own[0][1]) for own in _of_each(images, found)]


def _views_and_keys(
    images: Sequence[Sequence[NDArray[np.uint8]]], keys: Sequence[str]
) -> tuple[list[NDArray[np.uint8]], list[str]]:
    """The views of all images as images of their own, each with the key of its image."""
    pairs = [(view, key) for shown, key in zip(images, keys, strict=True) for view in shown]
    return [view for view, _ in pairs], [key for _, key in pairs]


def _of_each(images: Sequence[Sequence[NDArray[np.uint8]]], found: Sequence[Found]) -> list[list[Found]]:
    """What was found in all views, in a list for each image."""
    results = iter(found)
    return [[next(results) for _ in shown] for shown in images]


def _united(found: Sequence[Sequence[Detection]]) -> list[Detection]:
    if len(found) == 1:
        return list(found[0])
    return merged(found, {detection.label for one in found for detection in one})


def with_remains(target: ObjectMask, alpha: NDArray[np.uint8]) -> ObjectMask:
    """The mask together with what it would leave of cut-out objects: hair, an outline, a soft edge.

    Masks of a detector are some pixels off. In a photograph a rest of that size is part of the surroundings; in a cut-out it
    would stand alone. Let the reach be 0.15 sqrt(A), where A is the area of the largest object. A connected group
    (8-connectivity) of visible pixels outside the mask is a rest if it touches visible pixels in the mask and has no pixel
    beyond the reach whose alpha is half the median alpha of those or more. What goes on there is kept: it may be something
    else. Of a rest, pixels up to twice the reach away are masked too: those beyond it are a soft edge, a glow or a shadow.

    Args:
        target: the mask of the objects.
        alpha: (H, W) uint8.
    """
    if not target.kept:
        return target
    height, width = alpha.shape
    reach = math.ceil(UNCERTAIN_REACH * math.sqrt(max(found.pixels for found in target.kept)))
    margin = 2 * reach + 1
    x, y, mask_width, mask_height = cv2.boundingRect(target.mask.view(np.uint8))
    rows = slice(max(y - margin, 0), min(y + mask_height + margin, height))
    columns = slice(max(x - margin, 0), min(x + mask_width + margin, width))
    mask, near = target.mask[rows, columns], alpha[rows, columns]
    visible = near > 0
    seen = visible & mask
    count, labels = cv2.connectedComponents((visible & ~mask).view(np.uint8), connectivity=8)
    if count == 1 or not seen.any():  # the background counts
        return target
    distance = distance_map((~mask).view(np.uint8))
    beside = cv2.dilate(seen.view(np.uint8), np.ones((3, 3), np.uint8)) > 0
    is_rest = np.zeros(count, np.bool_)
    is_rest[labels[beside]] = True
    is_rest[labels[(distance > reach) & (near >= 0.5 * np.median(near[seen]))]] = False
    is_rest[0] = False
    grown = target.mask.copy()
    grown[rows, columns] |= is_rest[labels] & (distance <= 2 * reach)
    return replace(target, mask=grown)


def hole_and_alpha(
    image: Decoded, core: NDArray[np.bool_], mask: NDArray[np.bool_]
) -> tuple[Hole, NDArray[np.uint8] | None]:
    """What the inpainter is to fill of an image, and the (H, W) uint8 alpha of the result; None: opaque."""
    if image.rgba is None:
        return Hole(image.pixels, core, mask), None
    alpha = fill_alpha(image.rgba[..., 3], mask)
    return transparent_hole(image.rgba, alpha, core, mask), alpha


def outside_difference(before: Decoded, after: Decoded, mask: NDArray[np.bool_]) -> int:
    """`measure.outside_max_diff`, over white and over black, and of alpha."""
    differences = [outside_max_diff(before.pixels, after.pixels, mask)]
    if before.rgba is not None or after.rgba is not None:
        old, new = _rgba(before), _rgba(after)
        differences.append(outside_max_diff(over(old, BLACK), over(new, BLACK), mask))
        old_alpha, new_alpha = (np.repeat(one[..., 3:], 3, axis=-1) for one in (old, new))
        differences.append(outside_max_diff(old_alpha, new_alpha, mask))
    return max(differences)


def visible_seam(image: Decoded, mask: NDArray[np.bool_]) -> float | None:
    """`measure.seam`, over white or over black, whichever shows it more."""
    seams = [seam(image.pixels, mask)]
    if image.rgba is not None:
        seams.append(seam(over(image.rgba, BLACK), mask))
    return max((value for value in seams if value is not None), default=None)


def _rgba(image: Decoded) -> NDArray[np.uint8]:
    if image.rgba is not None:
        return image.rgba
    return np.concatenate([image.pixels, np.full((*image.pixels.shape[:2], 1), 255, np.uint8)], axis=-1)
