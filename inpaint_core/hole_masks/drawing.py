"""Random strokes and boxes, drawn with integers only, so that a seed gives the same pixels on every machine.

Sizes are in pixels of a 256x256 image, as LaMa gives them, and every coordinate and width is scaled by size / 256 when
it is drawn: the same draws give the same hole at every size, but for rounding. Parameter values are those of LaMa
(Suvorov et al., WACV 2022; https://github.com/advimman/lama, `configs/data_gen/random_{thin,medium,thick}_256.yaml` and
`configs/training/data/`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

REFERENCE = 256
"""Side of the image that the parameters are given for, in pixels."""

_STEPS_PER_RADIAN = 100
_FULL_TURN = 4  # strokes turn by less than this, in rad
_BITS = 14

# Sine and cosine of each angle a stroke can have, in units of 2^-14. No product is near enough to a half for the last
# bit of a platform's `sin` to matter; a test holds that.
_SINES = tuple(round(math.sin(k / _STEPS_PER_RADIAN) * 2**_BITS) for k in range(_FULL_TURN * _STEPS_PER_RADIAN))
_COSINES = tuple(round(math.cos(k / _STEPS_PER_RADIAN) * 2**_BITS) for k in range(_FULL_TURN * _STEPS_PER_RADIAN))


@dataclass(frozen=True)
class Strokes:
    """Broken lines of 1 to 5 pieces, as free-form holes are drawn (Yu et al. 2019; LaMa).

    A piece has a length of 10 to 9 + `max_length` and a width of 5 to 4 + `max_width`, and starts where the one before
    ended. Its angle is drawn from [0, 4) rad, measured in the other direction on every second stroke. LaMa draws one of
    four angles (0.01, 1.01, 2.01, 3.01 rad); here they are 0.01 rad apart, so that a network does not learn directions.

    Args:
        times: fewest and most strokes.
        max_length: how many lengths a piece can have, in pixels of 256.
        max_width: how many widths a piece can have, in pixels of 256.
    """

    times: tuple[int, int]
    max_length: int
    max_width: int


@dataclass(frozen=True)
class Boxes:
    """Upright rectangles.

    Args:
        times: fewest and most boxes.
        sides: shortest and longest side, in pixels of 256.
        margin: distance that boxes keep from the image's border, in pixels of 256.
    """

    times: tuple[int, int]
    sides: tuple[int, int]
    margin: int


def draw_strokes(strokes: Strokes, rng: np.random.Generator, size: int) -> NDArray[np.bool_]:
    """A (size, size) bool mask, True on the strokes."""
    times = int(rng.integers(strokes.times[0], strokes.times[1] + 1))
    starts = rng.integers(0, REFERENCE, (times, 2)).tolist()
    pieces = rng.integers(1, 6, times).tolist()
    angles = iter(rng.integers(0, len(_SINES), sum(pieces)).tolist())
    lengths = iter(rng.integers(10, 10 + strokes.max_length, sum(pieces)).tolist())
    widths = iter(rng.integers(5, 5 + strokes.max_width, sum(pieces)).tolist())
    mask = np.zeros((size, size), dtype=np.uint8)
    for stroke, (x, y) in enumerate(starts):
        mirror = -1 if stroke % 2 == 0 else 1
        for _ in range(pieces[stroke]):
            angle, length, width = next(angles), next(lengths), next(widths)
            end_x = _clipped(x + ((mirror * length * _SINES[angle]) >> _BITS))
            end_y = _clipped(y + ((length * _COSINES[angle]) >> _BITS))
            thickness = max(1, _scaled(width, size))
            cv2.line(mask, _point(x, y, size), _point(end_x, end_y, size), 1, thickness, cv2.LINE_8)
            x, y = end_x, end_y
    return mask.view(np.bool_)


def draw_boxes(boxes: Boxes, rng: np.random.Generator, size: int) -> NDArray[np.bool_]:
    """A (size, size) bool mask, True on the boxes."""
    times = int(rng.integers(boxes.times[0], boxes.times[1] + 1))
    sides = rng.integers(boxes.sides[0], boxes.sides[1] + 1, (times, 2))
    starts = rng.integers(boxes.margin, REFERENCE - boxes.margin - sides + 1)
    mask = np.zeros((size, size), dtype=np.bool_)
    for (left, top), (width, height) in zip(starts.tolist(), sides.tolist(), strict=True):
        rows = slice(_scaled(top, size), _scaled(top + height, size))
        columns = slice(_scaled(left, size), _scaled(left + width, size))
        mask[rows, columns] = True
    return mask


def _clipped(coordinate: int) -> int:
    return min(max(coordinate, 0), REFERENCE - 1)


def _point(x: int, y: int, size: int) -> tuple[int, int]:
    return x * size // REFERENCE, y * size // REFERENCE


def _scaled(length: int, size: int) -> int:
    """A length of the 256-pixel image in pixels of this one, rounded."""
    return (length * size + REFERENCE // 2) // REFERENCE
