"""Structural similarity of image batches: SSIM (Wang et al., IEEE TIP 2004) and MS-SSIM (Wang et al., Asilomar 2003).

Differentiable, on any device, and fast enough to train with: the Gaussian window is two products with a banded matrix,
and the gradient of the means is written out and worked out with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from inpaint_core.metrics.ssim_formula import HALO, SCALE_WEIGHTS, SIGMA, WINDOW, constants, scale_count, similarity

CHUNK = 2**17
"""Samples of an image batch that a CPU's thread works on at once: what is made of them stays in its cache."""

BAND = 18
"""Rows or columns of the result of one product with a banded matrix on a CPU: see `_products`."""

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


def local_means(*images: Tensor) -> tuple[Tensor, ...]:
    """Means under the Gaussian window of each of several (B, C, H, W) of one floating dtype: (B, C, H - 10, W - 10) of it."""
    planes = torch.stack([_rows_first(image) for image in images], 1)
    with _full_precision(planes.device):
        rows, columns = _window_matrix(len(planes), planes), _window_matrix(planes.shape[-1], planes)
        means = _products(rows, planes, columns.T)
    return tuple(mean.permute(1, 2, 0, 3).contiguous() for mean in means.unbind(1))


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


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Products of float32 matrices in float32: no autocast, no TF32, no bfloat16. The last two are settings of the process."""
    backend: Any = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    matmul = backend.matmul
    before = matmul.fp32_precision
    reduced = before not in ("none", "ieee")
    if reduced:
        matmul.fp32_precision = "ieee"
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        if reduced:
            matmul.fp32_precision = before


def _window_matrix(size: int, like: Tensor) -> Tensor:
    """(size - 10, size): row i holds the window's weights at columns i to i + 10. On the device of `like`; not to be changed."""
    return _window_of(size, like.dtype, like.device)


