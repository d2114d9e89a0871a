"""Overlapping tiles in which a large image is searched besides the whole of it.

The idea is slicing aided inference (Akyon et al., "Slicing Aided Hyper Inference and Fine-tuning for Small Object Detection",
ICIP 2022, https://github.com/obss/sahi). That library is not used: it matches objects by their boxes, which overlap in a crowd
where the objects do not, joins masks as polygons, without holes, and knows nothing of uncertain pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from inpaint_core.detection.detector import Detection, Region

LARGE = 2
"""An image is large where its longer side is more than this many times the input size of the network."""

Extent: TypeAlias = "tuple[int, int, int, int]"
"""Pixels of an image: first row, first column, last row + 1, last column + 1."""


@dataclass(frozen=True)
class Tile:
    """Rows `top` to `bottom` and columns `left` to `right` of an image; `bottom` and `right` are excluded."""

    top: int
    left: int
    bottom: int
    right: int

    def cut(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The pixels of the tile, a view of the image (H, W, 3)."""
        return image[self.top : self.bottom, self.left : self.right]

    def shows_entirely(self, extent: Extent, shape: tuple[int, int]) -> bool:
        """Whether pixels of an image of `shape` (H, W) lie in the tile and touch none of its borders but the image's own."""
        top, left, bottom, right = extent
        return (
            top >= self.top + (self.top > 0)
            and left >= self.left + (self.left > 0)
            and bottom <= self.bottom - (self.bottom < shape[0])
            and right <= self.right - (self.right < shape[1])
        )

    def to_image(self, detection: Detection) -> Detection:
        """An object that was found in the tile, as it lies in the image."""
        x0, y0, x1, y1 = detection.box
        uncertain = detection.uncertain
        if uncertain is not None:
            uncertain = Region(uncertain.mask, uncertain.top + self.top, uncertain.left + self.left)
        return replace(
            detection,
            box=(x0 + self.left, y0 + self.top, x1 + self.left, y1 + self.top),
            top=detection.top + self.top,
            left=detection.left + self.left,
            uncertain=uncertain,
        )


@dataclass(frozen=True)
class Level:
    """Tiles of one size that cover an image.

    Args:
        side: of a tile before it is cut off at the image's border, in pixels of the image.
        tiles: row by row.
    """

    side: int
    tiles: tuple[Tile, ...]


def levels_of(height: int, width: int, side: int, overlap: float) -> list[Level]:
    """The grids of tiles of a large image, finest first; none of an image that is not large (`LARGE`).

    The tiles of the first grid have `side` pixels; those of each further one twice as many as those before, as long as the
    image is large for them. So an object of any size is shown by one of them, or by the whole image, large enough to be
    recognised and small enough not to be cut.

    Args:
        height: of the image, in pixels.
        width: of the image, in pixels.
        side: of the finest tiles, in pixels: the input size of the network.
        overlap: part of its side by which a tile at least overlaps the next, 0 to less than 1.
    """
    levels = []
    while max(height, width) > LARGE * side:
        tiles = tuple(
            Tile(top, left, min(top + side, height), min(left + side, width))
            for top in _starts(height, side, overlap)
            for left in _starts(width, side, overlap)
        )
        levels.append(Level(side, tiles))
        side *= 2
    return levels


def _starts(length: int, side: int, overlap: float) -> list[int]:
    """Where the tiles begin along one axis, at even distances."""
    if length <= side:
        return [0]
    steps = math.ceil((length - side) / (side * (1 - overlap)))
    return [round(step * (length - side) / steps) for step in range(steps + 1)]
