"""What is measured of a cleaned image without knowing what was behind the removed objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from inpaint_core.images.decode import Decoded
from inpaint_core.images.distances import strips
from inpaint_core.images.formats.samples import Raster, to_stored

if TYPE_CHECKING:
    from inpaint_core.detection.detector import Detection

# The surroundings that a seam is compared with, in pixels outside the hole: beyond the blur of the codec and of the
# seam itself, near enough to have the hole's texture.
SURROUNDINGS = (4, 12)

# Gradients below one grey level are not visible, and would make any ratio of them noise.
GRADIENT_FLOOR = 1.0

CELLS = 128  # along the longer side of the grid on which a place for the shifted hole is looked for
CLEARANCE = 4  # pixels between the shifted hole and any object, whose grown mask can miss the rim of a shadow
PARTS_TRIED = 5
SMALLEST_PART = 64
STRIP_PIXELS = 2**20  # of an image that are measured at a time


@dataclass(frozen=True)
class ShiftedHole:
    """A hole moved to where the image shows no object, so that its fill can be compared with the truth.

    `mask` and `core` are (H, W) bool; both, or a part of both, were moved by `dy` rows and `dx` columns.
    """

    mask: NDArray[np.bool_]
    core: NDArray[np.bool_]
    dy: int
    dx: int


def outside_max_diff(before: NDArray[np.uint8], after: NDArray[np.uint8], mask: NDArray[np.bool_]) -> int:
    """Largest change of any sample outside the mask, 0..255; 0 where the mask covers everything.

    Args:
        before, after: (H, W, 3) uint8.
        mask: (H, W) bool, True = filled.

    Raises:
        ValueError: the shapes differ.
    """
    if before.shape != after.shape or before.shape[:2] != mask.shape:
        raise ValueError(f"Images of {before.shape} and {after.shape} and a mask of {mask.shape} do not match.")
    return int(cv2.norm(before, after, cv2.NORM_INF, mask=(~mask).view(np.uint8)))


def outside_exact(before: Decoded, after: Decoded, changed: NDArray[np.bool_]) -> bool:
    """Whether all stored samples (up to 16 bits, alpha, palette) where `changed` is False are the same in both files.

    Args:
        before, after: two files.
        changed: (H, W) bool as displayed, True = not compared.
    """
    old, new = before.file.raster, after.file.raster
    if (old.mode, old.samples.shape, before.orientation) != (new.mode, new.samples.shape, after.orientation):
        return False
    if old.key != new.key or not np.array_equal(_entries(old), _entries(new)):
        return False
    outside = np.ascontiguousarray(~to_stored(changed, before.orientation)).view(np.uint8)
    return cv2.norm(old.samples, new.samples, cv2.NORM_INF, mask=outside) == 0


def _entries(raster: Raster) -> NDArray[np.uint8]:
    return np.zeros((0, 4), np.uint8) if raster.palette is None else raster.palette


def seam(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> float | None:
    """How visible the hole's edge is: mean gradient across it over mean gradient of its surroundings.

    The gradient is the absolute difference in luma (ITU-R BT.601) of two pixels that touch in a row or column. Across
    the edge it is taken of the pairs with one pixel in the hole and one outside; in the surroundings of the pairs
    whose pixels are both 4 to 12 pixels away from any hole. Both means are at least one grey level, so that a flat
    image gives 1 and not noise. 1: no visible edge; above: an outline; below: the fill is smooth where the surroundings
    are rough.

    Args:
        image: (H, W, 3) uint8, after the fill.
        mask: (H, W) bool, True = filled.

    Returns:
        The ratio, 1/255 to 255; None where no edge lies inside the image or nothing is around it.

    Raises:
        ValueError: the shapes differ.
    """
    if image.shape != (*mask.shape, 3):
        raise ValueError(f"An image of {image.shape} and a mask of {mask.shape} do not match.")
    box = _bounding_box(mask)
    if box is None:
        return None
    reach = SURROUNDINGS[1] + 1
    rows, columns = (slice(max(0, side.start - reach), side.stop + reach) for side in box)
    hole = mask[rows, columns]
    around = _around(hole)
    edge, surroundings = _Mean(), _Mean()
    step = max(1, STRIP_PIXELS // hole.shape[1])
    for top in range(0, hole.shape[0], step):
        # With the first row of the next strip, for the pairs across.
        strip = slice(top, top + step + 1)
        luma = cv2.cvtColor(image[rows, columns][strip], cv2.COLOR_RGB2GRAY).astype(np.int16)
        maps = (luma, hole[strip], around[strip])
        for shades, filled, near in (maps, tuple(one[:step].T for one in maps)):
            gradient = np.abs(np.diff(shades, axis=0))
            edge.add(gradient[filled[1:] != filled[:-1]])
            surroundings.add(gradient[near[1:] & near[:-1]])
    if not (edge.count and surroundings.count):
        return None
    return max(edge.value, GRADIENT_FLOOR) / max(surroundings.value, GRADIENT_FLOOR)


def _around(hole: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(H, W): the surroundings of a hole (H, W). By rows: as a whole, the map of distances would take 8 bytes a pixel."""
    near = np.empty(hole.shape, np.bool_)
    for rows, looked_at, inner in strips(hole.shape, SURROUNDINGS[1] + 1):
        outside = (~hole[looked_at]).view(np.uint8)
        distance = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_5)[inner]
        near[rows] = (distance >= SURROUNDINGS[0]) & (distance <= SURROUNDINGS[1])
    return near


