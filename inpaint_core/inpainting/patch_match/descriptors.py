"""Patches in few numbers: their lowest frequencies."""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from inpaint_core.inpainting.patch_match.levels import RADIUS, SIDE, Level, bordered, rows_of


@cache
def _kernels(device: torch.device, luma: int, chroma: int) -> tuple[Tensor, Tensor]:
    """An orthonormal basis of the lowest frequencies (DCT-II) of a patch, in brightness and colour.

    Each is a product of a wave down and one across, so that two passes give them all: first the waves down of each colour
    axis, (m, 3, SIDE, 1), then of each of those the waves across, (d, m, 1, SIDE).
    """
    places = torch.arange(SIDE, dtype=torch.float64)
    waves = torch.stack([torch.cos(math.pi * (places + 0.5) * order / SIDE) for order in range(SIDE)])
    waves = waves / waves.norm(dim=1, keepdim=True)
    axes = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]], dtype=torch.float64)
    axes = axes / axes.norm(dim=1, keepdim=True)
    orders = [
        (axis, u, min(kept - u, SIDE))
        for axis, kept in enumerate((luma, chroma, chroma))
        for u in range(min(kept, SIDE))
    ]
    down = torch.stack([axes[axis][:, None, None] * waves[u][:, None] for axis, u, _ in orders])
    across = torch.zeros(sum(count for _, _, count in orders), len(orders), 1, SIDE, dtype=torch.float64)
    row = 0
    for number, (_, _, count) in enumerate(orders):
        across[row : row + count, number, 0] = waves[:count]
        row += count
    first, second = (kernels.float().to(device, memory_format=torch.channels_last) for kernels in (down, across))
    return first, second


def described(colours: Tensor, luma: int, chroma: int) -> Tensor:
    """The patch about each pixel.

    Args:
        colours: (B, 3, s, s) float32.
        luma: frequencies (u, v) with u + v below this are kept of the brightness.
        chroma: the same of both colour differences.

    Returns:
        (numbers, d), by the numbers of a `Level`: squared distances between rows are those between the patches' lowest
        frequencies; 0 in the border.
    """
    maps = F.pad(_described(bordered(colours), luma, chroma), (RADIUS, RADIUS, RADIUS, RADIUS))
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def described_holes(level: Level, fill: Tensor, luma: int, chroma: int) -> Tensor:
    """(k, d): what `described` gives for the pixels of a level's holes where their colours are `fill` (k, 3)."""
    rows, columns = level.hidden.box
    around = bordered(level.with_fill(fill))[
        :, :, rows.start : rows.stop + 2 * RADIUS, columns.start : columns.stop + 2 * RADIUS
    ]
    maps = _described(around, luma, chroma)
    return rows_of(maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1]), level.hole_in_box)


def _described(around: Tensor, luma: int, chroma: int) -> Tensor:
    """(B, d, h, w) of maps (B, 3, h, w) with a border of `RADIUS`."""
    down, across = _kernels(around.device, luma, chroma)
    return F.conv2d(F.conv2d(around, down), across)
