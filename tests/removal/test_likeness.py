"""How much a fill looks like its surroundings."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from inpaint_core.detection.config import UltralyticsConfig
from inpaint_core.detection.detector import DescribingDetector, Features
from inpaint_core.detection.ultralytics import UltralyticsDetector
from inpaint_core.networks.weights.pretrained import DETECTOR, read_pretrained
from inpaint_core.removal.likeness import likeness


def square(height: int = 160, width: int = 240) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), np.bool_)
    mask[48:112, 80:160] = True
    return mask


def features(fill: tuple[float, float], around: tuple[float, float], far: tuple[float, float]) -> Features:
    """Maps of 10 x 15 cells, three kinds of them."""
    values = np.empty((2, 10, 15), np.float32)
    values[:] = np.array(far)[:, None, None]
    values[:, :, :12] = np.array(around)[:, None, None]
    values[:, 3:7, 5:10] = np.array(fill)[:, None, None]
    return Features(values)


def test_values_by_hand() -> None:
    assert likeness(features((1, 0), (1, 0), (0, 1)), square()) == pytest.approx(1.0)
    unlike = likeness(features((1, 0), (0, 1), (0, 1)), square())
    assert unlike == pytest.approx(-1.0)
    # A feature that the whole image has makes nothing alike.
    assert likeness(features((9, 8), (8, 9), (8, 9)), square()) == pytest.approx(-1.0)


def test_nothing_to_compare() -> None:
    assert likeness(features((1, 0), (1, 0), (0, 1)), np.ones((160, 240), np.bool_)) is None
    assert likeness(features((1, 0), (1, 0), (0, 1)), np.zeros((160, 240), np.bool_)) is None
    assert likeness(features((1, 0), (1, 0), (1, 0)), square()) is None


def test_hole_smaller_than_a_cell_counts() -> None:
    mask = np.zeros((160, 240), np.bool_)
    mask[60:64, 100:104] = True
    assert likeness(features((1, 0), (1, 0), (0, 1)), mask) == pytest.approx(1.0)


def test_features_of_a_network_come_with_its_objects_and_cover_the_image() -> None:
    from ultralytics.utils import ASSETS

    config = UltralyticsConfig(weights=DETECTOR, image_size=320, confidence=0.1, tiles="off")
    device = torch.device("cpu")
    detector = UltralyticsDetector(config, read_pretrained(DETECTOR), device=device, autocast=False)
    assert isinstance(detector, DescribingDetector)
    bus = np.asarray(Image.open(ASSETS / "bus.jpg").convert("RGB").resize((405, 540)))
    wide = np.asarray(Image.open(ASSETS / "zidane.jpg").convert("RGB").resize((640, 360)))
    plain = detector.detect([bus, wide], ["bus", "zidane"])
    described = detector.detect_and_describe([bus, wide], ["bus", "zidane"])
    assert [[found.box for found in objects] for objects, _ in described] == [
        [found.box for found in one] for one in plain
    ]
    assert [len(objects) > 0 for objects, _ in described] == [True, True]
    # 320 x 240 pixels of input, and 180 x 320 with padding to 192.
    assert [maps.values.shape[1:] for _, maps in described] == [(20, 15), (11, 20)]
    assert all(maps.values.dtype == np.float32 and np.isfinite(maps.values).all() for _, maps in described)


def test_blot_is_less_alike_than_the_photograph_itself() -> None:
    from ultralytics.utils import ASSETS

    config = UltralyticsConfig(weights=DETECTOR, image_size=320, tiles="off")
    detector = UltralyticsDetector(config, read_pretrained(DETECTOR), device=torch.device("cpu"), autocast=False)
    image = np.asarray(Image.open(ASSETS / "bus.jpg").convert("RGB").resize((405, 540))).copy()
    mask = np.zeros(image.shape[:2], np.bool_)
    mask[420:520, 60:340] = True  # the street
    blot = image.copy()
    blot[mask] = (200, 30, 160)
    [(_, as_it_is), (_, with_blot)] = detector.detect_and_describe([image, blot], ["a", "b"])
    own, blotted = likeness(as_it_is, mask), likeness(with_blot, mask)
    assert own is not None
    assert blotted is not None
    assert own > blotted + 0.2
