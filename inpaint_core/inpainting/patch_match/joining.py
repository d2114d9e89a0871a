"""From matches to colours at the photograph's own size."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from inpaint_core.inpainting.patch_match.levels import RADIUS, Mask, Matches, rows_of
from inpaint_core.networks.push_pull import push_pull

_LARGEST_STEP = 48.0  # of what is copied to what it meets, that is evened out
_LEAST_WEIGHT = 1e-4  # of what is copied beyond the hole
_MEMBRANE = 256  # largest side of what evens out steps: it has no detail
_PIXELS_AT_ONCE = 2**17


def joined(photograph: NDArray[np.uint8], mask: Mask, matches: WindowMatches) -> Tensor:
    """The photograph's own pixels at the matches, made to meet what is around the hole.

    What is copied is continued one pixel beyond the hole; by how much it differs from the photograph there is spread smoothly
    over the hole and added (Perez et al., "Poisson Image Editing", SIGGRAPH 2003, with `push_pull` for the membrane).

    Args:
        photograph: (n, n, 3) uint8.
        mask: (n, n) bool.
        matches: of any level of the window.

    Returns:
        (k, 3) float32: the colours of the masked pixels, row by row.
    """
    size = mask.shape[0]
    device = matches.to_rows.device
    pixels = torch.from_numpy(np.ascontiguousarray(photograph)).to(device).view(-1, 3).float()
    ring = cv2.dilate(mask.view(np.uint8), np.ones((3, 3), np.uint8)).view(np.bool_) & ~mask
    places = [np.concatenate(both) for both in zip(np.nonzero(mask), np.nonzero(ring), strict=True)]
    rows, columns = (torch.from_numpy(numbers).to(device) for numbers in places)
    copied, weights = _copied(pixels, size, rows, columns, matches)
    # Of large windows at a smaller size: a membrane has no detail.
    side = min(1 << (size - 1).bit_length(), _MEMBRANE)
    all_cells = rows * side // size * side + columns * side // size
    inside = int(np.count_nonzero(mask))
    fill, beyond = copied[:inside], copied[inside:]
    hole_cells, cells = all_cells[:inside], all_cells[inside:]
    steps = (pixels[rows[inside:] * size + columns[inside:]] - beyond).clamp(-_LARGEST_STEP, _LARGEST_STEP)
    counted = (weights[inside:] >= _LEAST_WEIGHT).float()
    sums = torch.zeros(side**2, 4, device=device)
    sums.index_add_(0, cells, torch.cat([steps, steps.new_ones(len(steps), 1)], dim=1) * counted[:, None])
    known = sums[:, 3:]
    means = (sums[:, :3] / known.clamp(min=1)).T.reshape(1, 3, side, side)
    membrane = push_pull(means, (known == 0).view(1, 1, side, side))
    return fill + membrane.view(3, -1)[:, hole_cells].T


@dataclass(frozen=True)
class WindowMatches:
    """The matches of one window, as maps over its pixels.

    Args:
        size: side of the level in pixels.
        to_rows: (stride**2,) int64 rows to each bordered pixel's match; 0 where there is no hole.
        to_columns: the same of columns.
        trust: (stride**2,) float32; 0 where there is no hole.
    """

    size: int
    to_rows: Tensor
    to_columns: Tensor
    trust: Tensor


def each_window(matches: Matches) -> list[WindowMatches]:
    """The matches of each of a level's windows."""
    level = matches.level
    rows, columns = level.places(level.hole)
    to_rows, to_columns = level.places(level.hole + matches.steps)
    maps = torch.zeros(2, level.total, dtype=torch.int64, device=level.hole.device)
    maps[:, level.hole] = torch.stack([to_rows - rows, to_columns - columns])
    trust = matches.trust.new_zeros(level.total)
    trust[level.hole] = matches.trust
    parts = zip(*(torch.split(whole, level.stride**2) for whole in (maps[0], maps[1], trust)), strict=True)
    return [WindowMatches(level.size, *part) for part in parts]


def _copied(
    pixels: Tensor, size: int, all_rows: Tensor, all_columns: Tensor, matches: WindowMatches
) -> tuple[Tensor, Tensor]:
    """(k, 3) colours of some pixels in or beside the hole, and (k,) how well they are known; where matches change, one passes
    into the other."""
    times = size / matches.size
    stride = matches.size + 2 * RADIUS
    steps = (times * matches.to_rows).round().long() * size + (times * matches.to_columns).round().long()
    near = torch.tensor([-1, 0, 1], device=pixels.device)
    colours, weights = [], []
    for rows, columns in zip(
        torch.split(all_rows, _PIXELS_AT_ONCE), torch.split(all_columns, _PIXELS_AT_ONCE), strict=True
    ):
        cell_rows, row_weights = _spline((rows + 0.5) / times)
        cell_columns, column_weights = _spline((columns + 0.5) / times)
        numbers = ((cell_rows[:, None] + near + RADIUS) * stride)[:, :, None] + (cell_columns[:, None] + near + RADIUS)[
            :, None
        ]
        numbers = numbers.view(-1, 9)
        counts = rows_of(matches.trust, numbers) * (row_weights[:, :, None] * column_weights[:, None]).view(-1, 9)
        voices = ((rows * size + columns)[:, None] + rows_of(steps, numbers)).clamp_(0, size**2 - 1)
        weight = counts.sum(dim=1) + 1e-20
        total = F.embedding_bag(voices, pixels, per_sample_weights=counts, mode="sum")
        colours.append(total / weight[:, None])
        weights.append(weight)
    return torch.cat(colours), torch.cat(weights)


def _spline(places: Tensor) -> tuple[Tensor, Tensor]:
    """The cell of each place, and (k, 3) weights of a quadratic B-spline for the one before, itself and the one after."""
    cells = places.long()
    at = places - cells
    return cells, torch.stack([0.5 * (1 - at).square(), 0.75 - (at - 0.5).square(), 0.5 * at.square()], dim=1)
