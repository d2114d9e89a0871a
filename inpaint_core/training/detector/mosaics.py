"""Pictures to train a detector on: mosaics of photographs (Bochkovskiy et al., "YOLOv4", 2020, section 3.3)."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

_LARGEST = 1.5  # side of a photograph, in sides of the picture
_SHARPENING = 2.0  # most that an enlarged photograph's detail is strengthened
_GRAIN = 6.0  # most of its standard deviation, in levels
_PLAIN = 0.04  # part of the photographs that a plain colour stands for


class Mosaics:
    """Draws pictures, each from a generator of its own.

    A picture is a grid of photographs, all of one size, drawn log-uniformly between `smallest_tile` and one and a half
    times the picture's own: so objects of all sizes come up, in small photographs too, and close up. Where the grid begins
    is random. Each photograph is mirrored or not, and brighter or darker, of more or less contrast and colour than it was;
    enlarged ones are sharpened more or less, with more or less grain; one in 25 is replaced by a plain colour, in which there is nothing.

    Args:
        photographs: (n, s, s, 3) uint8 RGB.
        weights: (n,) how often each is drawn, in any unit.
        size: side of a picture in pixels.
        smallest_tile: least side of a photograph in it.
    """

    def __init__(
        self, photographs: NDArray[np.uint8], weights: NDArray[np.float64], size: int, smallest_tile: int
    ) -> None:
        self._photographs = photographs
        self._cumulative = np.cumsum(weights) / np.sum(weights)
        self._size = size
        self._smallest = min(smallest_tile, size)

    def __call__(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """A picture (size, size, 3) uint8 RGB; `rng` is advanced."""
        tile = round(self._smallest * (_LARGEST * self._size / self._smallest) ** rng.random())
        # A photograph that is larger than the picture fills it alone.
        first = -rng.integers(0, tile if tile < self._size else tile - self._size + 1, size=2)
        rows, columns = (math.ceil((self._size - int(begin)) / tile) for begin in first)
        canvas = np.empty((rows * tile, columns * tile, 3), np.uint8)
        for row in range(rows):
            for column in range(columns):
                place = np.searchsorted(self._cumulative, rng.random(), side="right")
                photograph = self._photographs[min(int(place), len(self._photographs) - 1)]
                canvas[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile] = _varied(
                    photograph, tile, rng
                )
        top, left = (-int(begin) for begin in first)
        return canvas[top : top + self._size, left : left + self._size]


def grid(photographs: NDArray[np.uint8], tile: int, columns: int) -> NDArray[np.uint8]:
    """Photographs (n, s, s, 3) as they are, in one picture of `columns` a row; what is missing in the last row is grey."""
    rows = math.ceil(len(photographs) / columns)
    canvas = np.full((rows * tile, columns * tile, 3), 114, np.uint8)
    for place, photograph in enumerate(photographs):
        row, column = divmod(place, columns)
        canvas[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile] = _resized(photograph, tile)
    return canvas


def _resized(photograph: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    interpolation = cv2.INTER_AREA if side < photograph.shape[0] else cv2.INTER_LINEAR
    resized: NDArray[np.uint8] = np.asarray(cv2.resize(photograph, (side, side), interpolation=interpolation), np.uint8)
    return resized


def _varied(photograph: NDArray[np.uint8], side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    if rng.random() < _PLAIN:
        return np.full((side, side, 3), rng.integers(0, 256, 3), np.uint8)
    if rng.random() < 0.5:
        photograph = photograph[:, ::-1]
    brightness, contrast, colour = rng.uniform(-24, 24), rng.uniform(0.75, 1.3), rng.uniform(0.5, 1.4)
    small = min(side, photograph.shape[0])
    pixels = _resized(np.ascontiguousarray(photograph), small)
    grey = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    offset = 128 * (1 - contrast) + brightness
    varied: NDArray[np.uint8] = np.asarray(
        cv2.addWeighted(pixels, colour * contrast, grey, (1 - colour) * contrast, offset), np.uint8
    )
    return varied if side == small else _sharpened(_resized(varied, side), side / small, rng)


def _sharpened(enlarged: NDArray[np.uint8], times: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """More or less of an unsharp mask as wide as the enlarged pixels, and grain: else close-ups would be known by their blur."""
    blurred = cv2.GaussianBlur(enlarged, (0, 0), 0.6 * times)
    amount = rng.uniform(0, _SHARPENING)
    sharp = cv2.addWeighted(enlarged, 1 + amount, blurred, -amount, 0)
    grain = rng.standard_normal(enlarged.shape[:2], np.float32) * rng.uniform(0, _GRAIN)
    sharpened: NDArray[np.uint8] = np.asarray(cv2.add(sharp, cv2.merge([grain] * 3), dtype=cv2.CV_8U), np.uint8)
    return sharpened
