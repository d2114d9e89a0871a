"""What a detector is, and what it finds: one file per detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Detection:
    """One object, with its mask cut out of the image, so that many objects of a large photograph stay small.

    Args:
        label: name of the class.
        confidence: 0 to 1.
        box: (x0, y0, x1, y1) in pixels of the image, inside it.
        mask: (h, w) bool, True on the object; it lies wholly inside the image.
        top: row of the image that the first row of `mask` is.
        left: column of the image that the first column of `mask` is.
    """

    label: str
    confidence: float
    box: tuple[float, float, float, float]
    mask: NDArray[np.bool_]
    top: int
    left: int

    @property
    def pixels(self) -> int:
        """Number of pixels of the object."""
        return int(np.count_nonzero(self.mask))


class Detector(Protocol):
    """Finds the objects to remove."""

    def detect(self, images: Sequence[NDArray[np.uint8]], keys: Sequence[str]) -> list[list[Detection]]:
        """Find the objects of several images at once.

        Args:
            images: each (H, W, 3) uint8 RGB; the sizes may differ.
            keys: the key of each image, relative to the input.

        Returns:
            For each image its objects, every one with at least one pixel.

        Raises:
            ImageError: an image of the batch cannot be processed; which one only a call with one image tells.
        """
        ...
