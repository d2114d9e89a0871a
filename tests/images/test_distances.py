"""Distances in strips: those of one map of everything, to the last bits of float32."""

import tracemalloc

import cv2
import numpy as np
import pytest

import inpaint_core.images.distances
from inpaint_core.images.distances import distance_map, distances_at, within


def regions(height: int, width: int, seed: int, density: float) -> np.ndarray:
    return (np.random.default_rng(seed).random((height, width)) > density).astype(np.uint8)


def whole(elsewhere: np.ndarray) -> np.ndarray:
    return cv2.distanceTransform(elsewhere, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


@pytest.mark.parametrize("at_once", [1, 4000, 2**22])
@pytest.mark.parametrize("density", [1e-4, 1e-2])
def test_strips_give_what_one_map_gives(at_once: int, density: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inpaint_core.images.distances, "_PIXELS_AT_ONCE", at_once)
    monkeypatch.setattr(inpaint_core.images.distances, "_HALO", 20)
    elsewhere = regions(300, 170, 0, density)
    chosen = np.random.default_rng(1).random(elsewhere.shape) < 0.3
    chosen[90:130] = False
    assert np.allclose(distances_at(elsewhere, chosen), whole(elsewhere)[chosen], rtol=1e-6)
    for radius in (0.0, 1.5, 7.05, 40.3):
        assert np.array_equal(within(elsewhere, radius), whole(elsewhere) <= radius)


def test_a_region_far_from_all_rows_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inpaint_core.images.distances, "_PIXELS_AT_ONCE", 1)
    monkeypatch.setattr(inpaint_core.images.distances, "_HALO", 4)
    elsewhere = np.ones((100, 3), np.uint8)
    elsewhere[0, 0] = 0
    chosen = np.zeros(elsewhere.shape, np.bool_)
    chosen[90, 0] = True
    assert distances_at(elsewhere, chosen).tolist() == [90.0]
    assert np.count_nonzero(within(elsewhere, 2.0)) == 6


def test_nothing_chosen_has_no_distances() -> None:
    assert distances_at(np.ones((5, 5), np.uint8), np.zeros((5, 5), np.bool_)).shape == (0,)


def test_distances_up_to_a_limit_are_exact_and_the_others_beyond_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inpaint_core.images.distances, "_PIXELS_AT_ONCE", 1)
    monkeypatch.setattr(inpaint_core.images.distances, "_HALO", 4)
    elsewhere = np.ones((300, 40), np.uint8)
    elsewhere[7, 3] = elsewhere[250, 30] = 0
    chosen = np.random.default_rng(0).random(elsewhere.shape) < 0.5
    expected = whole(elsewhere)[chosen]
    for limit in (0.0, 3.0, 4.0, 11.5, 60.0, 1000.0):
        found = distances_at(elsewhere, chosen, up_to=limit)
        assert np.allclose(found[expected <= limit], expected[expected <= limit], rtol=1e-6)
        assert (found[expected > limit] > limit).all()


def test_far_pixels_of_a_large_map_need_no_map_of_everything() -> None:
    height, width = 12_000, 700
    elsewhere = np.ones((height, width), np.uint8)
    elsewhere[600, 0] = 0
    chosen = np.zeros(elsewhere.shape, np.bool_)
    chosen[100, 0] = True
    tracemalloc.start()
    assert distances_at(elsewhere, chosen).tolist() == [500.0]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * height * width  # the whole map has 4 bytes a pixel


@pytest.mark.parametrize("use_ipp", [True, False])
def test_distances_are_exact_wherever_the_map_lies_in_memory(use_ipp: bool) -> None:
    elsewhere = np.ones((330, 410), np.uint8)
    zeros = np.array([(0, 7), (201, 333), (290, 11)])
    elsewhere[tuple(zeros.T)] = 0
    rows, columns = np.indices(elsewhere.shape)
    squares = np.min([(rows - row) ** 2 + (columns - column) ** 2 for row, column in zeros], axis=0)
    before, threads = cv2.ipp.useIPP(), cv2.getNumThreads()
    cv2.setNumThreads(1)
    cv2.ipp.setUseIPP(use_ipp)
    try:
        for offset in range(16):
            buffer = np.zeros(elsewhere.size + offset, np.uint8)
            placed = buffer[offset:].reshape(elsewhere.shape)
            placed[:] = elsewhere
            assert np.array_equal(distance_map(placed), np.sqrt(squares).astype(np.float32))
        assert cv2.ipp.useIPP() == (use_ipp and before)
    finally:
        cv2.setNumThreads(threads)
        cv2.ipp.setUseIPP(before)
