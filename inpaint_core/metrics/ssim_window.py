"""SSIM's Gaussian window as two products with a banded matrix: local means of many images at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from inpaint_core.metrics.ssim_formula import HALO, SIGMA, WINDOW

BAND = 18
"""Rows or columns of the result of one product with a banded matrix on a CPU: see `products`."""


def local_means(*images: Tensor) -> tuple[Tensor, ...]:
    """Means under the Gaussian window of each of several (B, C, H, W) of one floating dtype: (B, C, H - 10, W - 10) of it."""
    planes = torch.stack([rows_first(image) for image in images], 1)
    with full_precision(planes.device):
        rows, columns = window_matrix(len(planes), planes), window_matrix(planes.shape[-1], planes)
        means = products(rows, planes, columns.T)
    return tuple(mean.permute(1, 2, 0, 3).contiguous() for mean in means.unbind(1))


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
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


def window_matrix(size: int, like: Tensor) -> Tensor:
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


def rows_first(images: Tensor) -> Tensor:
    """(B, C, H, W) as (H, B, C, W): then products over rows and over columns are each one matrix product."""
    return images.permute(2, 0, 1, 3)


def products(left: Tensor, planes: Tensor, right: Tensor) -> Tensor:
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
