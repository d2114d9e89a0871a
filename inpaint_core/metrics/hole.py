"""How close a filled hole is to the truth: the `hole` protocol for masks of any form, image by image on the CPU.

SSIM has the formula of `inpaint_core.metrics.ssim`, but a map of its own, blurred by OpenCV: for one small hole at a time, in
float64, that takes a fraction of the time of the matrix products there (0.2 ms to 3 ms for 40x40 pixels), to 1e-14 the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inpaint_core.metrics.ssim_formula import HALO, SIGMA, WINDOW, similarity

# Rows are measured in strips of about this many pixels: a 100 megapixel hole then needs some 50 MB, not 25 GB.
STRIP_PIXELS = 2**17


@dataclass(frozen=True)
class HoleMetrics:
    """A fill against the truth, over the pixels of the hole alone; sample values scaled to 0..1.

    `pixels` is the size of the hole; `l1` the mean absolute error and `l2` the mean squared error over its
    pixels and channels; `psnr` is 10 log10(1 / l2) in dB, None where l2 is 0; `ssim` the mean SSIM of the
    windows around the hole's pixels, of each channel, at most 1.
    """

    pixels: int
    l1: float
    l2: float
    psnr: float | None
    ssim: float


def hole_metrics(truth: NDArray[np.uint8], filled: NDArray[np.uint8], mask: NDArray[np.bool_]) -> HoleMetrics:
    """L1, L2, PSNR and SSIM of a fill, over the masked pixels, on the 0..1 scale.

    L1, L2 and PSNR are those of the `hole` protocol of the results table for any mask. SSIM differs from it by
    necessity: the table cuts the central square out and averages over windows that lie wholly inside it, of which
    a thin or irregular hole has few or none. Here the windows are those *centred* on a masked pixel; near the
    hole's edge they reach into the photograph around it, and a visible edge counts: compare it with other masks'
    figures (`hole_ssim_centred` of `inpaint_core.metrics.protocols`), never with the table's.

    Only the mask's bounding box and the 5 pixels around it that windows reach are looked at.

    Args:
        truth, filled: (H, W, 3) uint8.
        mask: (H, W) bool, True = filled.

    Raises:
        ValueError: the mask is empty, or shapes or dtypes are not as above.
    """
    _check_images(truth, filled, mask)
    pixels, absolute, squared, sum_of_ssim = 0, 0, 0, 0.0
    for rows, columns in _strips(mask):
        inside = mask[rows, columns]
        outer, inner = _with_halo(rows, columns, mask.shape)
        x, y = truth[outer], filled[outer]
        difference = x[inner][inside].astype(np.int64) - y[inner][inside]
        pixels += int(np.count_nonzero(inside))
        absolute += int(np.abs(difference).sum())
        squared += int((difference * difference).sum())
        sum_of_ssim += float(_ssim_map(x, y)[inner][inside].sum())
    if pixels == 0:
        raise ValueError("The mask is empty: there is no hole to measure.")
    samples = 3 * pixels
    l2 = squared / (samples * 255**2)
    return HoleMetrics(
        pixels=pixels,
        l1=absolute / (samples * 255),
        l2=l2,
        psnr=10 * math.log10(1 / l2) if l2 > 0 else None,
        ssim=sum_of_ssim / samples,
    )


def _ssim_map(x: NDArray[np.uint8], y: NDArray[np.uint8]) -> NDArray[np.float64]:
    """SSIM around every pixel of two images (H, W, 3), mirrored at their border: float64 of their shape, each channel on its own, -1..1.

    It is the map of scikit-image's `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)`.
    """
    # float64, because variances are differences of nearly equal numbers in smooth regions.
    a, b = x.astype(np.float64), y.astype(np.float64)

    def local_mean(image: NDArray[np.float64]) -> NDArray[np.float64]:
        blurred = cv2.GaussianBlur(image, (WINDOW, WINDOW), SIGMA, borderType=cv2.BORDER_REFLECT)
        return blurred.astype(np.float64, copy=False)

    return similarity(local_mean(a), local_mean(b), local_mean(a * a + b * b), local_mean(a * b), data_range=255)


def _check_images(truth: NDArray[np.uint8], filled: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
    for name, image in (("truth", truth), ("filled", filled)):
        if image.dtype != np.uint8 or image.shape != (*mask.shape, 3):
            raise ValueError(
                f"`{name}` is {image.dtype} {image.shape}; with a mask of {mask.shape} it must be uint8 {(*mask.shape, 3)}."
            )
    if mask.dtype != np.bool_ or mask.ndim != 2:
        raise ValueError(f"The mask is {mask.dtype} {mask.shape}; it must be bool (H, W).")


def _strips(mask: NDArray[np.bool_]) -> Iterator[tuple[slice, slice]]:
    """Rows and columns that tile the mask's bounding box; strips without a masked pixel are left out."""
    filled_rows = np.asarray(mask.any(axis=1))
    masked_rows = np.flatnonzero(filled_rows)
    if masked_rows.size == 0:
        return
    masked_columns = np.flatnonzero(mask[masked_rows[0] : masked_rows[-1] + 1].any(axis=0))
    columns = slice(int(masked_columns[0]), int(masked_columns[-1]) + 1)
    step = max(4 * HALO, STRIP_PIXELS // (columns.stop - columns.start))
    end = int(masked_rows[-1]) + 1
    for start in range(int(masked_rows[0]), end, step):
        rows = slice(start, min(start + step, end))
        if filled_rows[rows].any():
            yield rows, columns


def _with_halo(rows: slice, columns: slice, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The region grown by the 5 pixels that windows reach, within the image; and the region within the grown one."""
    top, left = max(0, rows.start - HALO), max(0, columns.start - HALO)
    outer = (slice(top, min(shape[0], rows.stop + HALO)), slice(left, min(shape[1], columns.stop + HALO)))
    inner = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    return outer, inner
