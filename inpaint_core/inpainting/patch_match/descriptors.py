"""Patches in few numbers: their lowest frequencies."""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from inpaint_core.inpainting.patch_match.levels import RADIUS, SIDE, bordered


@cache
def _kernels(device: torch.device, luma: int, chroma: int) -> Tensor:
    """(d, 3, SIDE, SIDE): an orthonormal basis of the lowest frequencies (DCT-II) of a patch, in brightness and colour."""
    places = torch.arange(SIDE, dtype=torch.float64)
    waves = torch.stack([torch.cos(math.pi * (places + 0.5) * order / SIDE) for order in range(SIDE)])
    waves = waves / waves.norm(dim=1, keepdim=True)
    axes = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]], dtype=torch.float64)
    axes = axes / axes.norm(dim=1, keepdim=True)
    kernels = [
        torch.einsum("c,i,j->cij", axis, waves[u], waves[v])
        for axis, orders in zip(axes, (luma, chroma, chroma), strict=True)
        for u in range(min(orders, SIDE))
        for v in range(min(orders - u, SIDE))
    ]
    return torch.stack(kernels).float().to(device)


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
    maps = F.conv2d(bordered(colours), _kernels(colours.device, luma, chroma))
    maps = F.pad(maps, (RADIUS, RADIUS, RADIUS, RADIUS))
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
