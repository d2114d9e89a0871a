"""Output shape and parameter count of every layer of both networks, against tables written out by hand.

Rows are (layer, channels, side, parameters), the counts as they are worked out: 16 weights of a 4x4 kernel for each pair
of channels, a bias where no BatchNorm follows, two parameters a BatchNorm channel.
"""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from inpaint_core.networks.context_encoder import ContextEncoder
from inpaint_core.networks.discriminator import Discriminator
from inpaint_core.networks.spec import ContextEncoderSpec

Row = tuple[str, int, int, int]


def rows(network: nn.Module, images: Tensor) -> list[Row]:
    """Every convolution and BatchNorm in the order in which they run."""
    found: list[Row] = []

    def note(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        batch, channels, height, width = output.shape
        assert (batch, height) == (len(images), width)
        found.append((type(module).__name__, channels, height, sum(p.numel() for p in module.parameters())))

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
            module.register_forward_hook(note)
    network(images)
    return found


def encoder(bottleneck: int) -> list[Row]:
    return [
        ("Conv2d", 64, 64, 3 * 64 * 16 + 64),
        ("Conv2d", 64, 32, 64 * 64 * 16),
        ("BatchNorm2d", 64, 32, 128),
        ("Conv2d", 128, 16, 64 * 128 * 16),
        ("BatchNorm2d", 128, 16, 256),
        ("Conv2d", 256, 8, 128 * 256 * 16),
        ("BatchNorm2d", 256, 8, 512),
        ("Conv2d", 512, 4, 256 * 512 * 16),
        ("BatchNorm2d", 512, 4, 1024),
        ("Conv2d", bottleneck, 1, 512 * bottleneck * 16),
        ("BatchNorm2d", bottleneck, 1, 2 * bottleneck),
    ]


def decoder(bottleneck: int) -> list[Row]:
    return [
        ("ConvTranspose2d", 512, 4, bottleneck * 512 * 16),
        ("BatchNorm2d", 512, 4, 1024),
        ("ConvTranspose2d", 256, 8, 512 * 256 * 16),
        ("BatchNorm2d", 256, 8, 512),
        ("ConvTranspose2d", 128, 16, 256 * 128 * 16),
        ("BatchNorm2d", 128, 16, 256),
        ("ConvTranspose2d", 64, 32, 128 * 64 * 16),
        ("BatchNorm2d", 64, 32, 128),
    ]


LAST: dict[str, list[Row]] = {
    "center": [("ConvTranspose2d", 3, 64, 64 * 3 * 16 + 3)],
    "full": [
        ("ConvTranspose2d", 64, 64, 64 * 64 * 16),
        ("BatchNorm2d", 64, 64, 128),
        ("ConvTranspose2d", 3, 128, 64 * 3 * 16 + 3),
    ],
}

# Width 32 and bottleneck 512: the same list with half the channels.
NARROW_FULL: list[Row] = [
    ("Conv2d", 32, 64, 1_568),
    ("Conv2d", 32, 32, 16_384),
    ("BatchNorm2d", 32, 32, 64),
    ("Conv2d", 64, 16, 32_768),
    ("BatchNorm2d", 64, 16, 128),
    ("Conv2d", 128, 8, 131_072),
    ("BatchNorm2d", 128, 8, 256),
    ("Conv2d", 256, 4, 524_288),
    ("BatchNorm2d", 256, 4, 512),
    ("Conv2d", 512, 1, 2_097_152),
    ("BatchNorm2d", 512, 1, 1_024),
    ("ConvTranspose2d", 256, 4, 2_097_152),
    ("BatchNorm2d", 256, 4, 512),
    ("ConvTranspose2d", 128, 8, 524_288),
    ("BatchNorm2d", 128, 8, 256),
    ("ConvTranspose2d", 64, 16, 131_072),
    ("BatchNorm2d", 64, 16, 128),
    ("ConvTranspose2d", 32, 32, 32_768),
    ("BatchNorm2d", 32, 32, 64),
    ("ConvTranspose2d", 32, 64, 16_384),
    ("BatchNorm2d", 32, 64, 64),
    ("ConvTranspose2d", 3, 128, 1_539),
]


def generator_rows(output: Literal["center", "full"], bottleneck: int, width: int) -> list[Row]:
    with torch.device("meta"):
        network = ContextEncoder(ContextEncoderSpec(output=output, bottleneck=bottleneck, width=width))
        return rows(network, torch.empty(2, 3, 128, 128))


@pytest.mark.parametrize("output", ["center", "full"])
@pytest.mark.parametrize("bottleneck", [4000, 512])
def test_every_layer_of_the_generator(output: Literal["center", "full"], bottleneck: int) -> None:
    expected = encoder(bottleneck) + decoder(bottleneck) + LAST[output]
    assert generator_rows(output, bottleneck, 64) == expected


def test_every_layer_of_a_narrow_generator() -> None:
    assert generator_rows("full", 512, 32) == NARROW_FULL
    without_step = [row for index, row in enumerate(NARROW_FULL) if index not in (19, 20)]
    without_step[-1] = ("ConvTranspose2d", 3, 64, 1_539)
    assert generator_rows("center", 512, 32) == without_step


DISCRIMINATORS: dict[tuple[int, int], list[Row]] = {
    (64, 64): [
        ("Conv2d", 64, 32, 3 * 64 * 16 + 64),
        ("Conv2d", 128, 16, 64 * 128 * 16),
        ("BatchNorm2d", 128, 16, 256),
        ("Conv2d", 256, 8, 128 * 256 * 16),
        ("BatchNorm2d", 256, 8, 512),
        ("Conv2d", 512, 4, 256 * 512 * 16),
        ("BatchNorm2d", 512, 4, 1024),
        ("Conv2d", 1, 1, 512 * 16 + 1),
    ],
    (128, 64): [
        ("Conv2d", 64, 64, 3 * 64 * 16 + 64),
        ("Conv2d", 64, 32, 64 * 64 * 16),
        ("BatchNorm2d", 64, 32, 128),
        ("Conv2d", 128, 16, 64 * 128 * 16),
        ("BatchNorm2d", 128, 16, 256),
        ("Conv2d", 256, 8, 128 * 256 * 16),
        ("BatchNorm2d", 256, 8, 512),
        ("Conv2d", 512, 4, 256 * 512 * 16),
        ("BatchNorm2d", 512, 4, 1024),
        ("Conv2d", 1, 1, 512 * 16 + 1),
    ],
    (128, 32): [
        ("Conv2d", 32, 64, 1_568),
        ("Conv2d", 32, 32, 16_384),
        ("BatchNorm2d", 32, 32, 64),
        ("Conv2d", 64, 16, 32_768),
        ("BatchNorm2d", 64, 16, 128),
        ("Conv2d", 128, 8, 131_072),
        ("BatchNorm2d", 128, 8, 256),
        ("Conv2d", 256, 4, 524_288),
        ("BatchNorm2d", 256, 4, 512),
        ("Conv2d", 1, 1, 4_097),
    ],
}


@pytest.mark.parametrize(("side", "width"), list(DISCRIMINATORS))
def test_every_layer_of_the_discriminator(side: int, width: int) -> None:
    with torch.device("meta"):
        network = Discriminator(side, width)
        found = rows(network, torch.empty(2, 3, side, side))
    assert found == DISCRIMINATORS[side, width]
    assert sum(row[3] for row in found) == sum(p.numel() for p in network.parameters())
