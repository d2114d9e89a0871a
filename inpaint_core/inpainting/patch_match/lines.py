"""Straight edges that a hole interrupts, such as horizons, kerbs and the lines of a court, continued across it.

Two segments that end at the hole, lie on one line and have the same colours on their sides span the hole; along that line,
pixels are taken from the segments themselves, moved along it. As in Sun et al., "Image Completion with Structure Propagation"
(SIGGRAPH 2005), where a person draws the lines; here they come from the line segment detector of OpenCV (Grompone von Gioi et
al., "LSD", Image Processing On Line 2012).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inpaint_core.inpainting.patch_match.levels import RADIUS, Mask
from inpaint_core.inpainting.window_pixels import blank

LINES_AT = 256
"""Largest side at which lines are looked for; lengths below are pixels of it."""

_AROUND = 56  # of a hole that is searched for segments
_SOFT = 25  # width of the blur of what is under the mask
_SHORTEST = 9.0  # of a segment
_NEAR = 8.0  # of its end to the hole
_LINKS = 4  # further segments, that a detector has broken off
_BESIDE = 2.5  # a line are the colours that are compared
_BEND = 3.0  # degrees between a segment and the line, beside what its length leaves open
_COLOURS = 50.0  # difference of the colours on one side
_COST = 2.5  # sum of squares of both bends and the colours, each as a multiple of these
_PAIRS = 300  # that are looked at, the best first: a fence may have thousands
_STEP = 10.0  # least difference between the two sides
_HIDDEN = 0.85  # share of a line's way that is in the hole
_WIDTH = 5.0  # of what follows a line, on each side of it
_EQUAL, _NOISE = 1.3, 20.0  # what is about equal to the least mean squared difference of colours
_EVEN = 8.0  # standard deviation of colours along an edge, up to which it may be repeated any number of times
_TIMES = 4.0  # the same for others
_MARGIN = 1.5 * RADIUS  # between the hole and what is taken, in pixels of the level

_Floats = NDArray[np.float64]
_Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Line:
    """From one side of a hole to the other, in shares of the window's side.

    Args:
        start: (x, y) where it enters the hole.
        end: (x, y) where it leaves it.
        before: length of the part of the known edge before `start` that is repeated in the hole.
        after: the same after `end`.
        share: part of the way, from `start` on, that is taken from before it; the rest from after `end`.
    """

    start: _Floats
    end: _Floats
    before: float
    after: float
    share: float


def find_lines(photograph: _Pixels, mask: Mask) -> list[Line]:
    """The lines that cross the hole of a window, none of which share a segment.

    Args:
        photograph: (n, n, 3) uint8, n at most `LINES_AT`; what it holds under the mask has no effect.
        mask: (n, n) bool, True = hole.
    """
    photograph = _without_edges(photograph, mask)
    rays = _rays_of(photograph, mask)
    if rays is None or len(rays.ends) < 2:
        return []
    costs = _costs(rays)
    lines: list[Line] = []
    free = np.ones(len(rays.ends), bool)
    ones, others = np.nonzero(np.triu(costs <= _COST, 1))
    for pair in np.argsort(costs[ones, others], kind="stable")[:_PAIRS]:
        one, other = ones[pair], others[pair]
        if free[one] and free[other]:
            line = _line(photograph, mask, rays, one, other)
            if line is not None:
                free[[one, other]] = False
                lines.append(line)
    return lines


def _without_edges(photograph: _Pixels, mask: Mask) -> _Pixels:
    """With nothing under the mask that a line could be seen in."""
    result = blank(photograph, mask)
    soft = cv2.stackBlur(result, (_SOFT, _SOFT))
    result[mask] = soft[mask]
    return result


def _line(photograph: _Pixels, mask: Mask, rays: _Rays, one: int, other: int) -> Line | None:
    """The line of two edges; None: it does not go through the hole, or would show one thing again and again."""
    start, end = rays.ends[one], rays.ends[other]
    if _share_hidden(start, end, mask) < _HIDDEN:
        return None
    length = float(np.hypot(*(end - start)))
    way = (end - start) / length
    before, uneven_before = _repeated(photograph, start, -way, float(rays.lengths[one]))
    after, uneven_after = _repeated(photograph, end, way, float(rays.lengths[other]))
    weights = before / (uneven_before**2 + _EVEN**2), after / (uneven_after**2 + _EVEN**2)
    share = weights[0] / sum(weights)
    for part, period, uneven in ((share, before, uneven_before), (1 - share, after, uneven_after)):
        if uneven > _EVEN and part * length > _TIMES * period:
            return None
    side = mask.shape[0]
    return Line(start / side, end / side, before / side, after / side, share)


def _repeated(photograph: _Pixels, end: _Floats, away: _Floats, length: float) -> tuple[float, float]:
    """Length of the part of an edge that follows itself best, so that patterns such as bricks go on in step.

    Args:
        photograph: of the window, without edges in the hole.
        end: (x, y) of the edge, at the hole.
        away: unit vector along it, away from the hole.
        length: of the edge.

    Returns:
        The length, the longest of about equal ones, and the standard deviation of the colours along the edge.
    """
    count = max(2, int(length) - int(_MARGIN))
    normal = np.array([-away[1], away[0]])
    points = end + (_MARGIN + np.arange(count))[:, None, None] * away + np.arange(-4.0, 5.0, 2.0)[:, None] * normal
    strip = _at(photograph, points).reshape(count, -1)
    uneven = float(strip.std(axis=0).mean())
    lags = np.arange(int(_SHORTEST), count - int(_SHORTEST) + 1)
    if len(lags) < 3:
        return float(count), uneven
    squares = np.square(strip).sum(axis=1)
    distances = squares[:, None] + squares - 2 * strip @ strip.T
    # Sums along the diagonals: each row is moved by one place more than the one above.
    skewed = np.pad(distances[:, ::-1], ((0, 0), (0, count))).ravel()[:-count].reshape(count, 2 * count - 1)
    means = skewed.sum(axis=0)[count - 1 - lags] / (count - lags) / strip.shape[1]
    best = int(np.flatnonzero(means <= _EQUAL * means.min() + _NOISE)[-1])
    while best > 0 and means[best - 1] < means[best]:  # to the bottom of the dip
        best -= 1
    if not 0 < best < len(lags) - 1:
        return float(lags[best]), uneven
    left, middle, right = means[best - 1 : best + 2]
    # The lowest point of the parabola through three.
    return float(lags[best] + 0.5 * (left - right) / max(left - 2 * middle + right, 1e-6)), uneven


@dataclass(frozen=True, eq=False)
class _Rays:
    """Edges that end at the hole.

    Args:
        ends: (r, 2) x and y of the ends at the hole.
        directions: (r, 2) unit vectors into the hole.
        lengths: (r,) of what is known of them.
        left: (r, 3) mean colours on their left, seen along the direction (y points down).
        right: the same on their right.
    """

    ends: _Floats
    directions: _Floats
    lengths: _Floats
    left: _Floats
    right: _Floats


def _rays_of(photograph: _Pixels, mask: Mask) -> _Rays | None:
    size = np.array(mask.shape[::-1])
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    low = np.array([columns[0], rows[0]]) - _AROUND
    low, high = low.clip(0), np.minimum(np.array([columns[-1], rows[-1]]) + _AROUND, size)
    grey = cv2.cvtColor(photograph[low[1] : high[1], low[0] : high[0]], cv2.COLOR_RGB2GRAY)
    found = cv2.createLineSegmentDetector(cv2.LSD_REFINE_STD).detect(grey)[0]
    if found is None:
        return None
    segments = found.reshape(-1, 2, 2).astype(np.float64) + low
    segments = np.concatenate([segments, segments[:, ::-1]])  # each as going to its second end
    away = cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 3)
    at_hole = _at(away, segments[:, 1]) <= _NEAR + 1
    nears, fars = segments[at_hole, 1], _linked(segments, at_hole)
    lengths = np.hypot(*(nears - fars).T)
    long = lengths >= _SHORTEST
    nears, fars, lengths = nears[long], fars[long], lengths[long]
    if not len(nears):
        return None
    directions = (nears - fars) / lengths[:, None]
    # From the far end on, until the hole begins.
    steps = np.arange(0.0, lengths.max() + _NEAR + 1, 0.5)
    points = fars[:, None] + steps[:, None] * directions[:, None]
    in_hole = (_at(away, points) < 1) & ((points >= 0) & (points <= size - 1)).all(axis=2)
    enters = steps[in_hole.argmax(axis=1)]
    known = np.minimum(enters, lengths)
    inner = fars[:, None] + np.linspace(0.2, 0.8, 7)[:, None] * (known[:, None] * directions)[:, None]
    normals = np.stack([directions[:, 1], -directions[:, 0]], axis=1)[:, None]
    left, right = (_at(photograph, inner + beside * normals).mean(axis=1) for beside in (_BESIDE, -_BESIDE))
    good = in_hole.any(axis=1) & (enters <= lengths + _NEAR) & (known >= _SHORTEST)
    good &= np.abs(left - right).max(axis=1) >= _STEP
    ends = fars + enters[:, None] * directions
    return _Rays(*(values[good] for values in (ends, directions, known, left, right)))


def _at(maps: NDArray[Any], points: _Floats) -> _Floats:
    """(..., c) or (...): what lies at points (..., 2) of x and y, those outside moved to the border."""
    height, width = maps.shape[:2]
    numbers = np.rint(points).astype(np.int64)
    return np.asarray(maps[numbers[..., 1].clip(0, height - 1), numbers[..., 0].clip(0, width - 1)], np.float64)


def _linked(segments: _Floats, chosen: NDArray[np.bool_]) -> _Floats:
    """(r, 2): the far ends of the chosen segments, beyond all segments that continue them."""
    nears, fars = segments[chosen, 1], segments[chosen, 0]
    for _ in range(_LINKS):
        directions = nears - fars
        directions /= np.maximum(np.hypot(*directions.T), 1e-9)[:, None]
        normals = np.stack([-directions[:, 1], directions[:, 0]], axis=1)
        gaps, lengths, beside_near, beside_far = (
            (fars * axes).sum(axis=1)[:, None] - axes @ segments[:, end].T
            for axes in (directions, normals)
            for end in (1, 0)
        )
        fits = (gaps > -4) & (gaps < 8) & (np.abs(beside_near) < 1) & (np.abs(beside_far) < 1.2 + 0.03 * lengths)
        fits &= (lengths > 4) & (lengths > gaps)
        if not fits.any():
            break
        best = np.where(fits, lengths, -1.0).argmax(axis=1)
        fars = np.where(fits.any(axis=1)[:, None], segments[best, 0], fars)
    return np.asarray(fars, np.float64)


def _costs(rays: _Rays) -> _Floats:
    """(r, r): how badly each two lie on one line, infinite where they do not."""
    between = rays.ends[None] - rays.ends[:, None]
    lengths = np.hypot(between[..., 0], between[..., 1])
    along = between / np.maximum(lengths, 1e-9)[..., None]
    bends = np.degrees(np.arccos(np.einsum("rsx,rx->rs", along, rays.directions).clip(-1, 1)))
    bends /= (_BEND + np.degrees(np.arctan2(1.5, rays.lengths)))[:, None]
    # The left of one is the right of the other, which points the other way.
    colours = np.abs(rays.left[:, None] - rays.right[None]).max(axis=2)
    colours = np.maximum(colours, colours.T)
    steps = np.abs(rays.left - rays.right).max(axis=1)
    brighter = (rays.left - rays.right).sum(axis=1)
    fits = (lengths >= 4) & (brighter[:, None] * brighter < 0)
    fits &= colours <= 1.5 * np.minimum(steps[:, None], steps)
    return np.asarray(np.where(fits, bends**2 + bends.T**2 + (colours / _COLOURS) ** 2, np.inf), np.float64)


def _share_hidden(start: _Floats, end: _Floats, mask: Mask) -> float:
    return float(_at(mask.view(np.uint8), start + np.linspace(0.02, 0.98, 40)[:, None] * (end - start)).mean())


def steps_along(lines: list[Line], mask: Mask, sources: Mask) -> tuple[NDArray[np.int64], ...]:
    """For the pixels of a hole beside lines, where along the line they are taken from.

    Args:
        lines: of the window.
        mask: (s, s) bool, the hole at any size.
        sources: (s, s) bool, the middles of known patches.

    Returns:
        (k,) int64 numbers among the hole's pixels, row by row, and the rows and columns from each to what is taken: a source.
    """
    side = mask.shape[0]
    rows, columns = np.nonzero(mask)
    points = np.stack([columns, rows], axis=1) + 0.5
    nearest = np.full(len(rows), _WIDTH * side / LINES_AT)
    moves = np.zeros((len(rows), 2))
    margin = _MARGIN * max(1.0, side / LINES_AT)
    for line in lines:
        start, between = line.start * side, (line.end - line.start) * side
        length = float(np.hypot(*between))
        direction = between / length
        at = (points - start) @ direction
        beside = np.abs((points - start) @ np.array([-direction[1], direction[0]]))
        chosen = (beside < nearest) & (at > -1) & (at < length + 1)
        first = at <= length * line.share
        for sign, depth, period, here in (
            (-1, at, line.before * side, chosen & first),
            (1, length - at, line.after * side, chosen & ~first),
        ):
            times = np.ceil((depth[here].clip(min=0) + margin) / period)
            moves[here] = sign * (times * period)[:, None] * direction
        nearest = np.where(chosen, beside, nearest)
    across, down = np.rint(moves).astype(np.int64).T
    to_rows, to_columns = rows + down, columns + across
    inside = (to_rows >= 0) & (to_rows < side) & (to_columns >= 0) & (to_columns < side)
    moved = ((down != 0) | (across != 0)) & inside
    moved[moved] = sources[to_rows[moved], to_columns[moved]]
    numbers = np.flatnonzero(moved)
    return numbers, down[numbers], across[numbers]