@lru_cache(maxsize=64)
def _window_of(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    # Kept, for training: it takes ten operations, as many as the rest of a scale. A tensor made in inference mode could not
    # be used in training later.
    with torch.inference_mode(False), torch.no_grad():
        # In float64: where the weights do not add up to 1, the variances of bright regions are off.
        columns = torch.arange(size, dtype=torch.float64, device=device)
        distance = columns - columns[: size - 2 * HALO, None] - HALO
        weights = torch.exp(distance.square() / (-2 * SIGMA**2)).masked_fill_(distance.abs() > HALO, 0)
        return (weights / weights[0].sum()).to(dtype)


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
    with _full_precision(x.device):
        sums: Tensor = _SimilaritySums.apply(x, y, weights, *constants(data_range), luminance)
    return sums / count


class _SimilaritySums(torch.autograd.Function):
    """Sums of `ssim_map`, or of its contrast and structure factors alone, each window times its weight.

    (B, C, H, W) twice and (B, 1, H - 10, W - 10) or None to (B, C). The gradient is worked out with the value, some
    images at a time, so that all that lies between stays in the processor's cache: moving memory is what costs most.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, weights: Tensor | None, c1: float, c2: float, luminance: bool
    ) -> Tensor:
        wants = (ctx.needs_input_grad[0], ctx.needs_input_grad[1])
        rows, columns = _window_matrix(x.shape[2], x), _window_matrix(x.shape[3], x)
        sums = x.new_empty(x.shape[:2])
        gradients = [x.new_empty(x.shape) if want else None for want in wants]

        def work(part: slice) -> None:
            part_x, part_y = _rows_first(x[part]), _rows_first(y[part])
            u, v, s, p = _blurred(part_x, part_y, rows, columns)
            similarities, derivatives = _differentiate(u, v, s, p, c1, c2, luminance, wants)
            if weights is not None:
                chosen = _rows_first(weights[part])
                similarities = similarities * chosen
                derivatives.mul_(chosen[:, None])
            sums[part] = similarities.sum((0, 3))
            if any(wants):
                # Back through the blur, which is linear: its transpose.
                by_p, by_s, *by_means = _products(rows.T, derivatives, columns).unbind(1)
                wanted = [gradient[part] for gradient in gradients if gradient is not None]
                for half, by_mean, (own, other) in zip(wanted, by_means, _wanted(part_x, part_y, wants), strict=True):
                    torch.addcmul(by_mean, by_s, own, out=_rows_first(half)).addcmul_(by_p, other)

        _in_parts(work, x)
        ctx.save_for_backward(*gradients)
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scale = 2 * gradient[:, :, None, None]
        to_x, to_y = (None if half is None else half * scale for half in ctx.saved_tensors)
        return to_x, to_y, None, None, None, None


def _in_parts(work: Callable[[slice], None], images: Tensor) -> None:
    """Do the work for some images at a time; on a CPU, in as many threads as torch has.

    Each thread does whole parts on its own, which takes half the time of threads that share each operation, as torch's
    do, and does not stand still at every operation when a processor is wanted for something else as well.
    """
    if images.device.type != "cpu":
        work(slice(None))
        return
    threads, inference = torch.get_num_threads(), torch.is_inference_mode_enabled()
    step = max(1, min(CHUNK // images.shape[1:].numel(), math.ceil(len(images) / threads)))
    parts = [slice(start, start + step) for start in range(0, len(images), step)]

    def alone(part: slice) -> None:
        # Both are states of a thread, and new ones start without.
        with torch.inference_mode(inference), torch.no_grad():
            work(part)

    if threads == 1 or len(parts) == 1:
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for done in [pool.submit(alone, part) for part in parts]:
            done.result()
    torch.set_num_threads(threads)  # it is, in this thread; but threads that start later would have the pool's 1


def _wanted(x: Tensor, y: Tensor, wants: tuple[bool, bool]) -> list[tuple[Tensor, Tensor]]:
    """What is differentiated by and its counterpart: SSIM is symmetric, so that one formula serves both images."""
    return [pair for pair, want in zip(((x, y), (y, x)), wants, strict=True) if want]


def _rows_first(images: Tensor) -> Tensor:
    """(B, C, H, W) as (H, B, C, W): then products over rows and over columns are each one matrix product."""
    return images.permute(2, 0, 1, 3)


def _blurred(x: Tensor, y: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, ...]:
    """The local means u of x, v of y, s of x^2 + y^2 and p of xy: all that SSIM is made of."""
    planes = x.new_empty((len(x), 4, *x.shape[1:]))
    planes[:, 0], planes[:, 1] = x, y
    torch.mul(x, x, out=planes[:, 2]).addcmul_(y, y)
    torch.mul(x, y, out=planes[:, 3])
    return _products(rows, planes, columns.T).unbind(1)


def _differentiate(
    u: Tensor, v: Tensor, s: Tensor, p: Tensor, c1: float, c2: float, luminance: bool, wants: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """Similarities, and half their derivatives by p and s, then by u and v where wanted, stacked in dimension 1.

    With l = (2uv + c1) / (u^2 + v^2 + c1), b = s - u^2 - v^2 + c2 and c = (2p - 2uv + c2) / b, SSIM = l c. Half its
    derivatives: l / b by p, -l c / 2b by s. The factor 1/2 of the latter is left out: s holds x^2, whose derivative
    brings the 2 back. `s` and `p` are overwritten.
    """
    product, squares = u * v, (u * u).addcmul_(v, v)
    inverse = s.sub_(squares).add_(c2).reciprocal_()
    contrast = p.sub_(product).mul_(2).add_(c2).mul_(inverse)
    similarities = contrast
    if luminance:
        inverse_squares = squares.add_(c1).reciprocal_()
        ratio = product.mul_(2).add_(c1).mul_(inverse_squares)
        similarities = ratio * contrast
    derivatives = u.new_empty((len(u), 2 + sum(wants) if any(wants) else 0, *u.shape[1:]))
    if not any(wants):
        return similarities, derivatives
    by_p, by_s, *by_means = derivatives.unbind(1)
    torch.mul(similarities, inverse, out=by_s).neg_()
    if luminance:
        torch.mul(ratio, inverse, out=by_p)
        by_product = torch.mul(contrast, inverse_squares).sub_(by_p)
        by_squares = torch.mul(similarities, inverse_squares).add_(by_s)
    else:
        by_p.copy_(inverse)
        by_product, by_squares = -by_p, by_s
    for by_mean, (own, other) in zip(by_means, _wanted(u, v, wants), strict=True):
        torch.mul(by_product, other, out=by_mean).addcmul_(by_squares, own, value=-1)
    return similarities, derivatives


def _products(left: Tensor, planes: Tensor, right: Tensor) -> Tensor:
    """left @ plane @ right for all planes of (H, ..., W), for banded matrices.

    The processor skips most of the zeros by taking some rows or columns of the result at a time; a GPU is faster with
    one large product.
    """
    flat = planes.flatten(1)
    upper = [left[here, band] @ flat[band] for here, band in _bands(left.shape, flat.device)]
    halfway = torch.cat(upper).view(-1, planes.shape[-1])
    parts = [halfway[:, band] @ right[band, here] for here, band in _bands(right.T.shape, flat.device)]
    return torch.cat(parts, 1).view(len(left), *planes.shape[1:-1], right.shape[1])


def _bands(shape: torch.Size, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """Bands of a window matrix's rows, or of its transpose's, each with the columns that are not 0 there."""
    out, into = shape
    bands = math.ceil(out / BAND) if device.type == "cpu" else 1
    edges = [round(band * out / bands) for band in range(bands + 1)]
    reach = WINDOW - 1
    for start, stop in pairwise(edges):
        first, last = (start, stop + reach) if out < into else (max(0, start - reach), stop)
        yield slice(start, stop), slice(first, last)
