"""Fills brought to the photograph's size and sharpness."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from inpaint_core.inpainting.enlarge import LARGEST, enlarge
from inpaint_core.inpainting.model import SmallFill
from inpaint_core.inpainting.patch_match.fill import COARSEST
from inpaint_core.inpainting.window_pixels import resize, resize_mask

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = 128
CPU = torch.device("cpu")


def gravel(size: int = 384, seed: int = 0) -> NDArray[np.uint8]:
    """Grains of 3 pixels on grey."""
    grains = np.random.default_rng(seed).normal(128, 40, (size // 3 + 1, size // 3 + 1, 1)).repeat(3, 2)
    return cv2.resize(grains, (size, size), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def square(size: int = 384) -> NDArray[np.bool_]:
    mask = np.zeros((size, size), bool)
    mask[size // 3 : size // 2, size // 3 : 2 * size // 3] = True
    return mask


def enlarged(
    photograph: NDArray[np.uint8], mask: NDArray[np.bool_], filled: NDArray[np.uint8] | None = None, detail: float = 1.0
) -> NDArray[np.uint8]:
    small, small_mask = resize(photograph, SMALL, SMALL), resize_mask(mask, SMALL, SMALL)
    if filled is None:  # a network that knows the colour and nothing else
        filled = np.full_like(small, 128)
    return enlarge([SmallFill(photograph, mask, small, small_mask, filled)], detail, CPU)[0]


def spread(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> float:
    return float(image[mask].astype(float).std())


def test_the_hole_gets_the_texture_around_it() -> None:
    truth, mask = gravel(), square()
    soft, sharp = enlarged(truth, mask, detail=0.0), enlarged(truth, mask)
    assert spread(soft, mask) < 0.5 * spread(truth, mask)
    assert 0.7 < spread(sharp, mask) / spread(truth, mask) < 1.25
    assert abs(sharp[mask].mean() - truth[mask].mean()) < 12
    between = enlarged(truth, mask, detail=0.5)
    assert spread(soft, mask) < spread(between, mask) < spread(sharp, mask)
    for result in (soft, between, sharp):
        assert np.array_equal(result[~mask], truth[~mask])


def test_detail_comes_from_where_the_colours_are_the_same() -> None:
    # Left: dark and flat. Right: bright gravel. The hole lies in both, and the network knows the border between.
    truth = gravel()
    truth[:, :192] = 40
    mask = np.zeros((384, 384), bool)
    mask[150:240, 90:300] = True
    filled = resize(cv2.GaussianBlur(truth, (0, 0), 9), SMALL, SMALL)
    result = enlarged(truth, mask, filled)
    dark, bright = mask.copy(), mask.copy()
    dark[:, 165:] = False
    bright[:, :220] = False
    assert spread(result, dark) < 8
    assert spread(result, bright) > 0.6 * spread(truth, bright)


def test_a_plain_surface_stays_plain() -> None:
    truth = np.full((300, 300, 3), 90, np.uint8)
    truth[:, :60] = gravel(300)[:, :60]  # there is texture, elsewhere
    mask = np.zeros((300, 300), bool)
    mask[100:200, 150:250] = True
    result = enlarged(truth, mask, np.full((SMALL, SMALL, 3), 90, np.uint8))
    assert np.abs(result.astype(int) - 90)[mask].max() <= 3


def test_the_networks_colours_are_kept_at_full_size() -> None:
    truth, mask = np.full((512, 512, 3), 100, np.uint8), square(512)
    small_mask = resize_mask(mask, SMALL, SMALL)
    filled = np.where(small_mask[..., None], np.array([200, 100, 20], np.uint8), np.uint8(7))
    result = enlarged(truth, mask, filled, detail=0.0)
    inner = cv2.erode(mask.astype(np.uint8), np.ones((25, 25))) > 0
    assert np.abs(result[inner].astype(int) - [200, 100, 20]).max() <= 2
    assert np.array_equal(result[~mask], truth[~mask])


def test_what_lies_under_the_mask_has_no_effect() -> None:
    truth, mask = gravel(), square()
    small_mask = resize_mask(mask, SMALL, SMALL)
    small, filled = resize(truth, SMALL, SMALL), np.full((SMALL, SMALL, 3), 128, np.uint8)
    other = np.where(mask[..., None], np.uint8(255), truth)
    other_small = np.where(small_mask[..., None], np.uint8(0), small)
    other_filled = np.where(small_mask[..., None], filled, np.uint8(0))
    (first,) = enlarge([SmallFill(truth, mask, small, small_mask, filled)], 1.0, CPU)
    (second,) = enlarge([SmallFill(other, mask, other_small, small_mask, other_filled)], 1.0, CPU)
    assert np.array_equal(first[mask], second[mask])


@pytest.mark.parametrize("size", [33, COARSEST - 1, COARSEST, 100, 128, 200, LARGEST + 200])
def test_windows_of_any_size(size: int) -> None:
    truth, mask = gravel(size), square(size)
    before = truth.copy(), mask.copy()
    result = enlarged(truth, mask)
    assert result.shape == truth.shape
    assert result.dtype == np.uint8
    assert abs(result[mask].mean() - 128) < 25
    if size <= LARGEST:
        assert np.array_equal(result[~mask], truth[~mask])
    assert np.array_equal(truth, before[0])
    assert np.array_equal(mask, before[1])


def test_where_everything_or_nothing_is_known() -> None:
    truth = gravel(200)
    filled = np.full((SMALL, SMALL, 3), 60, np.uint8)
    assert np.array_equal(enlarged(truth, np.zeros((200, 200), bool), filled), truth)
    all_hidden = enlarged(truth, np.ones((200, 200), bool), filled)
    assert np.abs(all_hidden.astype(int) - 60).max() <= 1


@pytest.mark.parametrize("known", ["mesh", "strip"])
def test_what_is_too_thin_for_the_network_keeps_the_colour_around_it(known: str) -> None:
    truth = np.full((512, 512, 3), 150, np.uint8)
    mask = np.ones((512, 512), bool)
    if known == "mesh":
        mask[1::4, 1::4] = mask[2::4, 1::4] = mask[1::4, 2::4] = mask[2::4, 2::4] = False
    else:
        mask[:, :2] = False
    assert resize_mask(mask, SMALL, SMALL).all()
    for detail in (0.0, 1.0):
        result = enlarged(truth, mask, np.full((SMALL, SMALL, 3), 140, np.uint8), detail)
        assert 135 <= result[mask].min() <= result[mask].max() <= 155


def test_a_hole_that_leaves_no_whole_source_gets_what_there_is() -> None:
    truth = gravel(256)
    mask = np.ones((256, 256), bool)
    mask[:, :12] = False
    result = enlarged(truth, mask)
    assert np.array_equal(result[~mask], truth[~mask])
    assert abs(result[mask].mean() - 128) < 25
