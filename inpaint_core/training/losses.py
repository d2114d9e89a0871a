"""The losses of the Context Encoder's training: pure functions of predictions and logits.

Everything is computed in float32, under autocast too. Images are on the scale [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor

from inpaint_core.metrics.ssim import ms_ssim, ssim
from inpaint_core.networks.compositing import composite
from inpaint_core.networks.spec import overlap
from inpaint_core.training.config import LossConfig, Term
from inpaint_core.training.gaussian_window import window_weights

DATA_RANGE = 2.0
"""Of images in [-1, 1], on which the published results measure SSIM: its luminance factor depends on where 0 lies."""


@dataclass(frozen=True)
class GeneratorLoss:
    """What the generator minimises, and what it is made of.

    `total` is a scalar. `parts` has the terms that are on, before their weights: `adversarial`, `l1`, `l2`, `ssim` (as
    1 - SSIM), `ms_ssim` (as 1 - MS-SSIM), `features` and `feature_matching`, scalars that carry no gradient.
    """

    total: Tensor
    parts: dict[str, Tensor]


def discriminator_loss(
    kind: Literal["bce", "lsgan"], real_logits: Tensor, fake_logits: Tensor, mask: Tensor | None = None
) -> Tensor:
    """What the discriminator minimises: its loss on real images plus its loss on predictions, each a mean.

    `bce` is the binary cross-entropy of the sigmoid of the logits, `lsgan` the squared distance of the logits to 1 and
    0 (Mao et al., ICCV 2017, without their factor 1/2). The sum, not the mean, of the two is what Pathak et al.'s code
    descends, by two backward passes.

    Args:
        kind: which of the two.
        real_logits, fake_logits: (B,) of the discriminator, or (B, 1, h, w), one per patch; any floating dtype. Detach the
            prediction before.
        mask: (B, 1, H, W) bool, True = hole: patches of the composites without a pixel of it have the label of real ones.
            None: all are fake. For logits of patches only.

    Returns:
        A float32 scalar.
    """
    real_labels, fake_labels = torch.ones_like(real_logits), torch.zeros_like(fake_logits)
    if mask is not None:
        fake_labels = 1 - patches_of_holes(mask, fake_logits).to(fake_logits.dtype)
    return _logits_losses(kind, real_logits, real_labels).mean() + _logits_losses(kind, fake_logits, fake_labels).mean()


def patches_of_holes(mask: Tensor, logits: Tensor) -> Tensor:
    """Which logits (B, 1, h, w) are of patches that hold a pixel of the hole: bool of their shape.

    Args:
        mask: (B, 1, H, W) bool; H and W are multiples of h and w.
        logits: (B, 1, h, w).
    """
    return F.adaptive_max_pool2d(mask.float(), logits.shape[-2:]) > 0


def feature_matching_loss(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of the discriminator's maps on fills and on photographs, a mean over the layers.

    Wang et al., "High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs", CVPR 2018. The last
    maps, the logits, are left out.

    Args:
        fake, real: the maps of each layer, (B, C, h, w); `real` carries no gradient.
    """
    distances = [F.l1_loss(x.float(), y.detach().float()) for x, y in zip(fake[:-1], real[:-1], strict=True)]
    return torch.stack(distances).mean()


