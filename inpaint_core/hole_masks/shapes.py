"""Shapes of real objects, and holes made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat

import cv2
import numpy as np
from numpy.typing import NDArray

from inpaint_core.hole_masks.keyed_random import Keys, child_keys

Below = Callable[[int], int]
"""A random integer from 0 up to, but without, a limit."""

MAKE_ONE = "make one with `inpaint shapes input=PHOTOGRAPHS output=objects.parquet`"

# Area of a hole in 1/10,000 of the image: log-uniform between 5 % and 40 %.
_AREAS = tuple(round(500 * 8 ** (k / 255)) for k in range(256))
_COUNTS = (1,) * 14 + (2,) * 4 + (3,) * 2  # objects in a hole, and how often
_PLACES = 10  # tries for a place at the border
_MOST_NUMBERS = 3 + max(_COUNTS) * (5 + 2 * _PLACES)  # that a hole draws


@dataclass(frozen=True)
class ObjectShapes:
    """Masks of objects, cut out tight.

    Args:
        heights: (n,) rows of each mask.
        widths: (n,) columns of each mask.
        packed: the masks row by row, bits packed by `np.packbits`.
    """

    heights: tuple[int, ...]
    widths: tuple[int, ...]
    packed: tuple[bytes, ...]

    @classmethod
    def of(cls, masks: Sequence[NDArray[np.bool_]]) -> ObjectShapes:
        """Shapes from (h, w) bool masks, each with at least one True."""
        return cls(
            tuple(mask.shape[0] for mask in masks),
            tuple(mask.shape[1] for mask in masks),
            tuple(np.packbits(mask).tobytes() for mask in masks),
        )

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, index: int) -> NDArray[np.bool_]:
        """(h, w) bool, True on the object."""
        height, width = self.heights[index], self.widths[index]
        bits = np.unpackbits(np.frombuffer(self.packed[index], dtype=np.uint8), count=height * width)
        return bits.reshape(height, width).view(np.bool_)


def draw_objects(shapes: ObjectShapes, rng: np.random.Generator, size: int) -> NDArray[np.bool_]:
    """A hole of the shape of one object, or now and then of two or three.

    Each is flipped left to right at random, scaled so that together they would cover 5 % to 40 % of the image
    (log-uniform), put at a random place, and grown by 1 to 3 pixels of 128, since a mask for removal is grown beyond
    the object's edge. Half of them lie wholly inside; the others may be cut by the border, as 40 % of the objects in
    MiniPlaces are, with at least half of them inside.

    Args:
        shapes: the shapes to draw from.
        rng: what the hole follows from.
        size: side of the image in pixels.

    Returns:
        (size, size) bool, True = hole.
    """
    return _draw(shapes, lambda limit: int(rng.integers(limit)), size)


def draw_objects_of(shapes: ObjectShapes, keys: Keys, size: int) -> NDArray[np.bool_]:
    """(n, size, size) bool, a hole of `draw_objects` for each key (n,), which it follows from."""
    # As many numbers as a hole takes at most, in 32 bits, scaled to the range where it is known.
    numbers = (child_keys(keys[:, None], np.arange(_MOST_NUMBERS)) >> np.uint64(32)).tolist()
    masks = np.empty((len(keys), size, size), np.bool_)
    for place, of_hole in enumerate(numbers):
        masks[place] = _draw(shapes, _below(iter(of_hole)), size)
    return masks


def _below(numbers: Iterator[int]) -> Below:
    return lambda limit: (next(numbers) * limit) >> 32


def _draw(shapes: ObjectShapes, below: Below, size: int) -> NDArray[np.bool_]:
    count = _COUNTS[below(len(_COUNTS))]
    area = _AREAS[below(len(_AREAS))] * size * size // (10_000 * count)
    mask = np.zeros((size, size), dtype=np.uint8)
    for _ in repeat(None, count):
        shape = shapes[below(len(shapes))]
        if below(2):
            shape = shape[:, ::-1]
        _put(mask, scaled_to(shape, area, size), below)
    radius = max(1, ((1 + below(3)) * size + 64) // 128)
    return cv2.dilate(mask, _disc(radius)).view(np.bool_)


def resized(mask: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """The (height, width) mask by nearest neighbour: the pixel under the middle of each new one, found in integers."""
    rows = (2 * np.arange(height) + 1) * mask.shape[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * mask.shape[1] // (2 * width)
    result: NDArray[np.bool_] = mask.take(rows, axis=0).take(
        columns, axis=1
    )  # a sixth of the time of indexing both at once
    return result


def scaled_to(shape: NDArray[np.bool_], area: int, size: int) -> NDArray[np.bool_]:
    """The shape with about `area` pixels and no side longer than `size`.

    By nearest neighbour; where that makes steps of 2 or more pixels along the outline, each pixel then becomes what most
    of the pixels around it are, in a square about as wide as a step, so that thin parts stay.
    """
    pixels = int(np.count_nonzero(shape))
    height, width = (math.isqrt(side * side * area // pixels) for side in shape.shape)
    longer = max(height, width)
    if longer > size:
        height, width = height * size // longer, width * size // longer
    scaled = resized(shape, max(height, 1), max(width, 1))
    step = scaled.shape[0] // shape.shape[0]
    if step < 2:
        return scaled
    side = step | 1
    around = cv2.boxFilter(
        scaled.view(np.uint8), cv2.CV_32S, (side, side), normalize=False, borderType=cv2.BORDER_REPLICATE
    )
    smooth: NDArray[np.bool_] = 2 * around > side * side
    return smooth if smooth.any() else scaled


def _put(mask: NDArray[np.uint8], shape: NDArray[np.bool_], below: Below) -> None:
    """Set, in place, the shape (no larger than the mask) at a random place; see `draw_objects`."""
    size = mask.shape[0]
    height, width = shape.shape
    top, left = below(size - height + 1), below(size - width + 1)
    if below(2):
        for _ in range(_PLACES):
            tried_top, tried_left = below(size) - height // 2, below(size) - width // 2
            inside = _inside(shape, tried_top, tried_left, size)
            if 2 * np.count_nonzero(inside) >= np.count_nonzero(shape):
                top, left = tried_top, tried_left
                break
    inside = _inside(shape, top, left, size)
    top, left = max(top, 0), max(left, 0)
    mask[top : top + inside.shape[0], left : left + inside.shape[1]] |= inside.view(np.uint8)


def _inside(shape: NDArray[np.bool_], top: int, left: int, size: int) -> NDArray[np.bool_]:
    """The part of the shape that lies in the image when its corner is at (top, left)."""
    return shape[max(-top, 0) : size - top, max(-left, 0) : size - left]


@lru_cache(maxsize=8)
def _disc(radius: int) -> NDArray[np.uint8]:
    squares = np.arange(-radius, radius + 1) ** 2
    return (squares[:, None] + squares <= radius * radius).astype(np.uint8)
