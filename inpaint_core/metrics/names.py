"""The names of all metrics: the one list that settings, histories, records of evaluations and reports derive from."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

# Split where the lists below part, so that each keeps its order: columns of Parquet files follow it.
_Errors: TypeAlias = Literal["table_l1", "table_l2", "table_psnr", "table_ssim", "hole_l1", "hole_l2", "hole_psnr"]

Column: TypeAlias = Literal[
    _Errors,
    "hole_ssim",
    "hole_ssim_centred",
    "hole_fraction",
    "sharpness_fill",
    "sharpness_truth",
    "hole_detail",
    "grid_fill",
    "grid_truth",
]
"""What is measured of each image: see `inpaint_core.metrics.protocols.measure`."""

Mean: TypeAlias = Literal[
    _Errors, "hole_ssim", "hole_ssim_centred", "hole_fraction", "sharpness", "hole_detail", "grid"
]
"""What is told of many images: means, and sharpness and grid, ratios of two."""

Metric: TypeAlias = Literal[_Errors, "hole_ssim_centred", "sharpness", "hole_detail"]
"""What networks can be judged by: it has a value for holes of any form, and one value is better than another."""

COLUMNS: tuple[Column, ...] = get_args(Column)
MEANS: tuple[Mean, ...] = get_args(Mean)
METRICS: tuple[Metric, ...] = get_args(Metric)

LOWER_IS_BETTER: tuple[Metric, ...] = ("table_l1", "table_l2", "hole_l1", "hole_l2")
"""Of the others more is better; but `sharpness` is best at 1."""
