"""Convolutions in the frequency domain, which see the whole image at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FourierUnit(nn.Module):
    """A residual block: a 1x1 convolution of the spectrum of its maps, (B, channels, H, W) to the same.

    The maps, brought to half as many channels, are transformed by a real FFT over both dimensions (orthonormal). Real and
    imaginary parts, as channels of their own, pass a 1x1 convolution, BatchNorm and LeakyReLU 0.2; the inverse
    transform is added to what went in. Chi et al., "Fast Fourier Convolution", NeurIPS 2020; for holes: Suvorov et al.,
    LaMa, WACV 2022. The transforms are computed in float32, under autocast too: half precision loses small frequencies.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2

        def layer(channels_in: int, channels_out: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, bias=False),
                nn.BatchNorm2d(channels_out),
                nn.LeakyReLU(0.2, inplace=True),
            )

        self.shrink = layer(channels, half)
        self.spectrum = layer(2 * half, 2 * half)
        self.grow = nn.Sequential(nn.Conv2d(half, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, maps: Tensor) -> Tensor:
        """See the class."""
        small = self.shrink(maps)
        with torch.autocast(small.device.type, enabled=False):
            given = small.float()
            frequencies = torch.fft.rfft2(given, norm="ortho")
            parts = torch.cat([frequencies.real, frequencies.imag], dim=1)
        real, imaginary = self.spectrum(parts).chunk(2, dim=1)
        with torch.autocast(small.device.type, enabled=False):
            changed = torch.fft.irfft2(
                torch.complex(real.float(), imaginary.float()), s=(given.shape[-2], given.shape[-1]), norm="ortho"
            )
            seen = given + changed
        change: Tensor = self.grow(seen.to(small.dtype))
        return maps + change
