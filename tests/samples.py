"""Photographs and a detector for tests that need no weights.

The detector finds what is painted in one colour; the photographs come from installed packages.
"""

import io
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inpaint_core.detection.detector import Detection

PAINT = (255, 0, 255)


class PaintDetector:
    """Finds connected parts of (nearly) `PAINT`, as objects of class `paint`."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def detect(self, images: Sequence[NDArray[np.uint8]], keys: Sequence[str]) -> list[list[Detection]]:
        self.batches.append(list(keys))
        return [self._find(image) for image in images]

    def _find(self, image: NDArray[np.uint8]) -> list[Detection]:
        near = (np.abs(image.astype(int) - PAINT).max(axis=2) < 60).astype(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(near, connectivity=8)
        found = []
        for label in range(1, count):
            x, y, w, h, _area = (int(value) for value in stats[label])
            part = labels[y : y + h, x : x + w] == label
            found.append(Detection("paint", 0.9, (float(x), float(y), float(x + w), float(y + h)), part, y, x))
        return found


def photograph(size: tuple[int, int] = (160, 120), name: str = "coffee.png", seed: int = 0) -> NDArray[np.uint8]:
    """A read-only (height, width, 3) crop of a photograph; another seed gives another crop."""
    image = _whole(name)
    rng = np.random.default_rng(seed)
    left = int(rng.integers(0, image.shape[1] - size[0] + 1))
    top = int(rng.integers(0, image.shape[0] - size[1] + 1))
    crop = image[top : top + size[1], left : left + size[0]].copy()
    crop.flags.writeable = False
    return crop


@cache
def _whole(name: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(str(files("skimage").joinpath("data", name))).convert("RGB"))


def painted(image: NDArray[np.uint8], *boxes: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """The image with boxes (x0, y0, x1, y1) painted for the detector."""
    result = image.copy()
    for x0, y0, x1, y1 in boxes:
        result[y0:y1, x0:x1] = PAINT
    return result


def encoded(image: NDArray[np.uint8], format_: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format_, **options)  # type: ignore[arg-type]
    return file.getvalue()


def decoded(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
