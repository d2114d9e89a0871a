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
_FLOAT_PIXELS = 2**21  # of a window, up to which its pixels are floats, whose sums take half the time
_KEPT = 2**21  # pixels of a window whose copied colours are kept, 12 bytes each


def joined(photograph: NDArray[np.uint8], mask: Mask, matches: WindowMatches, *, rounded: bool = False) -> Tensor:
    """The photograph's own pixels at the matches, made to meet what is around the hole.

    What is copied is continued one pixel beyond the hole; by how much it differs from the photograph there is spread smoothly
    over the hole and added (Perez et al., "Poisson Image Editing", SIGGRAPH 2003, with `push_pull` for the membrane).

    Args:
        photograph: (n, n, 3) uint8.
        mask: (n, n) bool.
        matches: of any level of the window.
        rounded: give whole numbers, a quarter of the bytes.

    Returns:
        (k, 3) float32, or uint8 where rounded: the colours of the masked pixels, row by row.
    """
    size = mask.shape[0]
    device = matches.to_rows.device
    whole = np.ascontiguousarray(photograph)
    if mask.size <= _FLOAT_PIXELS and not whole.flags.writeable:
        whole = whole.copy()  # torch warns of what it must not write to
    pixels = torch.from_numpy(whole).to(device).view(-1, 3)
    if len(pixels) <= _FLOAT_PIXELS:
        pixels = pixels.float()
    # Of large windows at a smaller size: a membrane has no detail.
    side = min(1 << (size - 1).bit_length(), _MEMBRANE)
    steps = _steps(matches, size)
    ring = cv2.dilate(mask.view(np.uint8), np.ones((3, 3), np.uint8)).view(np.bool_) & ~mask
    # What is copied into the hole is kept for later, unless that is more than it is worth.
    kept: list[Tensor] | None = [] if mask.size <= _KEPT else None
    rings = []
    for part in _parts(mask):
        places = [np.nonzero(ring[part])] if kept is None else [np.nonzero(mask[part]), np.nonzero(ring[part])]
        both = [np.concatenate(numbers) for numbers in zip(*places, strict=True)]
        rows, columns = (torch.from_numpy(numbers).to(device) for numbers in both)
        rows += part.start
        copied, weights = _copied(pixels, size, rows, columns, matches, steps)
        inside = 0
        if kept is not None:
            inside = len(places[0][0])
            kept.append(copied[:inside])
        rings.append([values[inside:] for values in (rows, columns, copied, weights)])
    del ring
    rows, columns, copied, weights = (torch.cat(parts) for parts in zip(*rings, strict=True))
    differences = (pixels[rows * size + columns] - copied).clamp(-_LARGEST_STEP, _LARGEST_STEP)
    counted = (weights >= _LEAST_WEIGHT).float()
    counts = torch.cat([differences, differences.new_ones(len(differences), 1)], dim=1) * counted[:, None]
    sums = torch.zeros(side**2, 4, device=device)
    sums.index_add_(0, _cells(rows, columns, size, side), counts)
    known = sums[:, 3:]
    means = (sums[:, :3] / known.clamp(min=1)).T.reshape(1, 3, side, side)
    membrane = push_pull(means, (known == 0).view(1, 1, side, side), traced=False).view(3, -1)
    fill = torch.empty(int(np.count_nonzero(mask)), 3, device=device, dtype=torch.uint8 if rounded else torch.float32)
    start = 0
    for number, part in enumerate(_parts(mask)):
        rows, columns = (torch.from_numpy(numbers).to(device) for numbers in np.nonzero(mask[part]))
        rows += part.start
        copied = kept[number] if kept is not None else _copied(pixels, size, rows, columns, matches, steps)[0]
        colours = copied + membrane[:, _cells(rows, columns, size, side)].T
        fill[start : start + len(rows)] = colours.round_().clamp_(0, 255) if rounded else colours
        start += len(rows)
    return fill


def _parts(mask: Mask) -> list[slice]:
    """The rows of a mask, some at a time: in between, a pixel takes some 300 bytes."""
    step = max(1, _PIXELS_AT_ONCE // mask.shape[1])
    return [slice(top, top + step) for top in range(0, mask.shape[0], step)]


def _cells(rows: Tensor, columns: Tensor, size: int, side: int) -> Tensor:
    """The numbers of the membrane's cells in which some pixels lie."""
    return rows * side // size * side + columns * side // size


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
    rows, columns = level.hole_places
    to_rows, to_columns = level.places(level.hole + matches.steps)
    maps = torch.zeros(2, level.total, dtype=torch.int64, device=level.hole.device)
    maps[:, level.hole] = torch.stack([to_rows - rows, to_columns - columns])
    trust = matches.trust.new_zeros(level.total)
    trust[level.hole] = matches.trust
    parts = zip(*(torch.split(whole, level.stride**2) for whole in (maps[0], maps[1], trust)), strict=True)
    return [WindowMatches(level.size, *part) for part in parts]


def _steps(matches: WindowMatches, size: int) -> Tensor:
    """For each pixel of the level, the step to its match, in pixels of the window, numbered row by row."""
    times = size / matches.size
    return (times * matches.to_rows).round().long() * size + (times * matches.to_columns).round().long()


def _copied(
    pixels: Tensor, size: int, rows: Tensor, columns: Tensor, matches: WindowMatches, steps: Tensor
) -> tuple[Tensor, Tensor]:
    """(k, 3) colours of some pixels in or beside the hole, and (k,) how well they are known; where matches change, one passes
    into the other."""
    times = size / matches.size
    stride = matches.size + 2 * RADIUS
    near = torch.tensor([-1, 0, 1], device=pixels.device)
    cell_rows, row_weights = _spline((rows + 0.5) / times)
    cell_columns, column_weights = _spline((columns + 0.5) / times)
    numbers = ((cell_rows[:, None] + near + RADIUS) * stride)[:, :, None] + (cell_columns[:, None] + near + RADIUS)[
        :, None
    ]
    numbers = numbers.view(-1, 9)
    counts = rows_of(matches.trust, numbers) * (row_weights[:, :, None] * column_weights[:, None]).view(-1, 9)
    voices = ((rows * size + columns)[:, None] + rows_of(steps, numbers)).clamp_(0, size**2 - 1)
    weight = counts.sum(dim=1) + 1e-20
    if pixels.is_floating_point():
        total = F.embedding_bag(voices, pixels, per_sample_weights=counts, mode="sum")
    else:
        total = (pixels[voices] * counts[:, :, None]).sum(dim=1)
    return total / weight[:, None], weight


def _spline(places: Tensor) -> tuple[Tensor, Tensor]:
    """The cell of each place, and (k, 3) weights of a quadratic B-spline for the one before, itself and the one after."""
    cells = places.long()
    at = places - cells
    return cells, torch.stack([0.5 * (1 - at).square(), 0.75 - (at - 0.5).square(), 0.5 * at.square()], dim=1)