class _Mean:
    """The mean of whole numbers that come in parts."""

    def __init__(self) -> None:
        self.sum = self.count = 0

    def add(self, values: NDArray[np.int16]) -> None:
        self.sum += int(values.sum(dtype=np.int64))
        self.count += values.size

    @property
    def value(self) -> float:
        return self.sum / self.count


def residual_objects(detections: Sequence[Detection], mask: NDArray[np.bool_]) -> int:
    """How many detections in the output lie in the hole: at least half of their pixels are inside `mask`.

    Args:
        detections: found in the output image, in its pixels.
        mask: (H, W) bool, True = filled.
    """
    count = 0
    for found in detections:
        height, width = found.mask.shape
        hole = mask[found.top : found.top + height, found.left : found.left + width]
        pixels = int(np.count_nonzero(found.mask))
        if pixels and 2 * int(np.count_nonzero(found.mask & hole)) >= pixels:
            count += 1
    return count


def shifted_hole(mask: NDArray[np.bool_], core: NDArray[np.bool_], occupied: NDArray[np.bool_]) -> ShiftedHole | None:
    """The hole at the nearest place where the image is untouched and shows no object.

    The place lies wholly inside the image and at least 5 pixels (in rows or in columns) off everything `occupied`.
    Of the shifts by whole cells of a grid (at most 128 along the longer side of the image) the shortest is taken; of
    equally short ones the first from the top, then from the left. If the whole hole has no room, its largest part that
    has is moved instead, of the 5 largest of at least 64 pixels; parts less than a cell apart count as one.

    Args:
        mask: (H, W) bool, the grown hole.
        core: (H, W) bool, what `mask` was grown from; moved with it.
        occupied: (H, W) bool, every found object, grown. `mask` itself always counts as occupied.

    Returns:
        The moved hole, or None where there is no room (or no hole).

    Raises:
        ValueError: the shapes differ.
    """
    if not mask.shape == core.shape == occupied.shape:
        raise ValueError(f"Masks of {mask.shape}, {core.shape} and {occupied.shape} do not match.")
    cell = -(-max(mask.shape) // CELLS)
    whole = _whole(mask, cell)
    if whole is None:
        return None
    side = 2 * CLEARANCE + 1
    blocked = cv2.dilate((occupied | mask).view(np.uint8), np.ones((side, side), np.uint8)).view(np.bool_)
    blocked_cells = _pool(blocked, cell)
    for piece in (whole, *_largest_parts(whole, cell)):
        shift = _nearest_shift(piece, blocked, blocked_cells, cell)
        if shift is not None:
            return _moved(piece, core, shift)
    return None


@dataclass(frozen=True)
class _Piece:
    """Masked pixels (h, w) whose first row and column, `top` and `left`, are on the grid."""

    mask: NDArray[np.bool_]
    top: int
    left: int


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, slice] | None:
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return None
    row_range = slice(int(rows[0]), int(rows[-1]) + 1)
    columns = np.flatnonzero(mask[row_range].any(axis=0))
    return row_range, slice(int(columns[0]), int(columns[-1]) + 1)


