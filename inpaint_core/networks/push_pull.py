"""A smooth fill of holes by an image pyramid (Gortler et al., "The Lumigraph", SIGGRAPH 1996, section 3.4)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

_SATURATION = 16.0
"""A coarser pixel counts as fully known from this part, 1 in 16, of what it is the mean of. Of 2, 4, 8 and 16, the best for thin,
medium and thick holes alike (L1 and SSIM)."""

_TINY = 1e-9


def push_pull(images: Tensor, masks: Tensor, *, traced: bool = True) -> Tensor:
    """Fill holes with colours that pass smoothly from what is known on one side to what is known on the other.

    Pull: each level of a pyramid has half the size of the one before; its colours are means of the known ones, weighted
    by the binomial (1, 3, 3, 1), and it knows a pixel wherever there is something known below. Push: from the coarsest
    level up, what a level does not know comes from the enlarged one above it.

    Args:
        images: (B, C, S, S) float32, S a power of 2; what lies in the holes is not looked at. Not changed.
        masks: (B, 1, S, S) bool, True = hole.
        traced: whether the call may be part of a graph that is traced or compiled. False ends the pyramid, on CPUs, at the first level
            that knows all pixels, since the coarser ones change nothing; elsewhere each level would wait for its device.

    Returns:
        (B, C, S, S) float32: `images` outside the holes; in a hole, values between the least and the greatest known of
        their channel. 0 where nothing at all is known.
    """
    looks = not traced and images.device.type == "cpu"
    with torch.autocast(images.device.type, enabled=False):
        known = (~masks).float()
        levels = [(torch.where(masks, 0.0, images.float()), known)]
        kernel = _binomial(images.shape[1] + 1, images.device)
        while known.shape[-1] > 1 and not (looks and bool((known == 1).all())):
            levels.append(_pull(*levels[-1], kernel))
            known = levels[-1][1]
        coloured, known = levels.pop()
        filled = coloured / known.clamp(min=_TINY)
        for coloured, known in reversed(levels):
            filled = coloured + (1 - known) * _enlarged(filled)
        return filled


def smooth_fill(maps: NDArray[np.uint8] | NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """`push_pull` of one picture of any size.

    Args:
        maps: (n, n, c).
        mask: (n, n) bool, True = hole.

    Returns:
        (n, n, c) float32.
    """
    size = mask.shape[0]
    side = 1 << (size - 1).bit_length()
    padded = np.zeros((maps.shape[2], side, side), np.float32)
    hidden = np.ones((side, side), bool)
    padded[:, :size, :size] = maps.transpose(2, 0, 1)
    hidden[:size, :size] = mask
    filled = push_pull(torch.from_numpy(padded)[None], torch.from_numpy(hidden)[None, None], traced=False)
    return np.ascontiguousarray(filled[0, :, :size, :size].permute(1, 2, 0).numpy())


def _pull(coloured: Tensor, known: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """The next coarser level: colours times how well they are known, and how well, 0 to 1."""
    both = _halved(torch.cat([coloured, known], dim=1), kernel)
    coloured, known = both[:, :-1], both[:, -1:]
    scale = (_SATURATION * known).clamp(max=1.0) / known.clamp(min=_TINY)
    return coloured * scale, known * scale


def _binomial(channels: int, device: torch.device) -> Tensor:
    """(1, 3, 3, 1) / 8 along both sides, (channels, 1, 4, 4): computed on the device, since a copy from the host would wait."""
    line = (4 - 2 * (torch.arange(4.0, device=device) - 1.5).abs()) / 8
    return torch.outer(line, line).expand(channels, 1, 4, 4)


def _halved(maps: Tensor, kernel: Tensor) -> Tensor:
    # In this layout, an eighth of the time on a CPU.
    maps = maps.contiguous(memory_format=torch.channels_last)
    return F.conv2d(maps, kernel, stride=2, padding=1, groups=maps.shape[1])


def _enlarged(maps: Tensor) -> Tensor:
    return F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
