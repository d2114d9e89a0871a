"""Pictures for a detector's training."""

from __future__ import annotations

import numpy as np
import pytest

from inpaint_core.training.detector.mosaics import Mosaics, grid


def photographs() -> np.ndarray:
    """Four plain ones: black, red, green, white."""
    colours = [(0, 0, 0), (200, 0, 0), (0, 200, 0), (255, 255, 255)]
    return np.stack([np.full((32, 32, 3), colour, np.uint8) for colour in colours])


def test_a_picture_follows_from_its_generator_alone() -> None:
    mosaics = Mosaics(photographs(), np.ones(4), 96, 24)
    first, again, other = (mosaics(np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert first.shape == (96, 96, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_photographs_are_of_all_sizes_between_the_two() -> None:
    # A photograph whose left half is black and right half white: stripes as wide as half a photograph.
    striped = np.zeros((1, 64, 64, 3), np.uint8)
    striped[:, :, 32:] = 255
    mosaics = Mosaics(striped, np.ones(1), 128, 32)
    widest = []
    for seed in range(60):
        bright = mosaics(np.random.default_rng(seed))[0].mean(axis=1) > 128
        edges = np.flatnonzero(np.diff(bright.astype(int)))
        widest.append(np.diff(edges).max() if len(edges) > 1 else 128)
    assert min(widest) <= 40
    assert max(widest) >= 60


def test_photographs_are_drawn_by_their_weights_and_never_with_none() -> None:
    mosaics = Mosaics(photographs(), np.array([0.0, 3.0, 1.0, 0.0]), 64, 16)
    red = green = 0
    for seed in range(40):
        picture = mosaics(np.random.default_rng(seed)).astype(int)
        red += int((picture[..., 0] > picture[..., 1]).sum())
        green += int((picture[..., 1] > picture[..., 0]).sum())
    assert red + green > 0.99 * 40 * 64 * 64
    assert 2 < red / green < 4.5


def test_photographs_vary_in_brightness_and_are_mirrored() -> None:
    ramp = np.broadcast_to(np.linspace(60, 190, 64, dtype=np.uint8)[None, None, :, None], (1, 64, 64, 3)).copy()
    mosaics = Mosaics(ramp, np.ones(1), 64, 64)
    pictures = [mosaics(np.random.default_rng(seed)) for seed in range(30)]
    rising = [picture[:, -1].mean() > picture[:, 0].mean() for picture in pictures]
    assert 5 < sum(rising) < 25
    assert np.std([picture.mean() for picture in pictures]) > 5
    assert ramp.min() == 60  # the photographs themselves are left as they are


def test_what_is_smaller_than_the_picture_is_enlarged() -> None:
    assert Mosaics(photographs(), np.ones(4), 64, 400)(np.random.default_rng(0)).shape == (64, 64, 3)


def test_enlarged_photographs_are_of_different_sharpness() -> None:
    edge = np.full((1, 32, 32, 3), 90, np.uint8)
    edge[:, :, 16:] = 160
    mosaics = Mosaics(edge, np.ones(1), 128, 128)
    steepest, grain = [], []
    for seed in range(60):
        picture = mosaics(np.random.default_rng(seed)).astype(float).mean(axis=2)
        line = picture.mean(axis=0)
        if np.ptp(line) > 30:  # the edge is in it
            steepest.append(np.abs(np.diff(line)).max() / (np.percentile(line, 95) - np.percentile(line, 5)))
            grain.append(picture.std(axis=0).min())
    assert len(steepest) > 20
    assert np.percentile(steepest, 90) > 1.25 * np.percentile(steepest, 10)
    assert min(grain) < 1 < 3 < max(grain) < 8


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (2, 1), (3, 2), (4, 2)])
def test_a_grid_has_its_photographs_row_by_row(count: int, rows: int) -> None:
    picture = grid(photographs()[:count], 16, 2)
    assert picture.shape == (16 * rows, 32, 3)
    for place in range(count):
        row, column = divmod(place, 2)
        corner = picture[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        assert (corner == photographs()[place, 0, 0]).all()
    if count == 3:
        assert (picture[16:, 16:] == 114).all()
