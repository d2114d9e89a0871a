"""Several passes over one image: test-time augmentation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from ultralytics.utils import ASSETS

from inpaint_core.detection.config import UltralyticsConfig
from inpaint_core.detection.detector import Detection, Region
from inpaint_core.detection.ensemble import merged, mirrored
from inpaint_core.detection.ultralytics import UltralyticsDetector
from inpaint_core.networks.weights.pretrained import DETECTOR, read_pretrained

CPU = torch.device("cpu")


def found(label: str, confidence: float, x0: int, y0: int, x1: int, y1: int) -> Detection:
    mask = np.ones((y1 - y0, x1 - x0), np.bool_)
    return Detection(label, confidence, (float(x0), float(y0), float(x1), float(y1)), mask, y0, x0)


def together(passes: list[list[Detection]]) -> list[Detection]:
    return merged(passes, ("person", "bicycle", "car", "bus", "truck"))


def area(detection: Detection, shape: tuple[int, int] = (100, 100)) -> NDArray[np.bool_]:
    mask = np.zeros(shape, np.bool_)
    height, width = detection.mask.shape
    mask[detection.top : detection.top + height, detection.left : detection.left + width] = detection.mask
    return mask


def test_what_the_mirror_shows_lies_where_it_is() -> None:
    mask = np.array([[True, False, False], [True, True, False]])
    there = Detection("person", 0.5, (2.0, 7.0, 5.0, 9.0), mask, 7, 2)
    here = mirrored(there, 20)
    assert here.box == (15.0, 7.0, 18.0, 9.0)
    assert np.array_equal(area(here, (10, 20)), area(there, (10, 20))[:, ::-1])
    back = mirrored(here, 20)
    assert back.box == there.box
    assert np.array_equal(back.mask, mask)


def test_uncertain_pixels_are_mirrored_with_their_object() -> None:
    there = replace(found("person", 0.9, 10, 20, 30, 60), uncertain=Region(np.eye(50, 40, dtype=bool), 15, 5))
    back = mirrored(mirrored(there, 100), 100)
    assert back.uncertain is not None
    assert (back.uncertain.top, back.uncertain.left) == (15, 5)
    assert np.array_equal(back.uncertain.mask, np.eye(50, 40, dtype=bool))
    once = mirrored(there, 100).uncertain
    assert once is not None
    assert (once.top, once.left) == (15, 100 - 5 - 40)
    [whole] = together([[there], [found("person", 0.5, 10, 20, 30, 60)]])
    assert whole.uncertain is there.uncertain


def test_an_object_of_several_passes_is_one_with_the_pixels_that_half_of_them_show() -> None:
    passes = [[found("person", 0.4, 10, 10, 30, 50)], [found("person", 0.8, 12, 10, 34, 50)], []]
    [one] = together(passes)
    assert (one.label, one.confidence, one.box) == ("person", 0.8, (12.0, 10.0, 34.0, 50.0))
    assert np.flatnonzero(area(one).any(axis=0)).tolist() == list(range(10, 34))  # one of two is half
    [one] = together([*passes, [found("person", 0.3, 12, 10, 30, 50)]])
    assert np.flatnonzero(area(one).any(axis=0)).tolist() == list(range(12, 30))


def test_pixels_tell_two_objects_apart_whose_boxes_do_not() -> None:
    masks = [np.zeros((60, 60), np.bool_) for _ in range(3)]
    for number, mask in enumerate(masks):
        mask[20 * number : 20 * number + 20] = True
    passes = [[Detection("car", 0.9 - 0.1 * n, (0.0, 0.0, 60.0, 60.0), mask, 0, 0)] for n, mask in enumerate(masks)]
    assert [area(one).sum() for one in together(passes)] == [1200, 1200, 1200]


def test_objects_of_one_pass_and_objects_apart_stay_apart() -> None:
    beside = [found("person", 0.7, 10, 10, 30, 50), found("person", 0.6, 14, 10, 34, 50)]
    far = [found("person", 0.5, 60, 10, 80, 50)]
    assert [one.confidence for one in together([beside, far])] == [0.7, 0.6, 0.5]
    # Each pass's two are the same two.
    assert len(together([beside, beside])) == 2


def test_the_passes_together_decide_the_class_of_what_lies_in_the_same_place() -> None:
    bus, truck = found("bus", 0.8, 0, 0, 80, 50), found("truck", 0.4, 2, 0, 80, 50)
    assert [one.label for one in together([[truck], [bus]])] == ["bus"]
    people = [[found("person", confidence, 0, 0, 40, 60)] for confidence in (0.6, 0.5)]
    bench = [found("bench", 0.65, 0, 0, 40, 60)]
    [one] = together([*people, bench])
    assert (one.label, one.confidence) == ("person", 0.6)
    assert together([people[0], bench]) == []  # what is not asked for
    # A rider is no part of what is ridden, though the boxes overlap by half.
    rider, bicycle = found("person", 0.4, 10, 0, 40, 60), found("bicycle", 0.8, 0, 10, 50, 60)
    assert sorted(one.label for one in together([[rider], [bicycle]])) == ["bicycle", "person"]


def test_nothing_found_is_nothing() -> None:
    assert together([[], []]) == []


@pytest.fixture(scope="module")
def street() -> NDArray[np.uint8]:
    return np.array(Image.open(ASSETS / "bus.jpg").convert("RGB"))


def people(street: NDArray[np.uint8], **more: object) -> list[Detection]:
    config = UltralyticsConfig(weights=DETECTOR, classes=("person",), **{"image_size": 320, "tiles": "off", **more})  # type: ignore[arg-type]
    detector = UltralyticsDetector(config, read_pretrained(DETECTOR), device=CPU, autocast=False)
    together = detector.detect([street, street[:, :400]], ["a", "b"])
    [alone] = detector.detect([street], ["a"])
    np.testing.assert_allclose([one.box for one in alone], [one.box for one in together[0]], atol=0.5)
    return together[0]


def test_more_passes_find_the_people_that_the_border_cuts(street: NDArray[np.uint8]) -> None:
    """Of the four people of the photograph, one is cut by its left border, one by its right."""
    once = people(street)
    often = people(street, more_sizes=(512, 256), mirror=True)
    assert len(often) >= len(once)
    assert all(one.label == "person" for one in often)
    width = street.shape[1]
    boxes = [one.box for one in often]
    assert any(box[0] < 0.02 * width and box[2] < 0.12 * width for box in boxes)
    assert any(box[2] > 0.98 * width and box[0] > 0.75 * width for box in boxes)
    again = people(street, more_sizes=(512, 256, 320), mirror=True)  # a size twice is one pass
    assert [one.box for one in again] == boxes


def test_uncertain_pixels_lie_in_and_around_their_object(street: NDArray[np.uint8]) -> None:
    for person in people(street):
        assert person.uncertain is not None
        maybe = np.zeros(street.shape[:2], bool)
        height, width = person.uncertain.mask.shape
        maybe[person.uncertain.top :, person.uncertain.left :][:height, :width] = person.uncertain.mask
        surely = area(person, street.shape[:2])
        assert (maybe & surely).sum() > 0.99 * surely.sum()
        assert (maybe & ~surely).sum() > 0.02 * surely.sum()
    assert all(person.uncertain is None for person in people(street, uncertain=0.5))
