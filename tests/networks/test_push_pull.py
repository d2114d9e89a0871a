"""The smooth fill that the U-Net begins with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from inpaint_core.networks.push_pull import _binomial, push_pull

pytestmark = pytest.mark.usefixtures("one_thread")


def noise(size: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def holes(size: int = 32) -> Tensor:
    masks = torch.zeros(2, 1, size, size, dtype=torch.bool)
    masks[0, :, size // 4 : size // 2, size // 3 : -2] = True
    masks[1, :, :, : size // 2] = True  # open on three sides
    return masks


def test_what_is_known_stays_and_what_lies_in_the_holes_is_not_looked_at() -> None:
    images, masks = noise(), holes()
    filled = push_pull(images, masks)
    seen = (~masks).expand_as(images)
    assert torch.equal(filled[seen], images[seen])
    assert torch.equal(push_pull(torch.where(masks, float("nan"), images), masks), filled)


def test_one_colour_is_continued_exactly() -> None:
    images = torch.tensor([0.5, -0.25, 0.9]).view(1, 3, 1, 1).expand(2, 3, 64, 64).contiguous()
    masks = holes(64)
    torch.testing.assert_close(push_pull(torch.where(masks, -1.0, images), masks), images)


def test_a_ramp_is_continued_across_a_stripe() -> None:
    ramp = torch.linspace(-1, 1, 64).view(1, 1, 1, 64).expand(1, 3, 64, 64).contiguous()
    masks = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    masks[..., 24:40] = True
    error = (push_pull(ramp, masks) - ramp).abs().max()
    assert error < 0.12  # the stripe spans 0.51; its mean colour would be off by 0.25


def test_values_stay_between_those_that_are_known() -> None:
    images, masks = noise(), holes()
    filled = push_pull(images, masks)
    for image, mask, fill in zip(images, masks, filled, strict=True):
        for channel in range(3):
            known = image[channel][~mask[0]]
            assert fill[channel].min() >= known.min() - 1e-6
            assert fill[channel].max() <= known.max() + 1e-6


def test_nothing_known_gives_grey_and_nothing_hidden_changes_nothing() -> None:
    images = noise()
    assert torch.equal(push_pull(images, torch.ones(2, 1, 32, 32, dtype=torch.bool)), torch.zeros_like(images))
    assert torch.equal(push_pull(images, torch.zeros(2, 1, 32, 32, dtype=torch.bool)), images)


@pytest.mark.parametrize("hidden", ["some", "all", "none", "a speck"])
def test_coarser_levels_than_the_first_that_knows_everything_change_nothing(hidden: str) -> None:
    masks = holes(64)
    if hidden != "some":
        masks[:] = hidden == "all"
    if hidden == "a speck":
        masks[0, 0, 40, 7] = True
    images = noise(64)
    assert torch.equal(push_pull(images, masks, traced=False), push_pull(images, masks))


def test_autocast_does_not_reach_it() -> None:
    images, masks = noise(), holes()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        filled = push_pull(images, masks)
    assert filled.dtype == torch.float32
    assert torch.equal(filled, push_pull(images, masks))


def test_it_is_the_formula_pixel_by_pixel() -> None:
    images, masks = noise(16, seed=4), holes(16)
    expected = [
        by_hand(i.double().numpy() * ~m.numpy(), 1.0 - m[0].numpy()) for i, m in zip(images, masks, strict=True)
    ]
    torch.testing.assert_close(push_pull(images, masks), torch.from_numpy(np.stack(expected)).float())


def by_hand(image: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """One level and those above it, with loops, as the paper tells it."""
    size = image.shape[1]
    if size == 1:
        return image
    binomial = np.array([1, 3, 3, 1]) / 8
    coarse, sure = np.zeros((3, size // 2, size // 2)), np.zeros((size // 2, size // 2))
    for y in range(size // 2):
        for x in range(size // 2):
            for dy in range(4):
                for dx in range(4):
                    row, column = 2 * y - 1 + dy, 2 * x - 1 + dx
                    if 0 <= row < size and 0 <= column < size:
                        share = binomial[dy] * binomial[dx] * weight[row, column]
                        sure[y, x] += share
                        coarse[:, y, x] += share * image[:, row, column]
            if sure[y, x]:
                coarse[:, y, x] /= sure[y, x]
    return image * weight + (1 - weight) * enlarged(by_hand(coarse, np.minimum(1, 16 * sure)))


def enlarged(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Twice the size, bilinear: each new pixel lies a quarter of an old one from the nearest old one."""
    size = image.shape[1]
    out = np.zeros((3, 2 * size, 2 * size))
    for y in range(2 * size):
        for x in range(2 * size):
            row, column = (y + 0.5) / 2 - 0.5, (x + 0.5) / 2 - 0.5
            row, column = min(max(row, 0), size - 1), min(max(column, 0), size - 1)
            top, left = int(row), int(column)
            down, right = min(top + 1, size - 1), min(left + 1, size - 1)
            b, a = row - top, column - left
            out[:, y, x] = (1 - b) * ((1 - a) * image[:, top, left] + a * image[:, top, right])
            out[:, y, x] += b * ((1 - a) * image[:, down, left] + a * image[:, down, right])
    return out


def test_the_kernel_is_the_binomial_one_exactly() -> None:
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    assert torch.equal(_binomial(2, torch.device("cpu")), torch.outer(line, line).expand(2, 1, 4, 4))
