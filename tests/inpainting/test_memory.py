"""Memory of a fill: bytes of arrays for each pixel of the photograph, and which arrays are its caller's."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from inpaint_core.inpainting.config import FillConfig
from inpaint_core.inpainting.enlarge import PatchEnlarger
from inpaint_core.inpainting.inpainter import Hole, Inpainter

pytestmark = pytest.mark.usefixtures("one_thread")

Pixels = NDArray[np.uint8]


class Grey:
    window: int | None = 64
    central = False

    def fill(self, images: Sequence[Pixels], masks: Sequence[NDArray[np.bool_]]) -> list[Pixels]:
        return [np.full_like(image, 128) for image in images]


INPAINTER = Inpainter(PatchEnlarger(Grey(), 1.0, torch.device("cpu")), FillConfig())


def cross(height: int, width: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """A thin hole over most of an image, and its core."""
    core, mask = np.zeros((height, width), np.bool_), np.zeros((height, width), np.bool_)
    rows, columns = slice(height // 8, -height // 8), slice(width // 8, -width // 8)
    for one, reach in ((core, 2), (mask, 5)):
        one[rows, width // 2 - reach : width // 2 + reach] = True
        one[height // 2 - reach : height // 2 + reach, columns] = True
    return core, mask


def grains(height: int, width: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_large_window_is_held_once() -> None:
    # The result has 3 bytes a pixel, and so has what the window is filled in; 2 more are masks. A second copy would be 3 more.
    height = width = 1800
    hole = Hole(grains(height, width), *cross(height, width))
    tracemalloc.start()
    (result,) = INPAINTER.inpaint([hole])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 9 * height * width
    assert np.array_equal(result[~hole.mask], hole.image[~hole.mask])
    assert not np.array_equal(result[hole.core], hole.image[hole.core])


@pytest.mark.parametrize("size", [(200, 200), (90, 260)], ids=["window inside", "window beyond the image"])
def test_the_callers_arrays_stay_as_they_were(size: tuple[int, int]) -> None:
    core, mask = cross(*size)
    image = grains(*size)
    before = image.copy(), core.copy(), mask.copy()
    (result,) = INPAINTER.inpaint([Hole(image, core, mask)])
    for array, copy in zip((image, core, mask), before, strict=True):
        assert np.array_equal(array, copy)
    assert not np.may_share_memory(result, image)
    assert np.array_equal(result[~mask], image[~mask])


def test_an_image_without_a_hole_is_copied() -> None:
    image, empty = grains(40, 50), np.zeros((40, 50), np.bool_)
    (result,) = INPAINTER.inpaint([Hole(image, empty, empty)])
    assert np.array_equal(result, image)
    assert not np.may_share_memory(result, image)