def generator_loss(
    config: LossConfig,
    prediction: Tensor,
    truth: Tensor,
    fake_logits: Tensor | None,
    mask: Tensor | None,
    distances: Mapping[Term, Tensor] | None = None,
) -> GeneratorLoss:
    """adversarial_weight L_adv + reconstruction_weight (l1 L1 + l2 L2 + ssim (1 - SSIM) + ms_ssim (1 - MS-SSIM)).

    L_adv is the discriminator's loss on the predictions with the labels of real images; of a discriminator of patches, on
    those that hold a pixel of the hole. `distances` are added by their weights. The others, for `center` (no mask):

    - L1 and L2 are the mean over all values of w |e| and w e^2; w is `overlap_weight` in the outer pixels that the
      generator is shown (`spec.overlap`: a sixteenth of the patch on each side), and 1 inside. Pathak et
      al.'s code multiplies the gradient of the plain mean by w, so that w is not divided by its mean, unless by
      `normalise_overlap`.
    - SSIM and MS-SSIM are of the patch.

    For `full`:

    - L1 and L2 are the mean over the hole, image by image, so that each image counts the same however large its hole
      is, as it does in the metrics; an image without a hole adds 0. `outside_weight` times the same over the rest of
      the image is added.
    - With `l1_window` gaussian, the L1 of an image is the mean over Gaussian windows instead (`gaussian_window`): of the hole's
      pixels (and of the others), or of the patch, after the weights w.
    - SSIM and MS-SSIM are of the composite (the prediction in the hole, the truth elsewhere), over the windows that are
      centred on the hole's pixels: what borders on the hole counts by how well the prediction continues it.

    Args:
        config: weights and kinds. A term of weight 0 is not computed.
        prediction, truth: (B, 3, H, W) in [-1, 1]: the patch for `center`, the whole images for `full`.
        fake_logits: (B,) or (B, 1, h, w) of the discriminator for the predictions (`full`: composites).
        mask: (B, 1, H, W) bool, True = hole, for `full`; None for `center`.
        distances: `features` and `feature_matching`, scalars, where they are on.

    Raises:
        ValueError: the shapes do not belong together, no term has a weight, or the adversarial term is on and there are
            no logits.
    """
    _check(prediction, truth, mask)
    prediction, truth = prediction.float(), truth.float()
    distances = distances or {}
    weighted: dict[Term, float] = {
        "adversarial": config.adversarial_weight,
        "l1": config.reconstruction_weight * config.l1,
        "l2": config.reconstruction_weight * config.l2,
        "ssim": config.reconstruction_weight * config.ssim,
        "ms_ssim": config.reconstruction_weight * config.ms_ssim,
        "features": config.reconstruction_weight * config.features if "features" in distances else 0.0,
        "feature_matching": config.feature_matching if "feature_matching" in distances else 0.0,
    }
    weights = {name: weight for name, weight in weighted.items() if weight > 0}
    if not weights:
        raise ValueError("the loss has no term: set adversarial_weight, or reconstruction_weight and one of its terms")
    filled = prediction if mask is None else composite(prediction, truth, mask)
    terms: dict[Term, Tensor] = {}
    for name in weights:
        match name:
            case "adversarial":
                if fake_logits is None:
                    raise ValueError("the adversarial term needs fake_logits, or adversarial_weight 0")
                terms[name] = _adversarial(config, fake_logits, mask)
            case "l1":
                errors = (prediction - truth).abs()
                terms[name] = _mean_error(errors, mask, config, _MEANS[config.l1_window])
            case "l2":
                terms[name] = _mean_error((prediction - truth).square(), mask, config, _mean_where)
            case "ssim":
                terms[name] = 1 - ssim(filled, truth, data_range=DATA_RANGE, mask=mask).mean()
            case "ms_ssim":
                terms[name] = 1 - ms_ssim(filled, truth, data_range=DATA_RANGE, mask=mask).mean()
            case "features" | "feature_matching":
                terms[name] = distances[name]
            case _:
                assert_never(name)
    total = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
    return GeneratorLoss(total, {str(name): term.detach() for name, term in terms.items()})


def _adversarial(config: LossConfig, logits: Tensor, mask: Tensor | None) -> Tensor:
    losses = _logits_losses(config.adversarial, logits, torch.ones_like(logits))
    if mask is None or logits.ndim == 1:
        return losses.mean()
    judged = patches_of_holes(mask, logits)
    return (losses * judged).sum() / judged.sum().clamp(min=1)


def _logits_losses(kind: Literal["bce", "lsgan"], logits: Tensor, labels: Tensor) -> Tensor:
    """Logit by logit."""
    logits, labels = logits.float(), labels.float()
    match kind:
        case "bce":
            return F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        case "lsgan":
            return F.mse_loss(logits, labels, reduction="none")
        case _:
            assert_never(kind)


def _mean_error(
    errors: Tensor, mask: Tensor | None, config: LossConfig, mean_where: Callable[[Tensor, Tensor | None], Tensor]
) -> Tensor:
    if mask is None:
        return mean_where(errors * _overlap_weights(errors, config), None)
    loss = mean_where(errors, mask)
    return loss + config.outside_weight * mean_where(errors, ~mask) if config.outside_weight > 0 else loss


def _overlap_weights(errors: Tensor, config: LossConfig) -> Tensor:
    """(H, W) weights of the errors of a patch."""
    height, width = errors.shape[-2:]
    band = overlap(2 * height)  # the patch has half the side of its image
    inside = (height - 2 * band) * (width - 2 * band) / (height * width)
    mean = inside + config.overlap_weight * (1 - inside) if config.normalise_overlap else 1.0
    weights = errors.new_full((height, width), config.overlap_weight / mean)
    weights[band:-band, band:-band] = 1 / mean
    return weights


def _mean_where(errors: Tensor, mask: Tensor | None) -> Tensor:
    """The mean over the images of each image's mean where the mask is True (None: everywhere), 0 where that is nowhere."""
    if mask is None:
        return errors.mean()
    per_pixel = errors.mean(1, keepdim=True)
    pixels = mask.sum((1, 2, 3)).clamp(min=1)
    return ((per_pixel * mask).sum((1, 2, 3)) / pixels).mean()


def _mean_under_windows(errors: Tensor, mask: Tensor | None) -> Tensor:
    """As `_mean_where`, but of Gaussian windows around the pixels where the mask is True."""
    if mask is None:
        mask = torch.ones_like(errors[:1, :1], dtype=torch.bool)
    return (errors.mean(1, keepdim=True) * window_weights(mask)).sum((1, 2, 3)).mean()


_MEANS = MappingProxyType({"none": _mean_where, "gaussian": _mean_under_windows})


def _check(prediction: Tensor, truth: Tensor, mask: Tensor | None) -> None:
    if prediction.ndim != 4 or prediction.shape != truth.shape:
        raise ValueError(
            f"prediction and truth are (B, 3, H, W) of one shape, not {tuple(prediction.shape)} and "
            f"{tuple(truth.shape)}"
        )
    expected = (prediction.shape[0], 1, *prediction.shape[-2:])
    if mask is not None and (mask.shape != expected or mask.dtype != torch.bool):
        raise ValueError(f"the mask is {expected} bool, not {tuple(mask.shape)} {mask.dtype}")
