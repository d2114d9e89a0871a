"""Cast shadows: found where a dark region is a step of light at an object's foot, and nothing else is taken for one."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from inpaint_core.detection.detector import Detection
from inpaint_core.removal.config import MaskConfig
from inpaint_core.removal.object_mask import object_mask
from inpaint_core.removal.shadows import cast_shadows

Mask = NDArray[np.bool_]
SAND, SKY_LIT = (
    (190, 170, 140),
    (0.42, 0.46, 0.52),
)  # the colour of the ground, and how much of each channel a shadow leaves


def ground(height: int = 300, width: int = 400) -> NDArray[np.float64]:
    """Sand with grain."""
    grain = cv2.GaussianBlur(np.random.default_rng(3).normal(0, 12, (height, width)), (0, 0), 1.0)
    return np.array(SAND) + grain[..., None]


def person(height: int = 300, width: int = 400) -> Mask:
    """A standing figure, grown."""
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(mask, (200, 120), (24, 80), 0, 0, 360, 1, -1)
    return mask.view(np.bool_)


def on_the_ground(offset: int = 0) -> Mask:
    """Where the figure's shadow falls: from its feet to the right."""
    mask = np.zeros((300, 400), np.uint8)
    cv2.ellipse(mask, (258, 205 + offset), (72, 14), 0, 0, 360, 1, -1)
    return mask.view(np.bool_)


def scene(dark: Mask, share: tuple[float, float, float] = SKY_LIT) -> NDArray[np.uint8]:
    """The ground with a figure, and a region in which only a share of the light is left."""
    left = 1 - cv2.GaussianBlur(dark.astype(np.float64), (0, 0), 1.0)[..., None] * (1 - np.array(share))
    image = ground() * left
    image[person()] = (40, 60, 120)
    return np.rint(image.clip(0, 255)).astype(np.uint8)


def overlap(found: Mask, wanted: Mask) -> float:
    return float((found & wanted).sum() / (found | wanted).sum())


def test_shadow_at_the_foot_is_found_with_its_soft_edge() -> None:
    found = cast_shadows(scene(on_the_ground()), person())
    wanted = on_the_ground() & ~person()
    assert overlap(found, wanted) > 0.75
    assert (found & wanted).sum() > 0.99 * wanted.sum()
    assert not (found & person()).any()


def test_found_at_any_size_of_the_photograph() -> None:
    image, mask, wanted = scene(on_the_ground()), person(), on_the_ground() & ~person()
    size = (1600, 1200)
    large = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    found = cast_shadows(large, cv2.resize(mask.view(np.uint8), size, interpolation=cv2.INTER_NEAREST).view(np.bool_))
    assert found.shape == (1200, 1600)
    assert overlap(found, cv2.resize(wanted.view(np.uint8), size, interpolation=cv2.INTER_NEAREST).view(np.bool_)) > 0.7


def test_photograph_in_grey() -> None:
    grey = np.repeat(scene(on_the_ground()).mean(axis=-1, keepdims=True), 3, axis=-1).astype(np.uint8)
    assert overlap(cast_shadows(grey, person()), on_the_ground() & ~person()) > 0.75


@pytest.mark.parametrize(
    ("share", "what"),
    [
        ((0.30, 0.50, 0.25), "a bush"),
        ((0.45, 0.42, 0.30), "damp earth, less blue than the ground"),
        ((1, 1, 1), "none"),
    ],
)
def test_what_is_no_shadow_stays(share: tuple[float, float, float], what: str) -> None:
    assert not cast_shadows(scene(on_the_ground(), share), person()).any(), what


def test_shadow_that_does_not_touch_the_object_stays() -> None:
    assert not cast_shadows(scene(on_the_ground(offset=45)), person()).any()


def test_ground_that_is_dark_everywhere_beside_the_object_stays() -> None:
    everywhere = np.zeros((300, 400), np.bool_)
    everywhere[190:] = True
    assert not cast_shadows(scene(everywhere), person()).any()


def test_object_whose_foot_is_not_in_the_image_has_no_shadow() -> None:
    assert not cast_shadows(scene(on_the_ground())[:196], person()[:196]).any()


def test_part_of_core_and_mask_only_where_asked_for() -> None:
    figure = person()
    detection = Detection("person", 0.9, (176.0, 40.0, 224.0, 200.0), figure, 0, 0)
    image = scene(on_the_ground())
    without = object_mask([detection], (300, 400), MaskConfig(), image)
    assert without.note is None
    found = object_mask([detection], (300, 400), MaskConfig(shadows=True), image)
    assert found.note == "shadows on the ground are part of the mask"
    more = found.mask & ~without.mask
    np.testing.assert_array_equal(more, found.core & ~without.core)
    assert overlap(more, on_the_ground() & ~without.mask) > 0.7
    between = (without.mask.mean() + found.mask.mean()) / 2
    limited = object_mask([detection], (300, 400), MaskConfig(shadows=True, max_mask_fraction=between), image)
    assert not limited.mask.any()  # with its shadow, the object is too large


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "within"),
    [("000000000471", (290, 350, 90, 640)), ("000000000382", (430, 480, 540, 640))],
)
def test_photographs(name: str, within: tuple[int, int, int, int], shared_dir: Path) -> None:
    """A bus on a car park and a skier on snow: their shadows, and little else."""
    image = np.asarray(Image.open(shared_dir / "data/coco64-seg/images" / f"{name}.jpg").convert("RGB"))
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    for line in (shared_dir / "data/coco64-seg/labels" / f"{name}.txt").read_text().splitlines():
        label, *numbers = line.split()
        if label in ("0", "5", "30"):
            points = np.array(numbers, float).reshape(-1, 2) * [width, height]
            cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 1)
    grown = cv2.dilate(mask, np.ones((11, 11), np.uint8)).view(np.bool_)
    found = cast_shadows(image, grown)
    rows, columns = np.nonzero(found)
    top, bottom, left, right = within
    assert len(rows) > 800
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    assert inside.mean() > 0.9
