"""Samples of 16 bits as 8 bits, and 8 bits of a fill as samples of 16 bits with the grain of what surrounds them.

A file of 16 bits often holds fewer: 10 to 14 bits of a camera or scanner, temperatures, counts of photons. Shown by its
upper 8 bits it would be black. Such an image is shown, and filled, by its own range.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inpaint_core.images.formats.surroundings import Surroundings, parts_of

UInt8 = NDArray[np.uint8]
UInt16 = NDArray[np.uint16]
Floats = NDArray[np.float32]
Range = tuple[int, int]
"""The samples that are shown as 0 and as 255; what lies beyond is shown as they are."""

WHOLE: Range = (0, 2**16 - 1)
# The image's own range is taken where it covers less than this of the whole one.
_WIDE_ENOUGH = 0.5
# Of the samples, so many may lie beyond either end of the range: hot pixels, burnt-in scales.
_BEYOND = 0.001
_COUNTED_AT_ONCE = 2**22

# Within so many pixels around a hole its surroundings' grain is measured.
_RING = 8
# The widths, in pixels, over which the levels of a smooth fill are smoothed into each other.
_WIDTHS = (5, 9, 25)
# Standard deviation of numbers that are equally distributed from -1 to 1.
_OF_NOISE = 3**-0.5
_SEED = 16
# How many pixels around a hole give values.
_LISTED = 2**20


def own_range(samples: UInt16, channels: int) -> Range:
    """The range by which samples (H, W, C) are shown, from their first `channels` channels.

    It is the whole one, as for any photograph, where the samples cover at least half of it. Otherwise it goes from the
    0.1th to the 99.9th percentile, the same for all channels.
    """
    counts = np.zeros(2**16, np.int64)
    rows = max(1, _COUNTED_AT_ONCE // max(1, samples[0].size))
    for top in range(0, len(samples), rows):
        counts += np.bincount(samples[top : top + rows, :, :channels].ravel(), minlength=2**16)
    below = counts.cumsum()
    beyond = int(below[-1] * _BEYOND)
    low, high = (int(np.searchsorted(below, count, "right")) for count in (beyond, int(below[-1]) - 1 - beyond))
    if high == low or high - low >= _WIDE_ENOUGH * WHOLE[1]:
        return WHOLE
    return low, high


def to_8_bits(samples: UInt16, shown: Range = WHOLE) -> UInt8:
    """Each sample of any shape as the nearest of the 256 levels of the range."""
    return _levels(shown)[samples]


def from_unit(colours: NDArray[np.float64], shown: Range) -> NDArray[np.float64]:
    """Colours in 0..1 of the range as samples, not rounded."""
    return shown[0] + colours * (shown[1] - shown[0])


def refine(painted: UInt16, mask: NDArray[np.bool_], shown: Range, channels: int) -> None:
    """Give a fill of 256 levels the depth of its surroundings, in place.

    Each sample under the mask is replaced by one that occurs in the surroundings and is shown by the same level. Which
    one: where the fill is smooth, the one at the place within the level that the smoothed fill has, plus noise in
    proportion to the surroundings' grain; where the fill has grain itself, any, drawn at random: grain of more than one
    level is equally distributed within a level. The generator's seed is fixed: the result depends on the arguments alone.

    Args:
        painted: (H, W, C), filled under the mask.
        mask: (H, W), True = filled.
        shown: the range by which it is shown.
        channels: how many channels, from the first, hold colour.
    """
    if shown[1] - shown[0] <= 255:
        return
    generator = np.random.default_rng(_SEED)
    for part in parts_of(mask):
        known = part.known(painted, mask, _LISTED).astype(np.uint16)
        if not len(known):
            continue
        for channel in range(channels):
            _refine_channel(painted[..., channel], mask, part, known[:, channel], shown, generator)


def _levels(shown: Range) -> UInt8:
    """(65536,) the level of every sample."""
    low, high = shown
    levels: UInt8 = np.clip(np.rint((np.arange(2**16) - low) * (255 / (high - low))), 0, 255).astype(np.uint8)
    return levels


def _refine_channel(
    painted: UInt16, mask: NDArray[np.bool_], part: Surroundings, known: UInt16, shown: Range, rng: np.random.Generator
) -> None:
    """`refine` for a channel (H, W) and a part of the mask; `known`: the values around."""
    step = (shown[1] - shown[0]) / 255
    levels = _levels(shown)
    box, inner = _enlarged(part, mask.shape)
    hole = np.zeros(mask[box].shape, np.bool_)
    hole[inner] = part.hole
    coarse = painted[box].astype(np.float32)
    filled = levels[painted[box][hole]]
    counts = np.bincount(known, minlength=2**16)
    below = np.concatenate([[0], counts.cumsum()])
    values = np.arange(2**16, dtype=np.uint16).repeat(counts)
    # In order, the values of a level lie side by side.
    bounds = below[np.searchsorted(levels, np.arange(257))]
    first, count = bounds[filled], np.diff(bounds)[filled]
    occurs = count > 0
    last = len(values) - 1
    # Of an even number of values the mean of the two in the middle.
    medians = sum(values[np.minimum(first + n // 2, last)] / 2 for n in (count, np.maximum(count - 1, 0)))
    coarse[hole] = np.where(occurs, medians, coarse[hole])
    middle = coarse[hole]
    grainy = np.abs(cv2.blur(coarse, (3, 3))[hole] - middle) > step
    wanted = np.clip(_smoothed(coarse, step)[hole], middle - step / 2, middle + step / 2)
    wanted = np.rint(np.clip(wanted, 0, WHOLE[1])).astype(np.intp)
    rank = (below[wanted] + below[wanted + 1]) / 2 - first
    place = np.clip(rank / np.maximum(count, 1), 0, 1)
    # Added numbers from -1 to 1, mirrored into 0..1, are equally distributed there whatever they are added to.
    amplitude = np.where(grainy, 1.0, min(1.0, _grain(coarse, hole, mask[box]) / (_OF_NOISE * step)))
    place = np.abs(place + amplitude * rng.uniform(-1, 1, len(place)))
    place = np.where(place > 1, 2 - place, place)
    drawn = values[np.minimum(first + np.minimum((place * count).astype(np.intp), np.maximum(count - 1, 0)), last)]
    painted[box][hole] = np.where(occurs, drawn, painted[box][hole])


def _enlarged(part: Surroundings, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The part's box with a margin as wide as what is looked at around a pixel, and where the box lies in it."""
    margin = max(_WIDTHS)
    box = (
        slice(max(0, part.box[0].start - margin), min(shape[0], part.box[0].stop + margin)),
        slice(max(0, part.box[1].start - margin), min(shape[1], part.box[1].stop + margin)),
    )
    rows, columns = (
        slice(own.start - large.start, own.stop - large.start) for own, large in zip(part.box, box, strict=True)
    )
    return box, (rows, columns)


