"""Sums of SSIM over an image's windows, with their gradient written out: both are worked out together, on any device."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from inpaint_core.metrics.ssim_window import products, rows_first, window_matrix

CHUNK = 2**17
"""Samples of an image batch that a CPU's thread works on at once: what is made of them stays in its cache."""


def similarity_sums(x: Tensor, y: Tensor, weights: Tensor | None, c1: float, c2: float, *, luminance: bool) -> Tensor:
    """Sums of `ssim_map`, or of its contrast and structure factors alone, each window times its weight.

    Args:
        x, y: (B, C, H, W) of one floating dtype, both sides 11 or more.
        weights: (B, 1, H - 10, W - 10) of that dtype; None: all 1.
        c1, c2: see `ssim_formula.constants`.
        luminance: whether the luminance is a factor.

    Returns:
        (B, C). Differentiable once, with respect to both images.
    """
    sums: Tensor = _SimilaritySums.apply(x, y, weights, c1, c2, luminance)
    return sums


class _SimilaritySums(torch.autograd.Function):
    """The gradient is worked out with the value, some images at a time, so that all that lies between stays in the processor's
    cache: moving memory is what costs most."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, weights: Tensor | None, c1: float, c2: float, luminance: bool
    ) -> Tensor:
        wants = (ctx.needs_input_grad[0], ctx.needs_input_grad[1])
        rows, columns = window_matrix(x.shape[2], x), window_matrix(x.shape[3], x)
        sums = x.new_empty(x.shape[:2])
        gradients = [x.new_empty(x.shape) if want else None for want in wants]

        def work(part: slice) -> None:
            part_x, part_y = rows_first(x[part]), rows_first(y[part])
            u, v, s, p = _blurred(part_x, part_y, rows, columns)
            similarities, derivatives = _differentiate(u, v, s, p, c1, c2, luminance, wants)
            if weights is not None:
                chosen = rows_first(weights[part])
                similarities = similarities * chosen
                derivatives.mul_(chosen[:, None])
            sums[part] = similarities.sum((0, 3))
            if any(wants):
                # Back through the blur, which is linear: its transpose.
                by_p, by_s, *by_means = products(rows.T, derivatives, columns).unbind(1)
                wanted = [gradient[part] for gradient in gradients if gradient is not None]
                for half, by_mean, (own, other) in zip(wanted, by_means, _wanted(part_x, part_y, wants), strict=True):
                    torch.addcmul(by_mean, by_s, own, out=rows_first(half)).addcmul_(by_p, other)

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


def _blurred(x: Tensor, y: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, ...]:
    """The local means u of x, v of y, s of x^2 + y^2 and p of xy: all that SSIM is made of."""
    planes = x.new_empty((len(x), 4, *x.shape[1:]))
    planes[:, 0], planes[:, 1] = x, y
    torch.mul(x, x, out=planes[:, 2]).addcmul_(y, y)
    torch.mul(x, y, out=planes[:, 3])
    return products(rows, planes, columns.T).unbind(1)


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
