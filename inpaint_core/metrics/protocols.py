"""Metrics of filled images: the protocols `table` and `hole`, and sharpness, for batches on any device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import EllipsisType

import torch
from torch import Tensor
from torch.nn import functional

from inpaint_core.metrics.detail import detail_maps
from inpaint_core.metrics.grid import grid_share
from inpaint_core.metrics.names import COLUMNS
from inpaint_core.metrics.ssim import ssim_map
from inpaint_core.metrics.ssim_formula import HALO, WINDOW

EXACT_PSNR = 120.0
"""What an image without any difference, whose PSNR is infinite, counts as in a mean, in dB: an MSE of 1e-12."""

# Indices of a region of (B, C, H, W): the ellipsis, rows, columns.
Box = tuple[EllipsisType, slice, slice]


def measure(truth: Tensor, filled: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Judge filled images against the photographs that they were.

    Protocol `table`, of the published results: the whole composited image on the scale [-1, 1]. `table_l1` is the mean
    absolute and `table_l2` the mean squared error, `table_psnr` is 10 log10(1 / table_l2) in dB, and `table_ssim` the
    mean SSIM with data range 2 over the windows wholly inside the image (Wang et al. 2004; 11x11 Gaussian of sigma
    1.5, K1 0.01, K2 0.03).

    Protocol `hole`: the hole's pixels alone, on the scale [0, 1]; but `hole_ssim` is of the same map as `table_ssim`, on
    [-1, 1] (SSIM's luminance factor depends on where 0 lies: on [0, 1] Telea's fills have 0.24 instead of 0.17), over
    the windows wholly inside the hole; NaN where it has none. `hole_ssim_centred`, on [0, 1], is the mean over the
    windows centred on a pixel of the hole, the image mirrored at its border: it has a value for a hole of any form, and
    is the `ssim` of `inpaint_core.metrics.hole.hole_metrics`. Never compare figures of two protocols, nor these two.

    `hole_detail`, 0 to 1, is the mean over the same windows as `hole_ssim_centred` of SSIM with its structure factor s as
    (1 + s) / 2 (`inpaint_core.metrics.detail`): to choose weights by. Blur always lowers it, where PSNR and SSIM prefer some;
    noise that can be seen lowers it, where sharpness prefers that, and faint noise hardly changes it.

    `hole_fraction` is the part of the image that is hole, 0 to 1.

    `sharpness_fill` and `sharpness_truth` are the mean absolute Laplacian (4-neighbour stencil, values 0 to 1) of each
    image in the hole, over the pixels whose stencil lies in the hole, so that the seam does not count; NaN where there
    are none. Their ratio over many images, `sharpness` of `MetricSums.means`, is 1 for fills as sharp as photographs, less
    for blurred and more for noisy ones. It compares amounts of fine detail, not pixels: a wrong but sharp fill (another
    photograph) has 1 too, which L2, PSNR and SSIM cannot say, as they prefer a blurred guess. It is no score to be
    maximised: noise over a blur raises it (a blur of sigma 1 with noise of 5 levels has 0.65).

    The choice, from 1,000 MiniPlaces validation photographs with the middle 64x64 as hole: blurs of sigma 0.5, 1, 2, 4
    have 0.69, 0.27, 0.10, 0.04, noise of 5 and 10 levels 1.22 and 1.60, Telea's fill 0.13, one flat colour 0. A ratio of
    sums, because a ratio of each image explodes in flat skies. Absolute values, because squares leave 4 % of the sum
    to the most textured 1 % of the images (here 2 %), and put noise of 20 levels at 4.0 (here 2.5). The Laplacian,
    because gradients fall more slowly with blur (0.50 at sigma 1) and see the slopes that Telea's fill has (0.25).
    Source of the figure: mean absolute second differences as a focus measure, Nayar and Nakagawa, "Shape from Focus",
    IEEE TPAMI 1994.

    `grid_fill` and `grid_truth` are the shares of power at periods of 8 pixels and their fractions in the hole, of the same
    Laplacian (`inpaint_core.metrics.grid`): the ratio of their means, `grid`, is 1 for fills without a pattern of dots.

    Args:
        truth: the photographs, (B, 3, H, W) uint8.
        filled: the same with the holes filled, (B, 3, H, W) uint8 on the same device.
        mask: the holes, (B, 1, H, W) bool, True = filled. An empty hole has NaN in every column of the hole.

    Returns:
        For each of `COLUMNS` a float64 tensor (B,) on the same device. PSNR is infinite where nothing differs.

    Raises:
        ValueError: shapes or dtypes are not as above, or an image is smaller than an SSIM window.
    """
    _check(truth, filled, mask)
    # On a CPU one by one, so that each image is looked at only where its own hole is; a GPU would rather have them all.
    step = 1 if truth.device.type == "cpu" else len(truth)
    parts = [
        _measure(*part) for part in zip(*(torch.split(images, step) for images in (truth, filled, mask)), strict=True)
    ]
    return {name: torch.cat([part[name] for part in parts]) for name in COLUMNS}


