"""The discriminators of the training: that of DCGAN (Radford et al., ICLR 2016), and one that judges patches."""

from __future__ import annotations

from typing import Literal, assert_never

import torch
from torch import Tensor, nn

from inpaint_core.networks.context_encoder import extra_steps
from inpaint_core.networks.generator import initialise

_SIDES = (64, 128, 256, 512)


class Discriminator(nn.Module):
    """(B, 3, side, side) in [-1, 1] to one logit per image, (B,): positive where it takes the image for a real one.

    Four 4x4 convolutions of stride 2, of `width`, 2, 4 and 8 times `width` channels, take 64 pixels to 4x4; a last one
    takes those to the logit. 128 pixels need one step more, 256 two and 512 three, which keep their `width` channels and stand
    after the first, as in the generator's encoder and in the paper's code for random regions: the list of widths stays that
    of DCGAN, and the steps have few weights, where a fifth doubling would take three quarters of all.

    LeakyReLU 0.2; BatchNorm after every convolution but the first and the last, which therefore have a bias. The
    sigmoid is left to the loss, which is exact for logits only.

    Args:
        side: 64, 128, 256 or 512: that of the square that a `center` generator predicts, or of the composite of a `full` one.
        width: channels of the largest feature maps.

    Raises:
        ValueError: another side.
    """

    def __init__(self, side: int, width: int) -> None:
        super().__init__()
        if side not in _SIDES:
            raise ValueError(f"a discriminator takes images of 64, 128, 256 or 512 pixels a side, not {side}")
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            *(module for _ in range(extra_steps(side)) for module in _down(width, width)),
            *_down(width, 2 * width),
            *_down(2 * width, 4 * width),
            *_down(4 * width, 8 * width),
            nn.Conv2d(8 * width, 1, 4),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits. Shapes and ranges: see the class."""
        logits: Tensor = self.layers(images)
        return logits.flatten()


class PatchDiscriminator(nn.Module):
    """(B, 3, side, side) in [-1, 1] to a logit per patch, (B, 1, side / 8, side / 8): positive where it takes it for real.

    PatchGAN (Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017): 4x4
    convolutions of `width`, 2, 4 and 8 times `width` channels, the first three of stride 2, and a last one to the logit, so
    that a logit sees 54x54 pixels (70x70 there). 3x3 instead of 4x4 where the stride is 1, so that each logit is centred on its 8x8 cell.

    LeakyReLU 0.2; BatchNorm after every convolution but the first and the last.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)),
                nn.Sequential(*_down(width, 2 * width)),
                nn.Sequential(*_down(2 * width, 4 * width)),
                nn.Sequential(
                    nn.Conv2d(4 * width, 8 * width, 3, padding=1, bias=False),
                    nn.BatchNorm2d(8 * width),
                    nn.LeakyReLU(0.2, inplace=True),
                ),
                nn.Conv2d(8 * width, 1, 3, padding=1),
            ]
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits. Shapes and ranges: see the class."""
        return self.features(images)[-1]

    def features(self, images: Tensor) -> list[Tensor]:
        """The maps of each layer, the logits last."""
        maps, all_maps = images, []
        for layer in self.layers:
            maps = layer(maps)
            all_maps.append(maps)
        return all_maps


def _down(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels_in, channels_out, 4, stride=2, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(channels_out), nn.LeakyReLU(0.2, inplace=True)


def build_discriminator(
    side: int, width: int, generator: torch.Generator, kind: Literal["dcgan", "patch"] = "dcgan"
) -> Discriminator | PatchDiscriminator:
    """A discriminator with new weights drawn from `generator`, on its device, in training mode.

    Raises:
        ValueError: `side` is not 64, 128, 256 or 512 (`dcgan`).
    """
    # Built without memory first: the constructors of the layers would draw from the global random state.
    network: Discriminator | PatchDiscriminator
    with torch.device("meta"):
        match kind:
            case "dcgan":
                network = Discriminator(side, width)
            case "patch":
                network = PatchDiscriminator(width)
            case _:
                assert_never(kind)
    network.to_empty(device=generator.device)
    initialise(network, generator)
    return network
