"""Measures of a fill that are candidates for columns of the records; `benchmarks/acceptance.py` compares them with a person's labels.

Each takes the result, (H, W, 3) uint8 RGB, and the mask, (H, W) bool, or also the objects that the detector finds in the result with
a low threshold. The larger, the worse; None: cannot be measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from inpaint_core.detection.detector import Detection

LOW_CONFIDENCE = 0.05

_SIDE = 192  # pixels of the longer side at which patches are compared
_PATCH = 7
_APART = 9  # pixels between a patch and its copy
_MOST = 3000  # patches


@dataclass(frozen=True)
class Result:
    """A result, and what the detector finds in it with the confidence `LOW_CONFIDENCE`."""

    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    found: Sequence[Detection]

    @cached_property
    def copies(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]] | None:
        """See `_copies`."""
        return _copies(self.pixels, self.mask)


def left_inside(result: Result) -> float:
    """Highest confidence of an object with half or more of its pixels in the mask."""
    return max((one.confidence for one in result.found if _share(one, result.mask) >= 0.5), default=0.0)


def left_beside(result: Result) -> float:
    """Highest confidence of an object most of which is less than 0.15 sqrt(area of the mask) around the mask, not in it."""
    near = _dilated(result.mask, max(8, round(0.15 * math.sqrt(result.mask.sum()))))
    beside = [one.confidence for one in result.found if _share(one, near) >= 0.5 and 0 < _share(one, result.mask) < 0.5]
    return max(beside, default=0.0)


def colour_step(result: Result) -> float | None:
    """90th percentile, along the edge of the mask, of the distance in Lab between the mean colours on both sides (21 x 21 pixels)."""
    lab = _lab(result.pixels)
    inside = result.mask.astype(np.float32)
    edge = (_dilated(result.mask, 1) & ~result.mask)[..., None]
    sides = []
    for weight in (inside, 1 - inside):
        count = cv2.boxFilter(weight, -1, (21, 21), normalize=False)
        total = cv2.boxFilter(lab * weight[..., None], -1, (21, 21), normalize=False)
        sides.append(total / np.maximum(count, 1)[..., None])
    steps = np.linalg.norm(sides[0] - sides[1], axis=2)[edge[..., 0]]
    return float(np.percentile(steps, 90)) if len(steps) else None


def foreign_colours(result: Result) -> float | None:
    """Mean distance in Lab of colours of the fill to the nearest of 400 colours around it."""
    around = _around(result.mask)
    if around.sum() < 50:
        return None
    lab, random = _lab(result.pixels), np.random.default_rng(0)
    fill, known = (lab[region][random.integers(0, region.sum(), 400)] for region in (result.mask, around))
    return float(np.linalg.norm(fill[:, None] - known, axis=2).min(axis=1).mean())


def lost_detail(result: Result) -> float | None:
    """Logarithm of the mean detail around the fill (difference from a Gaussian blur of 1 pixel) over that of the fill."""
    around = _around(result.mask)
    inner = cv2.erode(result.mask.view(np.uint8), np.ones((7, 7), np.uint8)).view(np.bool_)
    if around.sum() < 50 or inner.sum() < 50:
        return None
    luma = cv2.cvtColor(result.pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    detail = np.abs(luma - cv2.GaussianBlur(luma, (0, 0), 1.0))
    return float(np.log((detail[around].mean() + 0.5) / (detail[inner].mean() + 0.5)))


def repeated(result: Result) -> float | None:
    """Share of textured patches of the fill that have a copy elsewhere in the image, less the share of those around it."""
    copies = result.copies
    return None if copies is None else float(copies[0].mean() - copies[1].mean())


def repeated_inside(result: Result) -> float | None:
    """Share of textured patches of the fill that have a copy elsewhere in the fill."""
    copies = result.copies
    return None if copies is None else float(copies[2].mean())


CANDIDATES: dict[str, Callable[[Result], float | None]] = {
    function.__name__: function
    for function in (
        left_inside,
        left_beside,
        colour_step,
        foreign_colours,
        lost_detail,
        repeated,
        repeated_inside,
    )
}


def _copies(
    pixels: NDArray[np.uint8], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Whether textured patches of the fill, and of the rest, have a copy; and those of the fill one in the fill.

    A copy differs by less than a quarter of the patch's own contrast (standard deviation).
    """
    scale = min(1.0, _SIDE / max(mask.shape))
    size = (round(mask.shape[1] * scale), round(mask.shape[0] * scale))
    image = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    covered = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    windows = np.lib.stride_tricks.sliding_window_view(image, (_PATCH, _PATCH), axis=(0, 1))[::2, ::2]
    share = np.lib.stride_tricks.sliding_window_view(covered, (_PATCH, _PATCH))[::2, ::2].mean(axis=(2, 3)).ravel()
    rows, columns = (axis.ravel() * 2 for axis in np.indices(windows.shape[:2]))
    patches = np.ascontiguousarray(windows.reshape(len(share), -1))
    contrast = patches.std(axis=1)
    fill, rest = (np.flatnonzero(where & (contrast > 12)) for where in (share > 0.9, share < 0.1))
    random = np.random.default_rng(0)
    fill, rest = (part if len(part) <= _MOST else random.choice(part, _MOST, replace=False) for part in (fill, rest))
    if len(fill) < 10 or len(rest) < 10:
        return None

    def copied(some: NDArray[np.intp], others: NDArray[np.intp]) -> NDArray[np.bool_]:
        near = np.maximum(np.abs(rows[some][:, None] - rows[others]), np.abs(columns[some][:, None] - columns[others]))
        squares = np.square(patches[some]).sum(axis=1)[:, None] + np.square(patches[others]).sum(axis=1)
        distances = (squares - 2 * patches[some] @ patches[others].T) / patches.shape[1]
        distances[near < _APART] = np.inf
        return np.asarray(distances.min(axis=1) < np.square(contrast[some] / 4))

    return copied(fill, rest) | copied(fill, fill), copied(rest, rest), copied(fill, fill)


def _share(found: Detection, region: NDArray[np.bool_]) -> float:
    """Share of an object's pixels that lie in a region."""
    height, width = found.mask.shape
    part = region[found.top : found.top + height, found.left : found.left + width]
    return float((part & found.mask).sum() / found.mask.sum())


def _around(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A band of 0.15 sqrt(area) around the mask, from 2 pixels on."""
    return _dilated(mask, max(8, round(0.15 * math.sqrt(mask.sum())))) & ~_dilated(mask, 2)


def _dilated(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    square = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    return np.asarray(cv2.dilate(mask.view(np.uint8), square)).view(np.bool_)


def _lab(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """CIE L*a*b* (D65), L 0 to 100."""
    return np.asarray(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)
