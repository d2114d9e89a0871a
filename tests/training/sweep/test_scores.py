"""Which results are better."""

from __future__ import annotations

import math

import pytest

from inpaint_core.training.history import NO_SCORE, best_row, score
from inpaint_core.training.sweep.scores import pareto_front


def test_scores_are_higher_where_values_are_better() -> None:
    assert score("table_psnr", 17.0) > score("table_psnr", 16.0)
    assert score("table_l1", 0.05) > score("table_l1", 0.06)
    assert score("sharpness", 0.9) > score("sharpness", 0.5)
    assert score("sharpness", 0.9) > score("sharpness", 1.3)
    assert score("table_ssim", None) == score("table_ssim", math.nan) == NO_SCORE < score("table_l1", 2.0)


def test_the_best_row_is_the_earliest_of_the_best() -> None:
    rows = [{"epoch": epoch, "table_psnr": value} for epoch, value in enumerate([15.0, 17.0, 17.0, math.nan], start=1)]
    assert best_row("table_psnr", rows) == rows[1]
    assert best_row("table_psnr", rows[3:]) is None
    assert best_row("table_psnr", []) is None


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], []),
        ([(1.0, 1.0)], [0]),
        ([(1.0, 3.0), (2.0, 2.0), (3.0, 1.0), (1.5, 1.5)], [0, 1, 2]),
        ([(1.0, 1.0), (1.0, 2.0)], [1]),
        ([(2.0, 2.0), (2.0, 2.0)], [0, 1]),
        ([(1.0,), (3.0,), (2.0,)], [1]),
    ],
)
def test_the_front_is_what_no_other_beats(points: list[tuple[float, ...]], expected: list[int]) -> None:
    assert pareto_front(points) == expected
