"""Random strokes and boxes, drawn with integers only, so that a seed gives the same pixels on every machine.

Sizes are in pixels of a 256x256 image, as LaMa gives them, and every coordinate and width is scaled by size / 256 when
it is drawn: the same draws give the same hole at every size, but for rounding. Parameter values are those of LaMa
(Suvorov et al., WACV 2022; https://github.com/advimman/lama, `configs/data_gen/random_{thin,medium,thick}_256.yaml` and
`configs/training/data/`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inpaint_core.hole_masks.keyed_random import Keys, child_keys, integers

REFERENCE = 256
"""Side of the image that the parameters are given for, in pixels."""

_STEPS_PER_RADIAN = 100
_FULL_TURN = 4  # strokes turn by less than this, in rad
_BITS = 14

# Sine and cosine of each angle a stroke can have, in units of 2^-14. No product is near enough to a half for the last
# bit of a platform's `sin` to matter; a test holds that.
_ANGLES = _FULL_TURN * _STEPS_PER_RADIAN
_SINES = np.array([round(math.sin(k / _STEPS_PER_RADIAN) * 2**_BITS) for k in range(_ANGLES)])
_COSINES = np.array([round(math.cos(k / _STEPS_PER_RADIAN) * 2**_BITS) for k in range(_ANGLES)])

_MOST_PIECES = 5


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
    starts = rng.integers(0, REFERENCE, (times, 2))
    pieces = rng.integers(1, _MOST_PIECES + 1, times)
    there = np.arange(_MOST_PIECES) < pieces[:, None]

    def drawn(low: int, high: int) -> NDArray[np.int64]:
        values = np.zeros(there.shape, np.int64)
        values[there] = rng.integers(low, high, len(values[there]))
        return values

    angles = drawn(0, _ANGLES)
    lengths = drawn(10, 10 + strokes.max_length)
    widths = drawn(5, 5 + strokes.max_width)
    mask = np.zeros((size, size), dtype=np.uint8)
    _draw_lines(mask, _lines(starts, np.arange(times), angles, lengths, widths, size)[there].tolist())
    return mask.view(np.bool_)


def draw_strokes_of(strokes: Strokes, keys: Keys, size: int) -> NDArray[np.bool_]:
    """(n, size, size) bool masks, True on the strokes; each follows from its key (n,)."""
    times = integers(keys, 0, strokes.times[0], strokes.times[1] + 1)
    hole = np.repeat(np.arange(len(keys)), times)  # of each stroke
    place = np.arange(len(hole)) - np.repeat(np.cumsum(times) - times, times)  # of each stroke in its hole
    of_stroke = child_keys(keys[hole], 1 + place)
    starts = integers(of_stroke[:, None], np.arange(2), 0, REFERENCE)
    pieces = integers(of_stroke, 2, 1, _MOST_PIECES + 1)
    there = np.arange(_MOST_PIECES) < pieces[:, None]
    of_piece = child_keys(of_stroke[:, None], 3 + np.arange(_MOST_PIECES))
    angles = integers(of_piece, 0, 0, _ANGLES)
    lengths = integers(of_piece, 1, 10, 10 + strokes.max_length)
    widths = integers(of_piece, 2, 5, 5 + strokes.max_width)
    lines = _lines(starts, place, angles, lengths, widths, size)[there].tolist()
    ends = np.cumsum(np.bincount(hole, pieces, len(keys)).astype(np.int64)).tolist()
    masks = np.zeros((len(keys), size, size), dtype=np.uint8)
    first = 0
    for mask, end in zip(masks, ends, strict=True):
        _draw_lines(mask, lines[first:end])
        first = end
    return masks.view(np.bool_)


def draw_boxes(boxes: Boxes, rng: np.random.Generator, size: int) -> NDArray[np.bool_]:
    """A (size, size) bool mask, True on the boxes."""
    times = int(rng.integers(boxes.times[0], boxes.times[1] + 1))
    sides = rng.integers(boxes.sides[0], boxes.sides[1] + 1, (times, 2))
    starts = rng.integers(boxes.margin, REFERENCE - boxes.margin - sides + 1)
    mask = np.zeros((size, size), dtype=np.bool_)
    _draw_rectangles(mask, _scaled(np.concatenate([starts, starts + sides], axis=1), size).tolist())
    return mask


def draw_boxes_of(boxes: Boxes, keys: Keys, size: int) -> NDArray[np.bool_]:
    """(n, size, size) bool masks, True on the boxes; each follows from its key (n,)."""
    times = integers(keys, 0, boxes.times[0], boxes.times[1] + 1).tolist()
    of_box = child_keys(keys[:, None], 1 + np.arange(boxes.times[1]))[:, :, None]
    sides = integers(of_box, np.arange(2), boxes.sides[0], boxes.sides[1] + 1)
    starts = integers(of_box, 2 + np.arange(2), boxes.margin, REFERENCE - boxes.margin - sides + 1)
    rectangles = _scaled(np.concatenate([starts, starts + sides], axis=2), size).tolist()
    masks = np.zeros((len(keys), size, size), dtype=np.bool_)
    for mask, of_hole, count in zip(masks, rectangles, times, strict=True):
        _draw_rectangles(mask, of_hole[:count])
    return masks


def _lines(
    starts: NDArray[np.int64],
    places: NDArray[np.int64],
    angles: NDArray[np.int64],
    lengths: NDArray[np.int64],
    widths: NDArray[np.int64],
    size: int,
) -> NDArray[np.int64]:
    """The pieces of strokes as lines in pixels of the image: (strokes, 5, 5) with x and y of both ends, and the width.

    Args:
        starts: (strokes, 2) x and y.
        places: (strokes,) which stroke of its hole each is: the angles of every second one are mirrored.
        angles, lengths, widths: (strokes, 5) of the pieces, also of those that are not drawn.
        size: side of the image.
    """
    moves = lengths[:, :, None] * np.stack([_SINES[angles], _COSINES[angles]], axis=2)
    moves[places % 2 == 0, :, 0] *= -1
    moves >>= _BITS
    ends = np.empty((len(starts), _MOST_PIECES + 1, 2), np.int64)
    ends[:, 0] = starts
    for piece in range(_MOST_PIECES):
        ends[:, piece + 1] = np.minimum(np.maximum(ends[:, piece] + moves[:, piece], 0), REFERENCE - 1)
    points = ends * size // REFERENCE
    thickness = np.maximum(1, _scaled(widths, size))
    return np.concatenate([points[:, :-1], points[:, 1:], thickness[:, :, None]], axis=2)


def _draw_lines(mask: NDArray[np.uint8], lines: Iterable[tuple[int, int, int, int, int]]) -> None:
    for x, y, end_x, end_y, thickness in lines:
        cv2.line(mask, (x, y), (end_x, end_y), 1, thickness, cv2.LINE_8)


def _draw_rectangles(mask: NDArray[np.bool_], rectangles: Iterable[tuple[int, int, int, int]]) -> None:
    for left, top, right, bottom in rectangles:
        mask[top:bottom, left:right] = True


def _scaled(lengths: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Lengths of the 256-pixel image in pixels of this one, rounded."""
    return (lengths * size + REFERENCE // 2) // REFERENCE
