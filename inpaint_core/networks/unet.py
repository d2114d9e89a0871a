"""A U-Net for holes of any form (Ronneberger et al., "U-Net", MICCAI 2015; of 4x4 convolutions as in Isola et al., CVPR 2017)."""

from __future__ import annotations

from typing import assert_never

import torch
from torch import Tensor, nn

from inpaint_core.networks.enlarging import EnlargingConvolution
from inpaint_core.networks.fourier import FourierUnit
from inpaint_core.networks.generator import Generator
from inpaint_core.networks.push_pull import push_pull
from inpaint_core.networks.spec import UnetSpec

_DILATIONS = (1, 2)


class Unet(Generator):
    """The whole image, from the photograph and the mask as a fourth channel: see `Generator`.

    The hole is first filled smoothly (`push_pull`). That is what the network is shown instead of the channel means, and
    what it predicts a change to (He et al., CVPR 2016): it starts from a fill without an outline, where it would else
    have to learn to continue each colour.

    Four 4x4 convolutions of stride 2 take 128 pixels to 8x8 maps of 8 times `width` channels. There, residual blocks of
    3x3 convolutions, dilated by 1 and 2 in turn, carry what is known across holes: two of them by 48 pixels each way, each
    further pair by as much again. With `middle=fourier`, every second block is a `FourierUnit` instead, and sees the whole
    image. Four transposed convolutions, or with `upsampling=nearest` four `EnlargingConvolution`, go back; each sees,
    beside the one before, the encoder's maps of its size, so that what is known reaches the edge of the hole sharp.

    BatchNorm after every convolution but the last, LeakyReLU 0.2. With `gated`, each of these is multiplied by a
    sigmoid gate from a convolution of its own (Yu et al., "Free-Form Image Inpainting with Gated Convolution", ICCV
    2019), of one channel, which costs a fraction of a gate for each (Yi et al., CVPR 2020).
    """

    def __init__(self, spec: UnetSpec) -> None:
        super().__init__()
        width, gated = spec.width, spec.gated

        def up(channels_in: int, channels_out: int) -> _Layer:
            gate = _enlarge(spec, channels_in, 1, bias=True) if gated else None
            return _Layer(_enlarge(spec, channels_in, channels_out, bias=False), gate, channels_out)

        self.encoder = nn.ModuleList(
            [
                _down(4, width, gated),
                _down(width, 2 * width, gated),
                _down(2 * width, 4 * width, gated),
                _down(4 * width, 8 * width, gated),
            ]
        )
        self.middle = nn.Sequential(
            *(_block(spec, block) for block in range(spec.blocks)),
        )
        self.decoder = nn.ModuleList([up(8 * width, 4 * width), up(8 * width, 2 * width), up(4 * width, width)])
        self.change = _enlarge(spec, 2 * width, 3, bias=True)

    def forward(self, shown: Tensor, masks: Tensor | None = None) -> Tensor:
        """See `Generator`.

        Raises:
            ValueError: without masks.
        """
        if masks is None:
            raise ValueError("a U-Net needs the masks of the holes: pass masks")
        smooth = push_pull(shown, masks)
        maps = torch.cat([smooth, masks.to(smooth.dtype)], dim=1)
        seen = []
        for layer in self.encoder:
            maps = layer(maps)
            seen.append(maps)
        maps = self.middle(seen.pop())
        for layer in self.decoder:
            maps = torch.cat([layer(maps), seen.pop()], dim=1)
        change: Tensor = self.change(maps)
        return (smooth + change).clamp(-1.0, 1.0)


class _Layer(nn.Module):
    """A convolution, BatchNorm, LeakyReLU, and, with a gate, what the gate lets through of that."""

    def __init__(self, convolution: nn.Module, gate: nn.Module | None, channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.LeakyReLU(0.2, inplace=True))
        self.gate = gate

    def forward(self, maps: Tensor) -> Tensor:
        features: Tensor = self.features(maps)
        return features if self.gate is None else features * self.gate(maps).sigmoid()


class _Residual(nn.Module):
    def __init__(self, channels: int, dilation: int, gated: bool) -> None:
        super().__init__()

        def convolution(channels_out: int, *, bias: bool) -> nn.Module:
            return nn.Conv2d(channels, channels_out, 3, padding=dilation, dilation=dilation, bias=bias)

        self.layer = _Layer(convolution(channels, bias=False), convolution(1, bias=True) if gated else None, channels)

    def forward(self, maps: Tensor) -> Tensor:
        change: Tensor = self.layer(maps)
        return maps + change


def _down(channels_in: int, channels_out: int, gated: bool) -> _Layer:
    gate = nn.Conv2d(channels_in, 1, 4, stride=2, padding=1) if gated else None
    return _Layer(nn.Conv2d(channels_in, channels_out, 4, stride=2, padding=1, bias=False), gate, channels_out)


def _block(spec: UnetSpec, number: int) -> nn.Module:
    channels = 8 * spec.width
    match spec.middle:
        case "dilated":
            return _Residual(channels, _DILATIONS[number % len(_DILATIONS)], spec.gated)
        case "fourier":
            if number % 2:
                return FourierUnit(channels)
            return _Residual(channels, _DILATIONS[number // 2 % len(_DILATIONS)], spec.gated)
        case _:
            assert_never(spec.middle)


def _enlarge(spec: UnetSpec, channels_in: int, channels_out: int, *, bias: bool) -> nn.Module:
    """A convolution that doubles height and width."""
    match spec.upsampling:
        case "transposed":
            return nn.ConvTranspose2d(channels_in, channels_out, 4, stride=2, padding=1, bias=bias)
        case "nearest":
            return EnlargingConvolution(channels_in, channels_out, bias=bias)
        case _:
            assert_never(spec.upsampling)
