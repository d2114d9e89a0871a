"""A grid of dots in a fill: power of its detail at periods of 8 pixels and their fractions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_PERIOD = 8
"""Of decoders that enlarge maps three times and of JPEG's blocks; patterns of periods 2 and 4 repeat after it too."""


def grid_share(detail: Tensor, chosen: Tensor) -> Tensor:
    """Power at the frequencies k / 8, 0 to 1, as a share of itself and that of the frequencies around them.

    Decoders with transposed convolutions leave patterns that repeat every 2, 4 or 8 pixels (Odena et al., "Deconvolution and
    Checkerboard Artifacts", Distill 2016). They are peaks of the spectrum at multiples of 1/8 along rows and columns; what
    is around each, the mean of the four frequencies that are 1/16 away in both, is what the spectrum of a picture without a
    grid has there, too.

    Args:
        detail: (B, C, H, W), the Laplacian of the images: without it, large shapes outweigh everything.
        chosen: (B, 1, H, W) bool: the pixels that count.

    Returns:
        (B,) float64: about 0.5 without a grid, also where all is flat, and 1 where there is nothing else; NaN where nothing
        is chosen.
    """
    values = torch.where(chosen, detail, 0).double()
    waves = [_waves(side, values.device) for side in values.shape[-2:]]
    spectrum = waves[0] @ values.to(torch.complex128) @ waves[1].T
    power = spectrum.abs().square().sum(1)
    odd = power[:, 1::2, 1::2]
    # Frequencies are periodic: what is below the first is the last.
    around = (odd + odd.roll(1, 1) + odd.roll(1, 2) + odd.roll((1, 1), (1, 2))) / 4
    on_grid = power[:, ::2, ::2]
    on_grid, around = (maps.flatten(1)[:, 1:].sum(1) for maps in (on_grid, around))  # not the mean of all
    # Of what is flat, nothing is left but rounding errors.
    flat = ~(values != 0).flatten(1).any(1)
    share = torch.where(flat, 0.5, on_grid / (on_grid + around))
    return torch.where(chosen.flatten(1).any(1), share, math.nan)


def _waves(side: int, device: torch.device) -> Tensor:
    """(2 * 8, side) complex: the frequencies k / 16."""
    frequencies = torch.arange(2 * _PERIOD, device=device, dtype=torch.float64) / (2 * _PERIOD)
    places = torch.arange(side, device=device, dtype=torch.float64)
    angles = 2 * math.pi * frequencies[:, None] * places
    return torch.complex(angles.cos(), -angles.sin())
