"""What all generators share: their interface, and the weights that they start with."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Generator(nn.Module):
    """A network that fills holes.

    `forward` takes `shown`, (B, 3, S, S) in [-1, 1], S the `size` of its spec, photographs as `compositing.hide` leaves them, and
    `masks`, (B, 1, S, S) bool, True = hole, or None for networks that predict the middle of the image only. It gives the
    prediction in [-1, 1]: (B, 3, S / 2, S / 2), the middle of the image, or (B, 3, S, S).
    """

    def forward(self, shown: Tensor, masks: Tensor | None = None) -> Tensor:
        """See the class."""
        raise NotImplementedError


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