def _whole(mask: NDArray[np.bool_], cell: int) -> _Piece | None:
    box = _bounding_box(mask)
    if box is None:
        return None
    top, left = (side.start // cell * cell for side in box)
    return _Piece(mask[top : box[0].stop, left : box[1].stop], top, left)


def _pool(mask: NDArray[np.bool_], cell: int) -> NDArray[np.bool_]:
    """One value per cell of the grid: whether any of its pixels is set. Cells at the far sides may be cut."""
    for axis in (0, 1):
        mask = np.logical_or.reduceat(mask, np.arange(0, mask.shape[axis], cell), axis=axis)
    return mask


def _largest_parts(whole: _Piece, cell: int) -> Iterator[_Piece]:
    """Connected parts of a piece, largest first; none where it has only one."""
    count, labels = cv2.connectedComponents(_pool(whole.mask, cell).view(np.uint8), connectivity=8)
    if count <= 2:  # the background counts
        return
    pixels = whole.mask.view(np.uint8)
    for axis in (0, 1):
        pixels = np.add.reduceat(pixels, np.arange(0, pixels.shape[axis], cell), axis=axis, dtype=np.int32)
    sizes = np.bincount(labels.ravel(), weights=pixels.ravel(), minlength=count).astype(np.int64)
    sizes[0] = 0
    for label in np.argsort(-sizes, kind="stable")[:PARTS_TRIED]:
        if sizes[label] < SMALLEST_PART:
            return
        box = _bounding_box(labels == label)
        assert box is not None
        rows, columns = (slice(side.start * cell, side.stop * cell) for side in box)
        cropped = whole.mask[rows, columns]
        own = np.repeat(np.repeat(labels[box] == label, cell, axis=0), cell, axis=1)
        mask = cropped & own[: cropped.shape[0], : cropped.shape[1]]
        # Without its empty rows and columns the part may lie nearer to the far sides of the image.
        part = _whole(mask, cell)
        assert part is not None
        yield _Piece(part.mask, whole.top + rows.start + part.top, whole.left + columns.start + part.left)


def _nearest_shift(
    piece: _Piece, blocked: NDArray[np.bool_], blocked_cells: NDArray[np.bool_], cell: int
) -> tuple[int, int] | None:
    """The shortest shift by whole cells after which the piece touches nothing blocked."""
    # On the grid a piece covers every cell that one of its pixels is in: what fits there fits in pixels.
    covered = _pool(piece.mask, cell)
    overlap = cv2.matchTemplate(blocked_cells.astype(np.float32), covered.astype(np.float32), cv2.TM_CCORR)
    dy = np.arange(overlap.shape[0]) * cell - piece.top
    dx = np.arange(overlap.shape[1]) * cell - piece.left
    height, width = piece.mask.shape
    inside = (dy + piece.top + height <= blocked.shape[0])[:, None] & (dx + piece.left + width <= blocked.shape[1])
    free = np.argwhere((overlap < 0.5) & inside)
    lengths = dy[free[:, 0]] ** 2 + dx[free[:, 1]] ** 2
    for index in np.argsort(lengths, kind="stable"):
        row, column = free[index] * cell
        if not (blocked[row : row + height, column : column + width] & piece.mask).any():
            return int(row - piece.top), int(column - piece.left)
    return None


def _moved(piece: _Piece, core: NDArray[np.bool_], shift: tuple[int, int]) -> ShiftedHole:
    dy, dx = shift
    height, width = piece.mask.shape
    target = np.s_[piece.top + dy : piece.top + dy + height, piece.left + dx : piece.left + dx + width]
    moved_mask, moved_core = np.zeros_like(core), np.zeros_like(core)
    moved_mask[target] = piece.mask
    moved_core[target] = piece.mask & core[piece.top : piece.top + height, piece.left : piece.left + width]
    return ShiftedHole(moved_mask, moved_core, dy, dx)
