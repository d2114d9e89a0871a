"""The share of a grid of dots: known patterns, noise and photographs."""

import numpy as np
import pytest
import torch
from torch import Tensor

from inpaint_core.metrics.grid import grid_share
from inpaint_core.metrics.protocols import MetricSums, measure
from tests.samples import photograph

SIDE = 128
ALL = torch.ones(1, 1, SIDE, SIDE, dtype=torch.bool)


def dots(period: int) -> Tensor:
    """A dot every so many pixels."""
    image = torch.zeros(1, 3, SIDE, SIDE)
    image[:, :, ::period, ::period] = 1
    return image


@pytest.mark.parametrize("period", [2, 4, 8])
def test_dots_on_the_grid_are_all_there_is(period: int) -> None:
    assert grid_share(dots(period), ALL).item() == pytest.approx(1.0)


def test_dots_of_twice_the_period_have_half_their_power_around_the_grid() -> None:
    assert grid_share(dots(16), ALL).item() == pytest.approx(0.5, abs=0.02)


def test_noise_has_no_grid_and_some_dots_in_it_are_seen() -> None:
    noise = torch.randn(64, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    assert grid_share(noise, ALL).mean().item() == pytest.approx(0.5, abs=0.02)
    assert grid_share(noise + dots(4), ALL).mean().item() > 0.9


def test_only_chosen_pixels_count() -> None:
    chosen = ALL.clone()
    chosen[..., :64] = False
    half = dots(4)
    half[..., 64:] = torch.randn(1, 3, SIDE, 64, generator=torch.Generator().manual_seed(1))
    other = half.clone()
    other[..., :64] = 7.0
    assert grid_share(half, chosen).item() == grid_share(other, chosen).item() < 0.6
    assert torch.isnan(grid_share(half, torch.zeros_like(ALL))).item()


def test_what_is_flat_has_no_grid() -> None:
    assert grid_share(torch.zeros(1, 3, SIDE, SIDE), ALL).item() == 0.5


def test_the_mean_of_a_fill_with_a_grid_of_faint_dots_is_more_than_that_of_the_photographs() -> None:
    truth = np.stack([photograph((SIDE, SIDE), "coffee.png", seed) for seed in range(4)])
    mask = torch.zeros(4, 1, SIDE, SIDE, dtype=torch.bool)
    mask[:, :, 30:100, 20:90] = True
    images = torch.from_numpy(truth.transpose(0, 3, 1, 2).copy())
    dotted = torch.where(mask, images.short() + 8 * dots(4).short(), images.short()).clamp(0, 255).to(torch.uint8)
    means = []
    for filled in (images, dotted):
        sums = MetricSums()
        sums.add(measure(images, filled, mask))
        means.append(sums.means()["grid"])
    assert means[0] == 1.0
    assert means[1] > 1.2
