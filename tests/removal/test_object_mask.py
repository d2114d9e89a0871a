"""From objects to the mask: growth, small objects, too much mask, holes, and the overlay."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from inpaint_core.detection.detector import Detection, Region
from inpaint_core.removal.config import MaskConfig
from inpaint_core.removal.object_mask import object_mask, overlay


def detection(mask: NDArray[np.bool_], top: int = 0, left: int = 0) -> Detection:
    height, width = mask.shape
    return Detection(
        "person", 0.9, (float(left), float(top), float(left + width), float(top + height)), mask, top, left
    )


def block(height: int, width: int, top: int, left: int) -> Detection:
    return detection(np.ones((height, width), dtype=bool), top, left)


def test_nothing_found() -> None:
    found = object_mask([], (5, 7), MaskConfig())
    assert found.core.shape == found.mask.shape == (5, 7)
    assert not found.core.any()
    assert not found.mask.any()
    assert (found.kept, found.note) == ([], None)


def test_one_pixel_grows_to_a_euclidean_disc() -> None:
    options = MaskConfig(grow_min=2, min_object_pixels=0)
    found = object_mask([block(1, 1, 4, 4)], (9, 9), options)
    expected = np.zeros((9, 9), dtype=bool)
    expected[2:7, 2:7] = [[0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0]]
    np.testing.assert_array_equal(found.mask, expected)
    assert found.core.sum() == 1


@pytest.mark.parametrize(
    ("side", "radius"),
    [
        (10, 4.0),  # 0.06 * 10 = 0.6, less than grow_min
        (100, 6.0),  # 0.06 * 100
        (120, 7.2),
        (300, 12.0),  # 0.06 * 300 = 18, more than grow_max
    ],
)
def test_radius_follows_the_size_of_the_object(side: int, radius: float) -> None:
    options = MaskConfig(grow=0.06, grow_min=4, grow_max=12, max_mask_fraction=1)
    found = object_mask([block(side, side, 30, 40)], (400, 420), options)
    # Independent: distance of every pixel of the whole image to the object.
    np.testing.assert_array_equal(found.mask, ndimage.distance_transform_edt(~found.core) <= radius)


def test_uncertain_pixels_are_masked_near_their_object_and_nowhere_else() -> None:
    options = MaskConfig(grow=0.0, grow_min=3, max_mask_fraction=1)
    maybe = np.zeros((180, 160), bool)
    maybe[120:140, 110:132] = True  # a shoe, of which the last columns are too far away
    maybe[5:9, 5:9] = True  # something else
    uncertain = Region(maybe, 25, 30)  # begins above and to the left of the object, and ends below and to the right
    person = replace(block(100, 100, 60, 50), uncertain=uncertain)
    found = object_mask([person], (220, 210), options)
    # Independent: over the whole image.
    everywhere = np.zeros((220, 210), bool)
    everywhere[25:205, 30:190] = maybe
    near = everywhere & (ndimage.distance_transform_edt(~found.core) <= 15)  # 0.15 times the square root of 100 x 100
    np.testing.assert_array_equal(found.mask, ndimage.distance_transform_edt(~(found.core | near)) <= 3)
    assert found.core.sum() == 100 * 100
    assert near.any()
    assert (everywhere & ~near & ~found.core).any()


@pytest.mark.parametrize(("top", "left"), [(0, 0), (40, 50), (10, 55)])
def test_uncertain_pixels_anywhere_and_of_any_size(top: int, left: int) -> None:
    for shape in ((1, 1), (30, 4), (20, 10)):
        person = replace(block(20, 10, 20, 30), uncertain=Region(np.ones(shape, bool), top, left))
        found = object_mask([person], (70, 70), MaskConfig(grow_min=2, max_mask_fraction=1))
        plain = object_mask([block(20, 10, 20, 30)], (70, 70), MaskConfig(grow_min=2, max_mask_fraction=1))
        assert not (plain.mask & ~found.mask).any()
        np.testing.assert_array_equal(found.core, plain.core)


def test_objects_of_any_shape_grow_one_by_one_and_are_cut_at_the_borders() -> None:
    generator = np.random.default_rng(3)
    shapes = [((40, 30), 0, 0), ((25, 60), 75, 120), ((50, 9), 60, 171), ((12, 12), 40, 90)]
    objects = []
    for (height, width), top, left in shapes:
        noise = ndimage.gaussian_filter(generator.normal(size=(height, width)), 3)
        objects.append(detection(noise > np.quantile(noise, 0.4), top, left))
    before = [item.mask.copy() for item in objects]
    options = MaskConfig(grow=0.1, grow_min=2, grow_max=9, min_object_pixels=1, max_mask_fraction=1)
    found = object_mask(objects, (110, 180), options)

    core = np.zeros((110, 180), dtype=bool)
    grown = np.zeros((110, 180), dtype=bool)
    for item in objects:
        alone = np.zeros((110, 180), dtype=bool)
        alone[item.top : item.top + item.mask.shape[0], item.left : item.left + item.mask.shape[1]] = item.mask
        radius = np.clip(0.1 * np.sqrt(item.pixels), 2, 9)
        core |= alone
        grown |= ndimage.distance_transform_edt(~alone) <= radius
    np.testing.assert_array_equal(found.core, core)
    # Only enclosed holes may be filled beyond the growth.
    assert (found.mask >= grown).all()
    assert (found.mask <= ndimage.binary_fill_holes(grown)).all()
    for item, mask in zip(objects, before, strict=True):
        np.testing.assert_array_equal(item.mask, mask)


def test_no_growth_is_the_objects_themselves() -> None:
    options = MaskConfig(grow=0, grow_min=0, grow_max=0, min_object_pixels=0)
    found = object_mask([block(3, 4, 0, 0), block(2, 2, 8, 8)], (10, 10), options)
    np.testing.assert_array_equal(found.mask, found.core)
    assert found.mask.sum() == 16


def test_small_objects_are_ignored_and_counted() -> None:
    objects = [block(7, 9, 2, 2), block(8, 8, 30, 30), block(1, 1, 50, 50)]
    found = object_mask(objects, (100, 100), MaskConfig())
    assert found.kept == [objects[1]]
    assert found.core.sum() == 64
    assert found.note == "2 objects smaller than 64 pixels ignored"
    assert object_mask(objects[:1], (100, 100), MaskConfig()).note == "1 object smaller than 64 pixels ignored"


def test_too_large_a_mask_is_left_out_with_a_note() -> None:
    objects = [block(71, 100, 0, 0), block(2, 2, 90, 90)]
    options = MaskConfig(grow=0, grow_min=0)
    found = object_mask(objects, (100, 100), options)
    assert not found.mask.any()
    assert not found.core.any()
    assert found.kept == []
    assert found.note == (
        "1 object smaller than 64 pixels ignored; "
        "mask would cover 71 % of the image, more than max_mask_fraction (60 %)"
    )
    exactly = object_mask([block(60, 100, 0, 0)], (100, 100), options)
    assert exactly.mask.sum() == 6000
    assert exactly.note is None


def test_a_small_hole_is_filled_and_a_large_one_is_kept() -> None:
    mask = np.ones((100, 100), dtype=bool)
    mask[10:20, 10:20] = False  # 100 pixels, 1 %
    mask[40:80, 40:80] = False  # 1600 pixels, 19 % of what is left
    found = object_mask([detection(mask, 20, 20)], (200, 200), MaskConfig(grow=0, grow_min=0))
    assert found.mask[30:40, 30:40].all()
    assert not found.mask[60:100, 60:100].any()
    assert not found.core[30:40, 30:40].any()  # core stays what the detector found


def test_a_small_hole_between_two_objects_is_filled() -> None:
    left = np.ones((60, 60), dtype=bool)
    left[25:35, 55:] = False
    found = object_mask([detection(left, 5, 5), block(60, 40, 5, 65)], (100, 200), MaskConfig(grow=0, grow_min=0))
    assert found.mask[5:65, 5:105].all()


def test_a_notch_that_opens_to_the_border_is_no_hole() -> None:
    mask = np.ones((50, 50), dtype=bool)
    mask[0:5, 20:25] = False
    found = object_mask([detection(mask)], (50, 100), MaskConfig(grow=0, grow_min=0))
    assert not found.mask[0:5, 20:25].any()


def test_overlay_shows_core_ring_and_outline_and_leaves_the_rest() -> None:
    image = np.full((60, 80, 3), 100, dtype=np.uint8)
    found = object_mask([block(20, 20, 20, 30)], image.shape[:2], MaskConfig(grow_min=6))
    picture = overlay(image, found.core, found.mask)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[~found.mask], 100)
    assert (image == 100).all()
    assert tuple(picture[30, 40]) == ((100 + 230) // 2, (100 + 30) // 2, (100 + 60) // 2)
    assert tuple(picture[17, 40]) == ((100 + 255) // 2, (100 + 200) // 2, 50)
    assert tuple(picture[14, 40]) == (255, 255, 255)
