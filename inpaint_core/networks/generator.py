"""What all generators share: what they see, what they predict, and the weights that they start with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from inpaint_core.networks.spec import IMAGE_SIZE

HOLE_SIZE = 64
"""Side in pixels of the square, in the middle of the image, that a `center` generator predicts."""

OVERLAP = 4
"""A `center` generator is shown this many pixels of the predicted square on each side, so that it continues them."""

_BEGIN = (IMAGE_SIZE - HOLE_SIZE) // 2

PREDICTED = slice(_BEGIN, _BEGIN + HOLE_SIZE)
"""Rows, and columns, of the square that a `center` generator predicts."""

_HIDDEN = slice(PREDICTED.start + OVERLAP, PREDICTED.stop - OVERLAP)

CHANNEL_MEANS = (117 / 255, 104 / 255, 123 / 255)
"""What a hole is filled with before the generator sees it: R, G, B in [0, 1] (the constants of the paper's code)."""


class Generator(nn.Module):
    """A network that fills holes.

    `forward` takes `shown`, (B, 3, 128, 128) in [-1, 1], photographs as `hidden` leaves them, and `masks`,
    (B, 1, 128, 128) bool, True = hole, or None for networks that predict the middle of the image only. It gives the
    prediction in [-1, 1]: (B, 3, 64, 64), the middle of the image, or (B, 3, 128, 128).
    """

    def forward(self, shown: Tensor, masks: Tensor | None = None) -> Tensor:
        """See the class."""
        raise NotImplementedError


def hole_fill(like: Tensor) -> Tensor:
    """`CHANNEL_MEANS` on the scale [-1, 1], (1, 3, 1, 1) with the dtype and device of `like`."""
    means = torch.tensor(CHANNEL_MEANS, dtype=like.dtype, device=like.device)
    return (2 * means - 1).view(1, 3, 1, 1)


def hidden(images: Tensor, masks: Tensor | None) -> Tensor:
    """What a generator is shown: images (B, 3, 128, 128) in [-1, 1] with their holes filled by the channel means.

    Args:
        images: the photographs; not changed.
        masks: (B, 1, 128, 128) bool, True = hole, for `full`; None for `center`, which knows its hole: the square that it
            predicts less the overlap.
    """
    if masks is not None:
        return torch.where(masks, hole_fill(images), images)
    shown = images.clone()
    shown[:, :, _HIDDEN, _HIDDEN] = hole_fill(images)
    return shown


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Draw new weights in place: convolutions N(0, 0.02), BatchNorm weights N(1, 0.02), biases 0 (Radford et al. 2016).

    Running statistics are reset. `generator` has to be on the device of the network.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            nn.init.normal_(module.weight, 1.0, 0.02, generator=generator)
            nn.init.zeros_(module.bias)
