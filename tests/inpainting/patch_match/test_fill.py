"""Holes filled with patches of the photograph."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data

from inpaint_core.inpainting.patch_match.fill import COARSEST, FINEST, PatchWindow, fill_with_patches

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def hole(size: int, top: float, left: float, bottom: float, right: float) -> Mask:
    mask = np.zeros((size, size), bool)
    mask[round(top * size) : round(bottom * size), round(left * size) : round(right * size)] = True
    return mask


def soft(photograph: Pixels, blur: float = 12) -> NDArray[np.float32]:
    """A guess: what belongs there, without its detail."""
    return cv2.GaussianBlur(photograph, (0, 0), blur).astype(np.float32)


def filled(photograph: Pixels, mask: Mask, guess: NDArray[np.float32] | None = None) -> Pixels:
    result = photograph.copy()
    window = PatchWindow(photograph, mask, soft(photograph) if guess is None else guess)
    (colours,) = fill_with_patches([window], CPU)
    assert colours is not None
    assert colours.shape == (np.count_nonzero(mask), 3)
    assert colours.dtype == torch.float32
    result[mask] = np.rint(colours.numpy().clip(0, 255)).astype(np.uint8)
    return result


def error(first: Pixels, second: Pixels, mask: Mask) -> float:
    return float(np.abs(first.astype(float) - second)[mask].mean())


def bricks(size: int = 320) -> Pixels:
    """Courses of 16 pixels, bricks of 32, grey joints."""
    rows, columns = np.mgrid[:size, :size]
    joints = (rows % 16 < 3) | ((columns + 16 * (rows // 16 % 2)) % 32 < 3)
    return np.where(joints[..., None], np.uint8(190), np.array([150, 70, 50], np.uint8))


def test_a_pattern_goes_on_through_the_hole() -> None:
    wall, mask = bricks(), hole(320, 0.35, 0.3, 0.65, 0.6)
    guess = soft(wall)
    result = filled(wall, mask, guess)
    # The guess knows no joint, and a wall without them is wrong by 40 levels.
    assert error(np.rint(guess).astype(np.uint8), wall, mask) > 25
    assert error(result, wall, mask) < 12
    assert 0.8 < result[mask].std() / wall[mask].std() < 1.2


def test_a_border_between_two_surfaces_goes_on() -> None:
    noise = np.random.default_rng(0).normal(0, 6, (300, 300, 1))
    rows = np.arange(300)[:, None, None]
    truth = (np.where(rows < 150, [90, 140, 220], [120, 110, 80]) + noise).clip(0, 255).astype(np.uint8)
    mask = hole(300, 0.35, 0.35, 0.65, 0.65)
    blue = filled(truth, mask, soft(truth, 15)).astype(int)[..., 2]
    assert blue[mask & (np.arange(300)[:, None] < 143)].min() > 180
    assert blue[mask & (np.arange(300)[:, None] > 157)].max() < 120


def test_what_is_copied_meets_what_is_around_it() -> None:
    # Gravel under a light that fades to the right: nowhere else is it as bright as in the hole.
    grains = np.random.default_rng(1).normal(0, 12, (100, 100, 1)).astype(np.float32)
    gravel = cv2.resize(grains, (400, 400), interpolation=cv2.INTER_CUBIC)[..., None]
    light = np.linspace(190, 60, 400)[None, :, None]
    truth = (light + gravel).clip(0, 255).repeat(3, 2).astype(np.uint8)
    mask = hole(400, 0.3, 0.35, 0.7, 0.6)
    result = filled(truth, mask).astype(float)
    light_there = cv2.GaussianBlur(result, (0, 0), 10)[mask] - cv2.GaussianBlur(truth.astype(float), (0, 0), 10)[mask]
    assert np.abs(light_there).mean() < 5
    rows = slice(125, 275)
    for edge in (140, 240):
        step = result[rows, edge] - result[rows, edge - 1]
        usual = truth[rows, edge + 30].astype(float) - truth[rows, edge + 29]
        assert np.abs(step).mean() < 2 * np.abs(usual).mean() + 1


def test_a_photograph_is_filled_better_than_by_its_guess_alone() -> None:
    """Structure of a real photograph: its gradients, where a soft fill has next to none."""
    truth = data.astronaut()[:, :, :3]
    mask = hole(512, 0.75, 0.1, 0.95, 0.4)
    guess = soft(np.where(mask[..., None], np.median(truth[~mask], axis=0).astype(np.uint8), truth), 20)
    result = filled(truth, mask, guess)

    def strength(image: NDArray[np.float32] | Pixels) -> float:
        return float(np.abs(cv2.Laplacian(image.astype(np.float32), cv2.CV_32F))[mask].mean())

    assert strength(guess) < 0.1 * strength(truth)
    assert 0.4 * strength(truth) < strength(result) < 1.5 * strength(truth)


def test_only_what_is_known_counts() -> None:
    wall, mask = bricks(), hole(320, 0.3, 0.3, 0.6, 0.7)
    other = np.where(mask[..., None], np.uint8(7), wall)
    guess = soft(wall)
    before = wall.copy(), mask.copy(), guess.copy()
    assert np.array_equal(filled(wall, mask, guess)[mask], filled(other, mask, guess)[mask])
    for given, kept in zip((wall, mask, guess), before, strict=True):
        assert np.array_equal(given, kept)


@pytest.mark.parametrize("size", [COARSEST, 33, 64, 127, 128, 500, 2 * FINEST + 300])
def test_windows_of_any_size(size: int) -> None:
    truth = cv2.resize(bricks(), (size, size))
    mask = hole(size, 0.45, 0.45, 0.6, 0.6)
    result = filled(truth, mask, soft(truth)[: size // 2 + 1, : size // 2 + 1])
    assert truth.min() - 48 <= result[mask].min() <= result[mask].max() <= min(255, int(truth.max()) + 48)


def test_the_holes_of_a_large_window_are_as_sharp_as_it_is() -> None:
    truth, mask = bricks(2 * FINEST + 400), hole(2 * FINEST + 400, 0.4, 0.4, 0.5, 0.5)
    result = filled(truth, mask)
    gradient = [np.abs(np.diff(image.astype(int), axis=1))[mask[:, 1:]].max() for image in (truth, result)]
    assert gradient[1] > 0.8 * gradient[0]


@pytest.mark.parametrize("known", ["nothing", "one column", "a mesh"])
def test_where_no_patch_is_known_it_says_so(known: str) -> None:
    mask = np.ones((128, 128), bool)
    if known == "one column":
        mask[:, 0] = False
    elif known == "a mesh":
        mask[::4] = mask[:, ::4] = False
    truth = bricks(128)
    assert fill_with_patches([PatchWindow(truth, mask, soft(truth))], CPU) == [None]


def test_windows_that_are_searched_together_are_filled_as_alone() -> None:
    """Of several sizes and numbers of levels, one without anything to copy, one whose first levels know nothing."""
    astronaut = data.astronaut()[:, :, :3]
    barred = np.zeros((300, 300), bool)
    barred[:, :250] = True  # 50 columns remain: no whole patch at 32 pixels
    windows = [
        PatchWindow(bricks(), hole(320, 0.35, 0.3, 0.65, 0.6), soft(bricks())),
        PatchWindow(astronaut, hole(512, 0.75, 0.1, 0.95, 0.4), soft(astronaut)),
        PatchWindow(bricks(128), np.ones((128, 128), bool), soft(bricks(128))),
        PatchWindow(cv2.resize(astronaut, (300, 300)), barred, soft(cv2.resize(astronaut, (300, 300)))),
        PatchWindow(bricks(33), hole(33, 0.4, 0.4, 0.6, 0.6), soft(bricks(33))),
        PatchWindow(cv2.resize(astronaut, (400, 400)), hole(400, 0.1, 0.5, 0.4, 0.6), soft(astronaut)),
    ]
    together = fill_with_patches(windows, CPU)
    alone = [fill_with_patches([window], CPU)[0] for window in windows]
    assert [colours is None for colours in together] == [False, False, True, False, False, False]
    for index, (first, second) in enumerate(zip(together, alone, strict=True)):
        if first is not None and second is not None:
            # A last bit may decide between two matches of the same cost.
            same = (first - second).abs().amax(dim=1) < 1
            assert same.float().mean() > 0.98, index


def test_a_match_never_lies_in_another_window() -> None:
    """Two windows without a colour in common: each is filled with its own."""
    noise = np.random.default_rng(3).integers(0, 60, (256, 256, 3), np.uint8)
    dark, bright = noise, (255 - noise).astype(np.uint8)
    mask = hole(256, 0.0, 0.2, 0.3, 1.0)  # at the first row, and the last column
    guess = np.full((8, 8, 3), 128, np.uint8)
    first, second = fill_with_patches(
        [PatchWindow(dark, mask, guess), PatchWindow(bright, mask[::-1].copy(), guess)], CPU
    )
    assert first is not None
    assert second is not None
    assert first.mean() < 60
    assert second.mean() > 195
