"""Nearest-neighbour enlargement and a convolution, as one operator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EnlargingConvolution(nn.Conv2d):
    """Enlarges maps twice, nearest neighbour, then applies a 3x3 convolution: (B, C, H, W) to (B, channels_out, 2H, 2W).

    A transposed convolution of 4x4 has other weights for each of the four positions of a pixel in its 2x2 group, and paints
    them as a grid of dots; this one does not (Odena et al., "Deconvolution and Checkerboard Artifacts", Distill 2016).

    The enlargement is a transposed convolution with 2x2 ones, so that both together are one of 4x4 whose kernel is the sum
    of four shifted copies of the 3x3 kernel: computed so, the enlarged maps are never made, and four taps are enough where
    the 3x3 kernel has nine.
    """

    def __init__(self, channels_in: int, channels_out: int, *, bias: bool) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1, bias=bias)

    def forward(self, maps: Tensor) -> Tensor:
        """See the class; any floating dtype."""
        return F.conv_transpose2d(maps, self.kernel(), self.bias, stride=2, padding=1)

    def kernel(self) -> Tensor:
        """Of the transposed convolution that is equal to both: (channels_in, channels_out, 4, 4)."""
        turned = self.weight.transpose(0, 1).flip(2, 3)
        rows = F.pad(turned, (0, 0, 0, 1)) + F.pad(turned, (0, 0, 1, 0))
        return torch.add(F.pad(rows, (0, 1)), F.pad(rows, (1, 0)))
