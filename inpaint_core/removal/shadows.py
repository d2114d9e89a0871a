"""Shadows that removed objects cast on the ground, found without a network.

A shadow multiplies the light, so in logarithms of the samples it is a step of brightness with little change of colour. Of the
dark regions at the foot of an object those are taken that differ from the lit ground around them by such a step, clearly more
than either varies, and that outdoors are as blue as the ground or bluer, since only the sky lights them (Finlayson et al., "On
the Removal of Shadows from Images", TPAMI 2006). Everything doubtful is left in the photograph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Maps = NDArray[np.float32]

_LARGEST = 640  # longest side in pixels at which shadows are searched
_SMALLEST_OBJECT = 600  # pixels at that size
_REACHES = (0.35, 0.7, 1.3)  # how far a shadow is searched beside an object, in its longer sides
_FOOT = 0.3  # lowest part of an object, of its height, at which a shadow begins
_ABOVE = 0.45  # a shadow does not reach higher than this part of the object's height
_DARKER = (0.14, 1.8)  # step of log brightness
_SEPARATION = 2.1  # that step over the deviations in the shadow and around it: of smoothed brightness
_RAW_SEPARATION = 1.1  # and of the samples themselves
_REDDER = (-0.15, 0.2)  # change from shadow to ground of log red over green
_BLUER = (-0.27, -0.025)  # and of log blue over green
_GREY = 0.01  # mean of both, below which a photograph has no colours to compare
_AREA = (0.01, 1.3)  # of the shadow, in areas of the object
_TOUCHED = 0.1  # least part of the foot's outline that is in the shadow
_LEAVES = 0.06  # largest part of the outline at the end of the searched box: a larger dark thing
_LEAVES_IMAGE = 0.3  # and at the image's border
_LEAST = 20  # pixels of a shadow without its edge


class _Box(NamedTuple):
    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True, eq=False)
class _Scene:
    """A photograph at the size of the search.

    Args:
        log: (H, W, 3) float32, logarithms of the samples.
        mask: (H, W) bool, all removed objects.
        labels: (H, W) int32, number of the object of each pixel; 0 where there is none.
    """

    log: Maps
    mask: Mask
    labels: NDArray[np.int32]


def cast_shadows(image: Pixels, mask: Mask) -> Mask:
    """The shadows that objects cast beside them.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) bool, the objects grown: their edges are inside.

    Returns:
        (H, W) bool, the shadows with their soft edges, beside the mask; each touches the lower part of an object.
    """
    height, width = mask.shape
    scale = min(1.0, _LARGEST / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    hidden = cv2.resize(mask.view(np.uint8), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST) > 0
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(hidden.view(np.uint8), connectivity=8)
    scene = _Scene(np.log(small.astype(np.float32) + 12), hidden, np.asarray(labels, np.int32))
    found = np.zeros(hidden.shape, np.bool_)
    for number in range(1, count):
        _add_shadow(found, scene, number, boxes[number].tolist())
    if not found.any():
        return np.zeros_like(mask)
    enlarged = cv2.resize(found.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    soft_edge = 2 * round(2 / scale) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (soft_edge, soft_edge))
    return np.asarray(cv2.dilate(enlarged, disc).view(np.bool_) & ~mask)


def _add_shadow(found: Mask, scene: _Scene, number: int, box: list[int]) -> None:
    """Mark one object's shadow in `found`: the clearest one of the boxes in which it is searched."""
    height, width = scene.mask.shape
    left, top, across, down, area = box
    if area < _SMALLEST_OBJECT or top + down >= height - 2:
        return  # the foot of an object that the image cuts off is not in it
    best, clearest = None, 0.0
    for reach in _REACHES:
        beside = round(reach * max(across, down))
        around = _Box(
            max(0, top + down // 2),
            min(height, top + down + round(0.7 * beside) + 4),
            max(0, left - beside),
            min(width, left + across + beside),
        )
        region, clear = _in_box(scene, number, top, down, area, around)
        if region is not None and clear > clearest:
            best, clearest = (around, region), clear
    if best is not None:
        around, region = best
        found[around.top : around.bottom, around.left : around.right] |= region


def _in_box(scene: _Scene, number: int, top: int, down: int, area: int, box: _Box) -> tuple[Mask | None, float]:
    """The shadow of an object in a box, as a mask of the box, and how clearly it is one; None and 0 without."""
    nothing = None, 0.0
    part = slice(box.top, box.bottom), slice(box.left, box.right)
    hidden, own, log = scene.mask[part], scene.labels[part] == number, scene.log[part]
    side = float(np.sqrt(area))
    smooth = _smoothed(log, ~hidden, max(1.0, 0.015 * side))
    brightness = smooth.mean(axis=-1)
    rows = np.arange(box.top, box.bottom)[:, None]
    bottom = top + down
    foot = _dilated(own, 2 * (2 + int(0.03 * side)) + 1) & ~hidden & (rows >= bottom - _FOOT * down)
    ground = brightness[~hidden & (rows >= bottom - 0.25 * down)]
    if np.count_nonzero(foot) < 10 or len(ground) < 200:
        return nothing
    limit = _otsu(ground)
    dark = ~hidden & (brightness < limit) & (rows >= bottom - _ABOVE * down)
    seeds = foot & dark
    if np.count_nonzero(seeds) < _TOUCHED * np.count_nonzero(foot):
        return nothing
    _, regions = cv2.connectedComponents(dark.view(np.uint8), connectivity=4)
    region = np.isin(regions, np.unique(regions[seeds]))
    inside = _eroded(region)
    ring = _dilated(region, 2 * int(0.08 * side + 3) + 1) & ~_dilated(region, 5) & ~hidden & (brightness >= limit)
    if np.count_nonzero(inside) < _LEAST or np.count_nonzero(ring) < 50:
        return nothing
    if not _within(_AREA, np.count_nonzero(region) / area) or _leaves(region, scene.mask.shape, box):
        return nothing
    step = float(np.median(brightness[ring]) - np.median(brightness[inside]))
    clear = step / _deviations(brightness, ring, inside)
    raw = step / _deviations(log.mean(axis=-1), ring, inside)
    if not _within(_DARKER, step) or clear < _SEPARATION or raw < _RAW_SEPARATION:
        return nothing
    if not _same_colour(smooth, ring, inside):
        return nothing
    return region, clear


def _same_colour(smooth: Maps, ring: Mask, inside: Mask) -> bool:
    """Whether the colour changes as from ground to its shadow; of photographs in grey, always."""
    colour = np.stack([smooth[..., 0] - smooth[..., 1], smooth[..., 2] - smooth[..., 1]], axis=-1)
    if np.abs(colour).mean() < _GREY:
        return True
    red, blue = (np.median(colour[ring], axis=0) - np.median(colour[inside], axis=0)).tolist()
    return _within(_REDDER, red) and _within(_BLUER, blue)


def _leaves(region: Mask, shape: tuple[int, ...], box: _Box) -> bool:
    """Whether the region goes on beyond the box, or too much of it beyond the image."""
    outline = max(1, int(np.count_nonzero(region & ~_eroded(region))))
    ends = (
        (region[0], box.top == 0),
        (region[-1], box.bottom == shape[0]),
        (region[:, 0], box.left == 0),
        (region[:, -1], box.right == shape[1]),
    )
    beyond = {True: 0, False: 0}
    for end, at_border in ends:
        beyond[at_border] += int(np.count_nonzero(end))
    return beyond[False] >= _LEAVES * outline or beyond[True] >= _LEAVES_IMAGE * outline


def _smoothed(maps: Maps, known: Mask, sigma: float) -> Maps:
    """Maps (H, W, 3) under a Gaussian, of the known pixels only."""
    weight = known.astype(np.float32)
    total = cv2.GaussianBlur(maps * weight[..., None], (0, 0), sigma)
    return np.asarray(total / np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-3)[..., None], np.float32)


def _otsu(values: Maps) -> float:
    """The threshold that separates two classes best (Otsu, 1979)."""
    low, high = np.percentile(values, [1, 99])
    levels = np.clip((values - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(levels[None], 0, 255, cv2.THRESH_OTSU)
    return float(low + (high - low) * threshold / 255)


def _deviations(maps: Maps, ring: Mask, inside: Mask) -> float:
    return float(maps[ring].std() + maps[inside].std() + 1e-3)


def _within(bounds: tuple[float, float], value: float) -> bool:
    return bounds[0] <= value <= bounds[1]


def _dilated(mask: Mask, side: int) -> Mask:
    return np.asarray(cv2.dilate(mask.view(np.uint8), np.ones((side, side), np.uint8)).view(np.bool_))


def _eroded(mask: Mask) -> Mask:
    """Without its outline; the border of the array is no outline."""
    return np.asarray(cv2.erode(mask.view(np.uint8), np.ones((3, 3), np.uint8)).view(np.bool_))