def _smoothed(coarse: Floats, step: float) -> Floats:
    """The image with neighbouring levels smoothed into each other: wide on slopes, less on curves, not near edges."""
    smoothed = coarse
    for width in _WIDTHS:
        blurred = cv2.GaussianBlur(coarse, (width, width), 0)
        # The steps of a slope differ from it by half of one, and by one with fine noise.
        differs = (np.abs(blurred - coarse) > step).view(np.uint8)
        near = cv2.dilate(differs, np.ones((width, width), np.uint8)).view(np.bool_)
        smoothed = np.where(near, smoothed, blurred)
    return smoothed.astype(np.float32, copy=False)


def _grain(coarse: Floats, hole: NDArray[np.bool_], masked: NDArray[np.bool_]) -> float:
    """Standard deviation of the noise around the hole (Immerkaer, Fast noise variance estimation, 1996).

    By the median, so that it is the noise of the smoother surroundings; 0.6745: of the normal distribution.
    """
    ring = cv2.dilate(hole.view(np.uint8), np.ones((2 * _RING + 1,) * 2, np.uint8)).view(np.bool_)
    ring &= ~cv2.dilate(masked.astype(np.uint8), np.ones((3, 3), np.uint8)).view(np.bool_)
    if not ring.any():
        return 0.0
    differences = cv2.filter2D(coarse, cv2.CV_32F, np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32))
    return float(np.median(np.abs(differences[ring])) / 0.6745 / 6)
