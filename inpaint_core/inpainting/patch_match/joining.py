"""From matches to colours at the photograph's own size."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inpaint_core.inpainting.patch_match.matches import LARGEST, RADIUS, Index, Maps, Mask, Matches
from inpaint_core.networks.push_pull import smooth_fill

_LARGEST_STEP = 48.0  # of what is copied to what it meets, that is evened out
_LEAST_WEIGHT = 1e-4  # of what is copied beyond the hole
_PIXELS_AT_ONCE = 2**17


def joined(photograph: NDArray[np.uint8], mask: Mask, matches: Matches) -> Maps:
    """The photograph's own pixels at the matches, made to meet what is around the hole.

    What is copied is continued one pixel beyond the hole; by how much it differs from the photograph there is spread smoothly
    over the hole and added (Perez et al., "Poisson Image Editing", SIGGRAPH 2003, with `push_pull` for the membrane).

    Args:
        photograph: (n, n, 3) uint8, blanked.
        mask: (n, n) bool.
        matches: of any level of the window.

    Returns:
        (k, 3) float32: the colours of the masked pixels, row by row.
    """
    fill, _ = _copied(photograph, mask, matches)
    ring = cv2.dilate(mask.view(np.uint8), np.ones((3, 3), np.uint8)).view(np.bool_) & ~mask
    beyond, weight = _copied(photograph, ring, matches)
    steps = np.clip(photograph[ring] - beyond, -_LARGEST_STEP, _LARGEST_STEP)[weight >= _LEAST_WEIGHT]
    rows, columns = (places[weight >= _LEAST_WEIGHT] for places in np.nonzero(ring))
    # Of large windows at a smaller size: a membrane has no detail.
    size = mask.shape[0]
    side = min(size, LARGEST)
    cells = rows * side // size * side + columns * side // size
    counts = np.bincount(cells, minlength=side**2).reshape(side, side)
    sums = np.dstack([np.bincount(cells, steps[:, colour], side**2).reshape(side, side) for colour in range(3)])
    membrane = smooth_fill((sums / np.maximum(counts, 1)[..., None]).astype(np.float32), counts == 0)
    rows, columns = np.nonzero(mask)
    fill += membrane[rows * side // size, columns * side // size]
    return fill


def _copied(photograph: NDArray[np.uint8], where: Mask, matches: Matches) -> tuple[Maps, Maps]:
    """(k, 3) colours of some pixels in or beside the hole, and (k,) how well they are known; where matches change, one passes
    into the other."""
    size = where.shape[0]
    level = matches.level
    times = size / level.size
    steps, trust = matches.over_level()
    all_rows, all_columns = (places.astype(np.int32) for places in np.nonzero(where))
    colours = np.empty((len(all_rows), 3), np.float32)
    weights = np.empty(len(all_rows), np.float32)
    for begin in range(0, len(all_rows), _PIXELS_AT_ONCE):
        part = slice(begin, begin + _PIXELS_AT_ONCE)
        rows, columns = all_rows[part], all_columns[part]
        total = np.zeros((len(rows), 3), np.float32)
        weight = np.full((len(rows), 1), 1e-20, np.float32)
        cell_rows, row_weights = _spline((rows + 0.5) / times)
        cell_columns, column_weights = _spline((columns + 0.5) / times)
        for down, by_row in zip((-1, 0, 1), row_weights, strict=True):
            for across, by_column in zip((-1, 0, 1), column_weights, strict=True):
                numbers = (cell_rows + down + RADIUS) * level.stride + cell_columns + across + RADIUS
                to_rows, to_columns = level.places(numbers + steps[numbers])
                to_rows = rows + np.rint(times * (to_rows - cell_rows - down)).astype(np.int32)
                to_columns = columns + np.rint(times * (to_columns - cell_columns - across)).astype(np.int32)
                counts = (trust[numbers] * by_row * by_column)[:, None]
                total += counts * photograph[to_rows.clip(0, size - 1), to_columns.clip(0, size - 1)]
                weight += counts
        colours[part], weights[part] = total / weight, weight[:, 0]
    return colours, weights


def _spline(places: NDArray[np.float64]) -> tuple[Index, tuple[Maps, Maps, Maps]]:
    """The cell of each place, and the weights of a quadratic B-spline for the one before, itself and the one after."""
    cells = places.astype(np.int32)
    at = places - cells
    weights = (0.5 * np.square(1 - at), 0.75 - np.square(at - 0.5), 0.5 * np.square(at))
    before, here, after = (weight.astype(np.float32) for weight in weights)
    return cells, (before, here, after)
