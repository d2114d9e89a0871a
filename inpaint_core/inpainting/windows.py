"""Windows around the masked parts of an image: where they lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

MIN_MARGIN = 16
"""A window reaches at least this many pixels beyond a part on each side, where the image does."""

CENTRAL_INSET = 9 / 32
"""A part may begin this fraction of the side into the window of a network that predicts the central half only.

A quarter would be the half itself; at 9/32 the mask keeps off the outermost 1/16 of that half, where such a network is
shown the photograph (36 of 128 pixels, see `networks.spec.overlap`), so that it has true pixels to continue.
"""

SHARED_COARSENESS = 2.0
"""A part shares the window of a larger one only where that shows it at no less than this fraction of the detail."""


@dataclass(frozen=True)
class Box:
    """Pixels x0 <= x < x1, y0 <= y < y1; may reach beyond the image."""

    x0: int
    y0: int
    x1: int
    y1: int

    @classmethod
    def around(cls, mask: Mask) -> Box:
        """The smallest box that holds all masked pixels of an (H, W) mask, which has one at least."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        return cls(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)

    @property
    def width(self) -> int:
        """Pixels in x."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """Pixels in y."""
        return self.y1 - self.y0

    @property
    def longer(self) -> int:
        """The longer side in pixels."""
        return max(self.width, self.height)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the box into an array (H, W, ...)."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def grown(self, pixels: int) -> Box:
        """The box with `pixels` more on each side (fewer where negative)."""
        return Box(self.x0 - pixels, self.y0 - pixels, self.x1 + pixels, self.y1 + pixels)

    def within(self, width: int, height: int) -> Box:
        """The part of the box that lies in an image of this size."""
        return Box(max(self.x0, 0), max(self.y0, 0), min(self.x1, width), min(self.y1, height))

    def relative_to(self, other: Box) -> Box:
        """The same pixels counted from the corner of `other`."""
        return Box(self.x0 - other.x0, self.y0 - other.y0, self.x1 - other.x0, self.y1 - other.y0)

    def contains(self, other: Box) -> bool:
        """Whether all of `other` lies in this box."""
        return self.x0 <= other.x0 and self.y0 <= other.y0 and other.x1 <= self.x1 and other.y1 <= self.y1


@dataclass(frozen=True)
class Part:
    """One connected part of a mask. `pixels` is (box.height, box.width) bool, True where the part is."""

    box: Box
    pixels: Mask


@dataclass(frozen=True)
class Window:
    """A window and the parts that are taken from its fill. `box` may reach beyond the image unless it is `clipped`."""

    box: Box
    parts: list[Part] = field(default_factory=list)


def find_parts(mask: Mask) -> list[Part]:
    """The connected parts (8-connectivity) of a mask (H, W) bool, the one with the longest side first."""
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    if width == 0:
        return []
    area = np.ascontiguousarray(mask[y : y + height, x : x + width]).view(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(area, connectivity=8, ltype=cv2.CV_32S)
    parts = []
    for label in range(1, count):
        left, top, part_width, part_height = (int(value) for value in stats[label, : cv2.CC_STAT_AREA])
        inside = Box(left, top, left + part_width, top + part_height)
        parts.append(Part(Box(x + left, y + top, x + inside.x1, y + inside.y1), labels[inside.slices] == label))
    return sorted(parts, key=lambda part: (-part.box.longer, part.box.y0, part.box.x0))


def choose_windows(
    parts: Sequence[Part], width: int, height: int, *, context: float, side: int | None, central: bool
) -> list[Window]:
    """Windows in which every part is filled once.

    Args:
        parts: in the order in which they ask for a window; a later one may share the window of an earlier one.
        width: of the image, in pixels.
        height: of the image, in pixels.
        context: side of a window as a multiple of the longer side of its part.
        side: side of the window that the network is given, or None where it takes any size: then windows are cut off
            at the edge of the image; else they are squares, which may reach beyond it.
        central: the network predicts only the central half, so parts lie within `CENTRAL_INSET`.
    """
    windows: list[Window] = []
    index = _BoxIndex()
    for part in parts:
        own_side = _side_for(part.box, width, height, context, side, central)
        for number in index.containing(part.box.x0, part.box.y0):
            if _can_share(windows[number], part, own_side, width, height, side, central):
                windows[number].parts.append(part)
                break
        else:
            box = _place(part.box, own_side, width, height, central)
            windows.append(Window(box if side is not None else box.within(width, height), [part]))
            index.add(windows[-1].box)
    return windows


class _BoxIndex:
    """Finds the boxes about a pixel without asking all of them, of which a mask of specks has thousands.

    A box lies in the cell of its corner, in a grid that is wider than the box: those that contain a pixel have their
    corners in the pixel's cell or in the ones above and to the left of it. There is one grid for each power of two.
    """

    def __init__(self) -> None:
        self._boxes: list[Box] = []
        self._grids: dict[int, dict[tuple[int, int], list[int]]] = {}

    def add(self, box: Box) -> None:
        bits = box.longer.bit_length()
        cell = (box.x0 >> bits, box.y0 >> bits)
        self._grids.setdefault(bits, {}).setdefault(cell, []).append(len(self._boxes))
        self._boxes.append(box)

    def containing(self, x: int, y: int) -> list[int]:
        """Numbers of the boxes that contain a pixel, in the order in which they were added."""
        found = []
        for bits, grid in self._grids.items():
            column, row = x >> bits, y >> bits
            for cell in ((column, row), (column - 1, row), (column, row - 1), (column - 1, row - 1)):
                found += [number for number in grid.get(cell, ()) if _contains_pixel(self._boxes[number], x, y)]
        return sorted(found)


def _contains_pixel(box: Box, x: int, y: int) -> bool:
    return box.x0 <= x < box.x1 and box.y0 <= y < box.y1


def _side_for(part: Box, width: int, height: int, context: float, side: int | None, central: bool) -> int:
    wanted = max(round(context * part.longer), part.longer + 2 * MIN_MARGIN, min(side or 0, width, height))
    if not central:
        if side is not None:
            # Not beyond the image where it has room: what lies there is its reflection, objects and all.
            enough = part.longer + 2 * max(MIN_MARGIN, part.longer // 4)
            wanted = min(wanted, max(enough, min(width, height)))
        return min(wanted, max(width, height))
    # A multiple of 4, so that the central half begins and ends at whole pixels.
    fitting = (part.longer + 2) / (1 - 2 * CENTRAL_INSET)
    return 4 * math.ceil(max(min(wanted, 2 * max(width, height)), fitting) / 4)


def _place(part: Box, side: int, width: int, height: int, central: bool) -> Box:
    inset = math.ceil(side * CENTRAL_INSET) if central else 0
    x0 = _place_along(part.x0, part.x1, side, width, inset)
    y0 = _place_along(part.y0, part.y1, side, height, inset)
    return Box(x0, y0, x0 + side, y0 + side)


def _place_along(start: int, end: int, side: int, length: int, inset: int) -> int:
    """Where a window begins: about its part, moved into the image as far as the inset lets it."""
    begin = (start + end - side) // 2
    begin = min(max(begin, min(0, length - side)), max(0, length - side))
    return min(max(begin, end + inset - side), start - inset)


def _can_share(
    window: Window, part: Part, own_side: int, width: int, height: int, side: int | None, central: bool
) -> bool:
    if central:
        inset = math.ceil(window.box.width * CENTRAL_INSET)
        if not window.box.grown(-inset).contains(part.box):
            return False
    else:
        # Else the part has too little around it to go on from.
        margin = max(MIN_MARGIN, part.box.longer // 4)
        if not window.box.contains(part.box.grown(margin).within(width, height)):
            return False
    # Inside the box of the part that the window was made for: a fragment of that object, or of its group.
    if window.parts[0].box.contains(part.box):
        return True
    smallest = side or 0
    return max(window.box.longer, smallest) <= SHARED_COARSENESS * max(own_side, smallest)
