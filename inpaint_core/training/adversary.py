"""What the discriminator computes in its own step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

R1_STEPS = 16
"""Steps between two R1 penalties, each with so many times its weight (Karras et al., StyleGAN2, CVPR 2020)."""


class Judged(NamedTuple):
    """Logits of photographs and of fills, and the R1 penalty: a float32 scalar, 0 where it was not asked for."""

    real: Tensor
    fake: Tensor
    penalty: Tensor


class RealAndFake(nn.Module):
    """The discriminator on truth and on fills, one after the other: BatchNorm sees each kind as a batch of its own.

    One forward call for all, since that is what DistributedDataParallel expects of a backward pass.
    """

    def __init__(self, discriminator: nn.Module) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, real: Tensor, fake: Tensor, penalised: bool = False) -> Judged:
        """See `Judged`; with `penalised`, the penalty is computed."""
        if not penalised:
            return Judged(self.discriminator(real), self.discriminator(fake), real.new_zeros(()))
        real = real.detach().requires_grad_()
        logits = self.discriminator(real)
        return Judged(logits, self.discriminator(fake), _r1(logits, real))


def _r1(logits: Tensor, images: Tensor) -> Tensor:
    """Mean over the images of the squared norm of the gradient of their logits' sum (Mescheder et al., ICML 2018)."""
    (gradient,) = torch.autograd.grad(logits.float().sum(), images, create_graph=True)
    return gradient.float().square().sum((1, 2, 3)).mean()