class MetricSums:
    """Sums of measured columns that merge in any order: batches, shards, processes."""

    def __init__(self) -> None:
        self._count = 0.0
        self._sums = torch.zeros(len(COLUMNS), dtype=torch.float64)
        self._finite = torch.zeros_like(self._sums)
        self._infinite = torch.zeros_like(self._sums)

    @property
    def count(self) -> int:
        """Images that were added."""
        return round(self._count)

    @property
    def exact(self) -> int:
        """Images whose fill equals the photograph in every pixel, so that their PSNR is infinite."""
        return round(float(self._infinite[COLUMNS.index("table_psnr")]))

    def add(self, columns: Mapping[str, Tensor]) -> None:
        """Add the images of one call of `measure`."""
        values = torch.stack([columns[name].cpu() for name in COLUMNS])
        finite = torch.isfinite(values)
        self._count += values.shape[1]
        self._sums += torch.where(finite, values, 0.0).sum(dim=1)
        self._finite += finite.sum(dim=1)
        self._infinite += torch.isinf(values).sum(dim=1)

    def merge(self, other: MetricSums) -> None:
        """Add the images of `other`."""
        self._count += other._count
        self._sums += other._sums
        self._finite += other._finite
        self._infinite += other._infinite

    def means(self) -> dict[str, float]:
        """Mean of each of `COLUMNS` over the images that have a value of it, `sharpness` and `grid`.

        In the means of PSNR an image that is `exact` counts as `EXACT_PSNR`, as in the published baseline; one in 10,000
        adds 0.01 dB. A column that no image has a value of (`hole_ssim` of thin holes) is NaN. `sharpness` is the sum
        of `sharpness_fill` over that of `sharpness_truth`: 1 is as sharp as the photographs; `grid` is the mean of `grid_fill`
        over that of `grid_truth`: more than 1 is a pattern of dots (see `measure`).

        Raises:
            ValueError: no image was added.
        """
        if not self.count:
            raise ValueError("These sums contain no images, so that they have no mean.")
        sums, known = self._sums + EXACT_PSNR * self._infinite, self._finite + self._infinite
        means = dict(zip(COLUMNS, (sums / known).tolist(), strict=True))  # 0 / 0 is NaN
        fill, truth = means["sharpness_fill"], means["sharpness_truth"]
        grid, own = means["grid_fill"], means["grid_truth"]
        return {**means, "sharpness": fill / truth if truth else math.nan, "grid": grid / own if own else math.nan}

    def to_tensor(self) -> Tensor:
        """The sums as float64 (1 + 3 * len(COLUMNS),) on the CPU; the sum of several is the merged sums' tensor."""
        count = torch.tensor([self._count], dtype=torch.float64)
        return torch.cat([count, self._sums, self._finite, self._infinite])

    @classmethod
    def from_tensor(cls, vector: Tensor) -> MetricSums:
        """The sums that `to_tensor` wrote, or a sum of such.

        Raises:
            ValueError: the tensor is of another shape.
        """
        if vector.shape != (1 + 3 * len(COLUMNS),):
            raise ValueError(f"Sums are a tensor ({1 + 3 * len(COLUMNS)},), not {tuple(vector.shape)}.")
        sums = cls()
        values = vector.detach().to("cpu", torch.float64, copy=True)
        sums._count = float(values[0])
        sums._sums, sums._finite, sums._infinite = values[1:].view(3, len(COLUMNS)).unbind()
        return sums


def _check(truth: Tensor, filled: Tensor, mask: Tensor) -> None:
    for name, image in (("truth", truth), ("filled", filled)):
        if image.dtype != torch.uint8 or image.ndim != 4 or image.shape[1] != 3 or image.shape != truth.shape:
            raise ValueError(
                f"`{name}` is {image.dtype} {tuple(image.shape)}; `truth` and `filled` must be uint8 (B, 3, H, W) of one shape."
            )
    expected = (truth.shape[0], 1, *truth.shape[2:])
    if mask.dtype != torch.bool or mask.shape != expected:
        raise ValueError(f"`mask` is {mask.dtype} {tuple(mask.shape)}; with these images it must be bool {expected}.")
    if min(truth.shape[0], *(side - WINDOW + 1 for side in truth.shape[2:])) < 1:
        raise ValueError(
            f"Images {tuple(truth.shape)} cannot be measured: SSIM needs {WINDOW} pixels a side, and one image."
        )


