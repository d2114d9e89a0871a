"""Which metric values are better, as numbers to compare."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from inpaint_core.training.config import Metric
from inpaint_core.training.history import LOWER_IS_BETTER

DIVERGED = -1e9
"""The score of a trial whose loss is not finite, and of a value that is none."""


def score(metric: Metric, value: float | None) -> float:
    """A number that is higher where the metric's value is better. Sharpness is best at 1: less is blurred, more is noise."""
    if value is None or math.isnan(value):
        return DIVERGED
    if metric == "sharpness":
        return -abs(1 - value)
    return -value if metric in LOWER_IS_BETTER else value


def best_row(metric: Metric, rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The row with the best value of a metric, the earliest of equals; None where there is none."""
    known = [row for row in rows if score(metric, row[metric]) > DIVERGED]
    return max(known, key=lambda row: (score(metric, row[metric]), -row["epoch"])) if known else None


def pareto_front(points: Sequence[Sequence[float]]) -> list[int]:
    """Indices of the points that no other is at least as good as in all scores and better in one; in their order."""

    def beaten(point: Sequence[float]) -> bool:
        return any(
            all(mine <= its for mine, its in zip(point, other, strict=True)) and list(point) != list(other)
            for other in points
        )

    return [index for index, point in enumerate(points) if not beaten(point)]
