"""The connected parts of a mask, each with what surrounds it: where the fill's inks and grain are taken from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# Parts of a mask that touch the same or neighbouring cells of this side, in pixels, are one part.
_CELL = 16
_LEAST_MARGIN = 64

Box = tuple[slice, slice]


@dataclass(frozen=True)
class Surroundings:
    """One part of a mask.

    `box` is its bounding box, `around` the box enlarged on each side by the longer side of `box` (at least 64 pixels),
    as far as the image goes. `hole` has the shape of `box`: True = in this part.
    """

    box: Box
    around: Box
    hole: NDArray[np.bool_]

    def known(self, samples: NDArray[np.generic], mask: NDArray[np.bool_], limit: int) -> NDArray[np.generic]:
        """(n, C) samples of the unmasked pixels in `around`, or those on a regular grid of up to `limit` pixels."""
        here, masked = samples[self.around], mask[self.around]
        step = max(1, int(np.ceil(np.sqrt(masked.size / limit))))
        found: NDArray[np.generic] = here[::step, ::step][~masked[::step, ::step]]
        return found


def parts_of(mask: NDArray[np.bool_]) -> Iterator[Surroundings]:
    """The parts of a mask (H, W), each pixel of which belongs to one of them."""
    height, width = mask.shape
    rows, columns = -(-height // _CELL), -(-width // _CELL)
    # Any masked pixel counts, not the mean of a cell.
    by_rows = np.logical_or.reduceat(mask, np.arange(0, height, _CELL), axis=0)
    cells = np.logical_or.reduceat(by_rows, np.arange(0, width, _CELL), axis=1)
    assert cells.shape == (rows, columns)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(cells.view(np.uint8), connectivity=8)
    for label in range(1, count):
        left, top, across, down = (int(stats[label, column]) for column in range(4))
        own = labels[top : top + down, left : left + across] == label
        cut = slice(top * _CELL, (top + down) * _CELL), slice(left * _CELL, (left + across) * _CELL)
        hole = mask[cut]
        hole = hole & own.repeat(_CELL, 0).repeat(_CELL, 1)[: hole.shape[0], : hole.shape[1]]
        yield _trimmed(hole, cut[0].start, cut[1].start, height, width)


def _trimmed(hole: NDArray[np.bool_], top: int, left: int, height: int, width: int) -> Surroundings:
    """The part without empty rows and columns at its edges; `top`, `left`: where `hole` lies in the image."""
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    first_row, last_row, first_column, last_column = (int(n) for n in (rows[0], rows[-1], columns[0], columns[-1]))
    box = slice(top + first_row, top + last_row + 1), slice(left + first_column, left + last_column + 1)
    margin = max(_LEAST_MARGIN, last_row + 1 - first_row, last_column + 1 - first_column)
    around = (
        slice(max(0, box[0].start - margin), min(height, box[0].stop + margin)),
        slice(max(0, box[1].start - margin), min(width, box[1].stop + margin)),
    )
    return Surroundings(box, around, hole[first_row : last_row + 1, first_column : last_column + 1])