def _measure(truth: Tensor, filled: Tensor, mask: Tensor) -> dict[str, Tensor]:
    box = _box((truth != filled).any(dim=1, keepdim=True) | mask)
    x, y, hole = truth[box], filled[box], mask[box]
    # Sums of integers are exact, whatever the order they are added in.
    difference = y.short() - x.short()
    absolute, squared = difference.abs(), difference.int().square()
    samples, hole_samples = truth[0].numel(), 3 * _sum(hole)
    table_l2 = _sum(squared) / (samples * 127.5**2)
    hole_l2 = _sum(squared * hole) / (hole_samples * 255**2)
    table_ssim, hole_ssim = _ssim(truth, filled, mask, box)
    within = _stencil_inside(hole)
    laplacian_x, laplacian_y = _laplacian(x), _laplacian(y)
    centred, detail = _centred(truth, filled, mask, box)
    return {
        "table_l1": _sum(absolute) / (samples * 127.5),
        "table_l2": table_l2,
        "table_psnr": -10 * torch.log10(table_l2),
        "table_ssim": table_ssim,
        "hole_l1": _sum(absolute * hole) / (hole_samples * 255),
        "hole_l2": hole_l2,
        "hole_psnr": -10 * torch.log10(hole_l2),
        "hole_ssim": hole_ssim,
        "hole_ssim_centred": centred,
        "hole_fraction": hole_samples / samples,
        "sharpness_fill": _mean_over(laplacian_y.abs(), within) / 255,
        "sharpness_truth": _mean_over(laplacian_x.abs(), within) / 255,
        "hole_detail": detail,
        "grid_fill": grid_share(laplacian_y, within),
        "grid_truth": grid_share(laplacian_x, within),
    }


def _box(pixels: Tensor) -> Box:
    """Where the bounding box of the True pixels (B, 1, H, W) is, over all images; one pixel where there are none."""
    anywhere = pixels.any(dim=0)[0]
    sides = []
    for dim in (1, 0):
        hit = torch.nonzero(anywhere.any(dim=dim))[:, 0].tolist() or [0]
        sides.append(slice(hit[0], hit[-1] + 1))
    return (..., sides[0], sides[1])


def _ssim(truth: Tensor, filled: Tensor, mask: Tensor, box: Box) -> tuple[Tensor, Tensor]:
    """`table_ssim` and `hole_ssim`: one map, averaged over all windows and over those inside the hole."""
    height, width = truth.shape[2:]
    _, rows, columns = box
    # All windows that touch `box`; where nothing differs they are 1.
    grown = (
        ...,
        slice(max(0, rows.start - 2 * HALO), rows.stop + 2 * HALO),
        slice(max(0, columns.start - 2 * HALO), columns.stop + 2 * HALO),
    )
    x, y = truth[grown].double() / 127.5 - 1, filled[grown].double() / 127.5 - 1
    similarity = ssim_map(y, x, data_range=2.0)
    outside = functional.max_pool2d((~mask[grown]).float(), (WINDOW, 1), 1)
    inside = functional.max_pool2d(outside, (1, WINDOW), 1) == 0
    windows = 3 * (height - 2 * HALO) * (width - 2 * HALO)
    return 1 - _sum(1 - similarity) / windows, _mean_over(similarity, inside)


def _centred(truth: Tensor, filled: Tensor, mask: Tensor, box: Box) -> tuple[Tensor, Tensor]:
    """`hole_ssim_centred` and `hole_detail`."""
    # `box`, five pixels more on each side: where the mirrored images have the windows that are centred in it.
    _, rows, columns = box
    grown = (..., slice(rows.start, rows.stop + 2 * HALO), slice(columns.start, columns.stop + 2 * HALO))
    similarity, detail = detail_maps(
        _mirrored(filled)[grown].double(), _mirrored(truth)[grown].double(), data_range=255.0
    )
    return _mean_over(similarity, mask[box]), _mean_over(detail, mask[box])


def _mirrored(images: Tensor) -> Tensor:
    """With five pixels more on each side, mirrored with the border pixel repeated (b a | a b), as in `metrics.hole`."""
    top, bottom = images[:, :, :HALO].flip(2), images[:, :, -HALO:].flip(2)
    tall = torch.cat([top, images, bottom], dim=2)
    return torch.cat([tall[..., :HALO].flip(3), tall, tall[..., -HALO:].flip(3)], dim=3)


def _stencil_inside(mask: Tensor) -> Tensor:
    """Pixels (B, 1, H-2, W-2) of the image's interior that lie in the hole with their four neighbours."""
    rows, columns = mask[:, :, :, 1:-1], mask[:, :, 1:-1]
    return rows[:, :, :-2] & rows[:, :, 1:-1] & rows[:, :, 2:] & columns[:, :, :, :-2] & columns[:, :, :, 2:]


def _laplacian(images: Tensor) -> Tensor:
    """Laplacian (B, 3, H-2, W-2) int16 of the image's interior, in levels."""
    levels = images.short()
    rows, columns = levels[:, :, :, 1:-1], levels[:, :, 1:-1]
    return rows[:, :, :-2] + rows[:, :, 2:] + columns[:, :, :, :-2] + columns[:, :, :, 2:] - 4 * rows[:, :, 1:-1]


def _mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean (B,) of values (B, 3, H, W) over the chosen (B, 1, H, W) pixels and all channels; NaN where none is."""
    return _sum(torch.where(chosen, values, 0)) / (3 * _sum(chosen))


def _sum(values: Tensor) -> Tensor:
    """Sum (B,) of values (B, ...)."""
    return values.sum(dim=(1, 2, 3)).double()
