"""Distances to the nearest pixel of a region, for large images too: as float32, a map takes four times a mask's memory.

The maps are made some rows at a time, with as many rows more on both sides as a distance can matter; the results are those of
one map of everything: square roots of whole numbers, correctly rounded, up to 4,096 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

_PIXELS_AT_ONCE = 2**22
_HALO = 256  # rows


def within(elsewhere: NDArray[np.uint8], radius: float) -> NDArray[np.bool_]:
    """The pixels not farther than `radius` from the nearest that is 0.

    Args:
        elsewhere: (H, W) uint8.
        radius: in pixels.

    Returns:
        (H, W) bool.
    """
    near = np.empty(elsewhere.shape, np.bool_)
    for rows, around, inner in strips(elsewhere.shape, math.ceil(radius) + 1):
        near[rows] = distance_map(elsewhere[around])[inner] <= radius
    return near


def distances_at(
    elsewhere: NDArray[np.uint8], chosen: NDArray[np.bool_], up_to: float = math.inf
) -> NDArray[np.float32]:
    """Distances of the chosen pixels to the nearest that is 0, in pixels, row by row.

    Args:
        elsewhere: (H, W) uint8; some pixel is 0.
        chosen: (H, W) bool.
        up_to: in pixels; what is farther may be given as any distance above it. Saves time where it is small.
    """
    distances = np.empty(np.count_nonzero(chosen), np.float32)
    done = 0
    for rows, around, inner in strips(elsewhere.shape, _HALO):
        count = int(np.count_nonzero(chosen[rows]))
        if not count:
            continue
        part = distance_map(elsewhere[around])[inner][chosen[rows]]
        halo = _HALO
        # The nearest may lie beyond the rows that were looked at.
        while halo <= up_to and part.max() > halo and around.stop - around.start < len(elsewhere):
            halo *= 2
            around, inner = _around(rows, halo, len(elsewhere))
            part = distance_map(elsewhere[around])[inner][chosen[rows]]
        distances[done : done + count] = part
        done += count
    return distances


def strips(shape: tuple[int, ...], halo: int) -> Iterator[tuple[slice, slice, slice]]:
    """The rows of a map (H, W), some at a time.

    Args:
        shape: of the map.
        halo: rows above and below that are looked at too.

    Yields:
        Some rows, the same with the halo, and where they are in that.
    """
    height, width = shape
    step = max(2 * halo, _PIXELS_AT_ONCE // max(width, 1))
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        yield rows, *_around(rows, halo, height)


def _around(rows: slice, halo: int, height: int) -> tuple[slice, slice]:
    """Rows with a halo, within the map, and where they are in that."""
    around = slice(max(0, rows.start - halo), min(rows.stop + halo, height))
    return around, slice(rows.start - around.start, rows.stop - around.start)


def distance_map(elsewhere: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Distances to the nearest pixel that is 0, in pixels.

    The same in every call: OpenCV's own code is exact, and faster than that of Intel's IPP, which OpenCV takes in processes of
    one thread. The last bits of IPP's square roots depend on where in memory the map lies.

    Args:
        elsewhere: (H, W) uint8; some pixel is 0.

    Returns:
        (H, W) float32.
    """
    ipp = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)  # of this thread
    try:
        return np.asarray(cv2.distanceTransform(elsewhere, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)
    finally:
        cv2.ipp.setUseIPP(ipp)
