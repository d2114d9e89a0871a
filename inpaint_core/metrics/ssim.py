"""Structural similarity of image batches: SSIM (Wang et al., IEEE TIP 2004) and MS-SSIM (Wang et al., Asilomar 2003).

Differentiable, on any device, and fast enough to train with: the Gaussian window is two products with a banded matrix,
and the gradient of the means is written out and worked out with them (`ssim_window`, `ssim_sums`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from inpaint_core.metrics.ssim_formula import HALO, SCALE_WEIGHTS, WINDOW, constants, scale_count, similarity
from inpaint_core.metrics.ssim_sums import similarity_sums
from inpaint_core.metrics.ssim_window import full_precision, local_means

FLOOR = 0.01
"""Below this mean similarity of a scale, MS-SSIM bends away from the paper's formula: see `ms_ssim`."""


def ssim_map(prediction: Tensor, truth: Tensor, *, data_range: float) -> Tensor:
    """Structural similarity in every 11x11 window that lies wholly inside the images.

    Gaussian window of sigma 1.5, K1 0.01, K2 0.03, population covariance: scikit-image's
    `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)` less its outer 5 pixels.

    Args:
        prediction, truth: (B, C, H, W), both sides 11 or more. Computed in float64 where both are float64, otherwise
            in float32, whatever autocast or the matmul precision says: variances are differences of nearly equal
            numbers.
        data_range: largest value less smallest value that the samples can have, e.g. 2 for -1..1.

    Returns:
        (B, C, H - 10, W - 10), each channel on its own, -1..1; the value at (i, j) is of the window around the pixel
        (i + 5, j + 5). Differentiable once, with respect to both images.

    Raises:
        ValueError: the shapes differ or are not as above, or `data_range` is not positive.
    """
    _check(prediction, truth, None, data_range)
    x, y = _prepared(prediction, truth)
    u, v, s, p = local_means(x, y, x * x + y * y, x * y)
    return similarity(u, v, s, p, data_range)


def ssim(prediction: Tensor, truth: Tensor, *, data_range: float, mask: Tensor | None = None) -> Tensor:
    """Mean structural similarity of each image, over its channels and windows.

    Args:
        prediction, truth, data_range: as for `ssim_map`.
        mask: (B, 1, H, W) bool; only windows *centred* on its True pixels count. An image where no such window lies
            wholly inside (the mask is empty, or keeps to the outer 5 pixels) gets the mean over all of its windows.

    Returns:
        (B,), -1..1.

    Raises:
        ValueError: as for `ssim_map`, or the mask is not as above.
    """
    _check(prediction, truth, mask, data_range)
    return _mean_similarity(prediction, truth, mask, data_range, luminance=True).mean(1)


def ms_ssim(prediction: Tensor, truth: Tensor, *, data_range: float, mask: Tensor | None = None) -> Tensor:
    """Mean structural similarity over several scales, each half as fine as the one before, of each image.

    The product over the scales of (mean contrast and structure) ** weight, with the luminance at the coarsest one
    only; channel by channel, then the mean over the channels. Five scales need 176 pixels a side. Smaller images take
    as many as hold a window, their weights divided by their sum: 3 at 64 pixels, 4 at 128. Odd sides lose their last
    row or column when they are halved.

    The paper's formula has no value where a scale's mean is negative, and an infinite slope at 0: both are where a
    network starts from. Means m under `FLOOR` are therefore replaced by FLOOR exp(m / FLOOR - 1), which joins them
    smoothly, is positive, and still tells the network which way to go; cutting them off at 0, as is common, does not.

    Args:
        prediction, truth, data_range: as for `ssim_map`.
        mask: as for `ssim`; in coarser scales, a pixel is masked where any of those that it covers is.

    Returns:
        (B,), above 0, at most 1.

    Raises:
        ValueError: as for `ssim`.
    """
    _check(prediction, truth, mask, data_range)
    scales = scale_count(min(prediction.shape[-2:]))
    # All five add up to 1.0001 in the paper, and are left as they are.
    total = sum(SCALE_WEIGHTS[:scales]) if scales < len(SCALE_WEIGHTS) else 1.0
    exponents = [weight / total for weight in SCALE_WEIGHTS[:scales]]
    x, y = _prepared(prediction, truth)
    result = x.new_ones(x.shape[:2])
    for scale, exponent in enumerate(exponents):
        if scale > 0:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
            mask = None if mask is None else F.max_pool2d(mask.float(), 2).bool()
        mean = _mean_similarity(x, y, mask, data_range, luminance=scale == scales - 1)
        result = result * _positive(mean) ** exponent
    return result.mean(1)


def _check(prediction: Tensor, truth: Tensor, mask: Tensor | None, data_range: float) -> None:
    shape = prediction.shape
    if truth.shape != shape or len(shape) != 4 or min(shape[-2:]) < WINDOW:
        raise ValueError(
            f"SSIM compares two batches of one shape (B, C, H, W) with sides of {WINDOW} pixels or more, not "
            f"{tuple(shape)} and {tuple(truth.shape)}."
        )
    if mask is not None and (mask.dtype != torch.bool or mask.shape != (shape[0], 1, *shape[-2:])):
        raise ValueError(
            f"The mask of SSIM is {(shape[0], 1, *shape[-2:])} bool for images {tuple(shape)}, not "
            f"{tuple(mask.shape)} {mask.dtype}."
        )
    if not data_range > 0:
        raise ValueError(f"data_range is {data_range}; it must be positive.")


def _positive(mean: Tensor) -> Tensor:
    # The clamp keeps the branch that is not taken finite: its gradient is multiplied by 0, and inf * 0 is NaN.
    return torch.where(mean < FLOOR, FLOOR * torch.exp(mean.clamp(max=FLOOR) / FLOOR - 1), mean)


def _prepared(prediction: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.float64 if prediction.dtype == truth.dtype == torch.float64 else torch.float32
    return prediction.to(dtype), truth.to(dtype)


def _mean_similarity(
    prediction: Tensor, truth: Tensor, mask: Tensor | None, data_range: float, *, luminance: bool
) -> Tensor:
    """(B, C) means over the windows that count."""
    x, y = _prepared(prediction, truth)
    if not torch.is_grad_enabled():  # which an autograd function cannot tell
        x, y = x.detach(), y.detach()
    weights: Tensor | None = None
    count: Tensor | float = float((x.shape[2] - 2 * HALO) * (x.shape[3] - 2 * HALO))
    if mask is not None:
        centres = mask[:, :, HALO:-HALO, HALO:-HALO]
        weights = (centres | ~centres.flatten(1).any(1)[:, None, None, None]).to(x.dtype)
        count = weights.sum((2, 3))
    with full_precision(x.device):
        sums = similarity_sums(x, y, weights, *constants(data_range), luminance=luminance)
    return sums / count
