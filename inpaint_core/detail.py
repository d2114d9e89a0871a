"""From a network's small, soft fill to one of the photograph's own size and sharpness.

Colours: the hole is filled smoothly at full size (`push_pull`), and the network's change to the same at its own size is
enlarged and added, so that the fill meets what is around it without a step.

Detail: what the photograph has beyond its coarse colours is copied into the hole from elsewhere in the window, as in Yi et
al., "Contextual Residual Aggregation for Ultra High-Resolution Image Inpainting" (CVPR 2020), but by a few whole shifts of
the photograph, which keep textures in one piece (He and Sun, "Statistics of Patch Offsets for Image Completion", ECCV 2012).
A shift fits a place where the colours there are those that the network predicts, and where there is as much detail as
around the hole.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from inpaint_core.networks.push_pull import push_pull
from inpaint_core.windows import Box, resize, resize_mask

LARGEST = 1024
"""Windows with longer sides are filled at this size and enlarged: bounds time and memory. Pixels."""

GRID = 64
"""Side of the grid on which coarse colours are compared and shifts are counted."""

_BLUR = 1.5  # of the coarse colours, in cells of the grid
_STEP = 4  # between shifts, in cells
_PATCH = 7  # side of what is compared at each cell, in cells
_SHIFTS = 6  # most that are used for one window
_LEAST_GAIN = 0.03  # of the whole cost, for one more shift
_DETAIL_WEIGHT = 3.0  # of a level of detail, against one of colour
_DISTANCE_COST = 1.0  # of a shift, a cell
_UNKNOWN_COST = 3e4  # of a cell whose source is not known
_LEAST_KNOWN = 0.15  # of the hole, for which a shift has to have a source

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Maps = NDArray[np.float32]


def enlarge(photograph: Pixels, mask: Mask, small: Pixels, small_mask: Mask, filled: Pixels, detail: float) -> Pixels:
    """A fill at the size of the photograph.

    Args:
        photograph: (n, n, 3) uint8 RGB; what it holds under the mask has no effect.
        mask: (n, n) bool, True = hole.
        small: (s, s, 3) uint8, what the network was shown: the photograph at its size.
        small_mask: (s, s) bool.
        filled: (s, s, 3) uint8, its fill; used under `small_mask` only.
        detail: how much of the copied detail is added, 0 to 1.

    Returns:
        (n, n, 3) uint8: the fill in the hole, the photograph itself elsewhere (but for windows over `LARGEST`, where
        that is smoothed by the resizing).
    """
    size = photograph.shape[0]
    side = min(size, LARGEST)
    if side < size:
        photograph, mask = resize(photograph, side, side), resize_mask(mask, side, side)
    smooth = _smooth(photograph, mask)
    # At the network's size a mask of many thin parts may leave nothing known, where its own smooth fill has no colour.
    shown = _resized(smooth, small_mask.shape[0]) if small_mask.all() else _smooth(small, small_mask)
    change = np.where(small_mask[..., None], filled - shown, 0).astype(np.float32)
    base = smooth + _resized(change, side)
    if detail > 0 and side >= GRID and mask.any() and not mask.all():
        base += detail * _copied_detail(photograph, mask, base)
    result = np.where(mask[..., None], np.rint(base.clip(0, 255)).astype(np.uint8), photograph)
    return resize(result, size, size) if side < size else result


def _smooth(values: NDArray[np.uint8] | Maps, mask: Mask) -> Maps:
    """(n, n, c) with the hole filled by `push_pull`."""
    size = mask.shape[0]
    side = 1 << (size - 1).bit_length()
    padded = np.zeros((values.shape[2], side, side), np.float32)
    hidden = np.ones((side, side), bool)
    padded[:, :size, :size] = values.transpose(2, 0, 1)
    hidden[:size, :size] = mask
    filled = push_pull(torch.from_numpy(padded)[None], torch.from_numpy(hidden)[None, None])
    return np.ascontiguousarray(filled[0, :, :size, :size].permute(1, 2, 0).numpy())


@dataclass(frozen=True)
class _Coarse:
    """What is known of a window on the grid."""

    colours: Maps  # (GRID, GRID, 3)
    detail: Maps  # (GRID, GRID, 1), root of the mean square
    known: Mask  # (GRID, GRID), cells without a masked pixel


def _copied_detail(photograph: Pixels, mask: Mask, base: Maps) -> Maps:
    """(n, n, 3) of levels to add to the fill `base`; 0 where no source is known."""
    side = mask.shape[0]
    known = (~mask).astype(np.float32)
    known_parts = _resized(known, GRID)
    weights = _blurred(known_parts)
    seen: Maps = np.where(mask[..., None], 0, photograph).astype(np.float32)
    colours: Maps = (_blurred(_resized(seen, GRID)) / np.maximum(weights, 1e-4)[..., None]).astype(np.float32)
    details = np.where(mask[..., None], 0, photograph - _resized(colours, side)).astype(np.float32)
    power: Maps = np.square(details).mean(axis=2).astype(np.float32)
    square = _blurred(_resized(power, GRID)) / np.maximum(weights, 1e-4)
    strength: Maps = np.sqrt(np.maximum(square, 0)).astype(np.float32)[..., None]
    coarse = _Coarse(colours, strength, known_parts > 0.999)
    hole = _resized(mask.astype(np.float32), GRID) > 0
    wanted = np.dstack([_blurred(_resized(base, GRID)), _DETAIL_WEIGHT * _smooth(coarse.detail, ~coarse.known)])
    shifts, labels = _best_shifts(coarse, wanted, hole)
    return _shifted(details, shifts, _to_nearest(labels, hole))


def _best_shifts(coarse: _Coarse, wanted: Maps, hole: Mask) -> tuple[list[tuple[int, int]], NDArray[np.int32]]:
    """The shifts (down, right, in cells) that together fit best, and (GRID, GRID) which of them each cell of the hole takes, or -1."""
    box = Box.around(hole)
    inside, wanted = hole[box.slices], wanted[box.slices]
    share = np.maximum(cv2.blur(inside.astype(np.float32), (_PATCH, _PATCH)), 1e-3)
    edge = ((GRID, GRID), (GRID, GRID))
    sources = np.pad(np.dstack([coarse.colours, _DETAIL_WEIGHT * coarse.detail]), (*edge, (0, 0)))
    known = np.pad(coarse.known, edge)
    shifts: list[tuple[int, int]] = []
    costs: list[Maps] = []
    for down in range(-GRID, GRID + 1, _STEP):
        for across in range(-GRID, GRID + 1, _STEP):
            x, y = GRID + across, GRID + down
            at = Box(box.x0 + x, box.y0 + y, box.x1 + x, box.y1 + y).slices
            if np.count_nonzero(known[at] & inside) < _LEAST_KNOWN * np.count_nonzero(inside):
                continue
            cost = np.square(sources[at] - wanted).sum(axis=2)
            cost = np.where(known[at], cost, _UNKNOWN_COST) * inside
            cost = cv2.blur(cost, (_PATCH, _PATCH)) / share + _DISTANCE_COST * np.hypot(down, across)
            shifts.append((down, across))
            costs.append(np.minimum(cost[inside], _UNKNOWN_COST).astype(np.float32))
    labels = np.full(hole.shape, -1, np.int32)
    if shifts:
        chosen, least, which = _greedily(np.stack(costs))
        labels[box.slices][inside] = np.where(least < 0.95 * _UNKNOWN_COST, which, -1)
        shifts = [shifts[index] for index in chosen]
    return shifts, labels


def _greedily(costs: Maps) -> tuple[list[int], Maps, NDArray[np.intp]]:
    """The rows that make the sum of the least costs of each column small; those costs; and whose each is."""
    least = np.full(costs.shape[1], _UNKNOWN_COST, np.float32)
    chosen: list[int] = []
    while len(chosen) < _SHIFTS:
        totals = np.minimum(costs, least).sum(axis=1)
        best = int(totals.argmin())
        if chosen and totals[best] > (1 - _LEAST_GAIN) * least.sum():
            break
        chosen.append(best)
        least = np.minimum(least, costs[best])
    return chosen, least, costs[chosen].argmin(axis=0)


def _to_nearest(labels: NDArray[np.int32], hole: Mask) -> NDArray[np.int32]:
    """Labels for all cells: each takes that of the nearest in the hole, so that no border of the hole shows in them."""
    _, nearest = cv2.distanceTransformWithLabels(
        (~hole).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_3, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_place = np.full(int(nearest.max()) + 1, -1, np.int32)
    of_place[nearest[hole]] = labels[hole]
    everywhere: NDArray[np.int32] = of_place[nearest]
    return everywhere


def _shifted(details: Maps, shifts: list[tuple[int, int]], labels: NDArray[np.int32]) -> Maps:
    """The details by label, fading into each other so that the sum has the strength of one."""
    side = details.shape[0]
    scale = side / GRID
    total, power = np.zeros_like(details), np.full((side, side), 1e-3, np.float32)
    for index, (down, across) in enumerate(shifts):
        if not (labels == index).any():
            continue
        weights = _resized(cv2.GaussianBlur((labels == index).astype(np.float32), (0, 0), 0.6), side)
        to, source = _overlap(round(down * scale), round(across * scale), side)
        total[to] += weights[to][..., None] * details[source]
        power += np.square(weights)
    return np.asarray(total / np.sqrt(power)[..., None], np.float32)


def _overlap(down: int, across: int, side: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where the shifted source lies within the window, in target and source."""

    def along(shift: int) -> tuple[slice, slice]:
        return slice(max(0, -shift), min(side, side - shift)), slice(max(0, shift), min(side, side + shift))

    (rows, source_rows), (columns, source_columns) = along(down), along(across)
    return (rows, columns), (source_rows, source_columns)


def _blurred(maps: Maps) -> Maps:
    return np.asarray(cv2.GaussianBlur(maps, (0, 0), _BLUR, borderType=cv2.BORDER_REFLECT), np.float32)


def _resized(maps: Maps, side: int) -> Maps:
    """(n, n) or (n, n, c) float32 at another size."""
    interpolation = cv2.INTER_AREA if side < maps.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(maps, (side, side), interpolation=interpolation), np.float32)
