"""A hole in a photograph filled with patches of the photograph itself, led by a coarse guess of what belongs there.

From coarse to fine, as in Wexler et al., "Space-Time Completion of Video" (TPAMI 2007): every pixel of the hole looks for
the known patch that is most like the one around it, and takes the colour that the matches of its neighbours say. The
coarse levels search all patches of the window; the finer ones take over the matches and try those of their neighbours
(Barnes et al., "PatchMatch", SIGGRAPH 2009). Matches are the more trusted the nearer they are to what is known.

Flat patches match nearly anything, and would take over: so patches are compared by how much finer detail there is in them as
well (Newson et al., "Video Inpainting of Complex Scenes", SIAM J. Imaging Sciences 2014), and by where they lie: what is
beside a hole, above all at its height, is more likely to go on in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inpaint_core.networks.push_pull import smooth_fill
from inpaint_core.windows import blank, resize, resize_mask, resized_maps

COARSEST = 32
"""Side of the first level in pixels."""

_EXHAUSTIVE = 128  # side of the last level at which all patches are compared
_FINEST = 512  # side of the last level at which anything is compared
_ROUNDS = {32: 6, 64: 6, 128: 3}
_RADIUS = 3  # of a patch
_SIDE = 2 * _RADIUS + 1
_TAPS = tuple((down, across) for down in range(-_RADIUS, _RADIUS + 1) for across in range(-_RADIUS, _RADIUS + 1))
_FEW_TAPS = tuple(tap for tap in _TAPS if tap[0] % 2 == 1 and tap[1] % 2 == 1)
_COMPONENTS = 40  # of a patch, that are compared

_GUESS = 1.0  # weight of a level's difference to the guess, at the coarsest level
_GUESS_FALLS = 1.0  # times this at each finer level
_DETAIL = 4.0  # weight of a level of detail
_DOWN, _ACROSS = 1.0, 0.3  # weight of a 64th of the window's side between a pixel and its match
_TRUST_FALLS = 1.15  # a match counts so many times less for every 64th of the window that it lies deeper in the hole
_LARGEST_STEP = 48.0  # of what is copied to what it meets, that is evened out
_GAIN = 0.7  # a match is replaced by one of less than so much of its cost
_LEAST_WEIGHT = 1e-4  # of what is copied beyond the hole
_DISTANCES_AT_ONCE = 2**22
_PIXELS_AT_ONCE = 2**17

Maps = NDArray[np.float32]
Mask = NDArray[np.bool_]
Index = NDArray[np.int32]


@dataclass(frozen=True)
class _Level:
    """The window at one size, with a border of `_RADIUS` pixels around (mirrored), so that patches never end.

    Pixels are numbered row by row over the bordered picture.
    """

    size: int
    colours: Maps  # (size, size, 3)
    mask: Mask  # (size, size)
    hole: Index  # numbers of the hole's pixels
    known: Mask  # (numbers,), that lie in the middle of a known patch
    depth: Maps  # of each of the hole's pixels, in 64ths of the window

    @classmethod
    def of(cls, photograph: NDArray[np.uint8], mask: Mask, size: int) -> _Level:
        """`photograph` is blanked (`windows.blank`)."""
        hidden = resize_mask(mask, size, size)
        patch = np.ones((_SIDE, _SIDE), np.uint8)
        known = cv2.erode((~hidden).view(np.uint8), patch, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        depth = cv2.distanceTransform(hidden.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
        rows, columns = np.nonzero(hidden)
        return cls(
            size,
            resize(photograph, size, size).astype(np.float32),
            hidden,
            ((rows + _RADIUS) * (size + 2 * _RADIUS) + columns + _RADIUS).astype(np.int32),
            np.pad(known.view(np.bool_), _RADIUS).reshape(-1),
            (depth[rows, columns] * (64 / size)).astype(np.float32),
        )

    @property
    def stride(self) -> int:
        """Numbers from a pixel to the one below it."""
        return self.size + 2 * _RADIUS

    def step(self, tap: tuple[int, int]) -> int:
        """Numbers from a pixel to another."""
        return tap[0] * self.stride + tap[1]

    def places(self, numbers: Index) -> tuple[Index, Index]:
        """Rows and columns."""
        return numbers // self.stride - _RADIUS, numbers % self.stride - _RADIUS

    def bordered(self, maps: Maps) -> Maps:
        """(size, size, c) to (numbers, c)."""
        around = cv2.copyMakeBorder(maps, *([_RADIUS] * 4), cv2.BORDER_REFLECT_101)
        return np.asarray(around.reshape(self.stride**2, -1), np.float32)

    def with_fill(self, fill: Maps) -> Maps:
        """(size, size, 3): the colours, and in the hole those of `fill`."""
        result = self.colours.copy()
        result[self.mask] = fill
        return result


@dataclass(frozen=True)
class _Matches:
    """What each pixel of a level's hole is most like.

    Args:
        level: whose.
        steps: numbers from each to its match.
        trust: how much it counts.
    """

    level: _Level
    steps: Index
    trust: Maps

    def over_level(self) -> tuple[Index, Maps]:
        """(numbers,) of both; 0 where there is no hole."""
        steps = np.zeros(self.level.stride**2, np.int32)
        trust = np.zeros(self.level.stride**2, np.float32)
        steps[self.level.hole] = self.steps
        trust[self.level.hole] = self.trust
        return steps, trust


def synthesise(photograph: NDArray[np.uint8], mask: Mask, guess: Maps) -> Maps | None:
    """Fill a hole with patches of what is around it.

    Args:
        photograph: (n, n, 3) uint8 RGB, n at least `COARSEST`; what it holds under the mask has no effect.
        mask: (n, n) bool, True = hole; one pixel at least.
        guess: (m, m, 3) float32, 0 to 255: a picture of the whole window, of any size, that is soft or wrong in detail.

    Returns:
        (k, 3) float32, 0 to 255: the colours of the masked pixels, row by row. None where too little is known to copy from.
    """
    size = mask.shape[0]
    photograph = blank(photograph, mask)
    sizes = [COARSEST]
    while 2 * sizes[-1] <= size and sizes[-1] < _FINEST:
        sizes.append(2 * sizes[-1])
    matches: _Matches | None = None
    guess_weight = _GUESS
    for side in sizes:
        level = _Level.of(photograph, mask, side)
        if not level.known.any():
            continue
        if side <= _EXHAUSTIVE:
            matches = _search(level, photograph, mask, guess, guess_weight, matches)
        elif matches is not None:
            matches = _refine(level, matches)
        guess_weight *= _GUESS_FALLS
    return None if matches is None else _joined(photograph, mask, matches)


def _search(
    level: _Level, photograph: NDArray[np.uint8], mask: Mask, guess: Maps, guess_weight: float, coarser: _Matches | None
) -> _Matches:
    """Matches among all known patches, from the coarser level's, or the guess."""
    guessed = np.clip(resized_maps(guess, level.size), 0, 255)
    sources = np.flatnonzero(level.known).astype(np.int32)
    colours = level.bordered(level.colours)
    basis = _principal(_patches(colours, sources, level))
    source_features = _features(level, sources, guess_weight * _soft(level), photograph, mask)
    hole_features = _features(level, level.hole, guess_weight * guessed, photograph, mask)
    known = np.hstack([_patches(colours, sources, level) @ basis, source_features])
    squares = 0.5 * np.square(known).sum(axis=1)
    fill = guessed[level.mask] if coarser is None else _vote(level, _taken_over(level, coarser))
    for _ in range(_ROUNDS[level.size]):
        estimate = level.bordered(level.with_fill(fill))
        wanted = np.hstack([_patches(estimate, level.hole, level) @ basis, hole_features])
        nearest, distances = _nearest(wanted, known, squares)
        matches = _Matches(level, sources[nearest] - level.hole, _trust(level, distances / _SIDE**2))
        fill = _vote(level, matches)
    return matches


def _patches(colours: Maps, numbers: Index, level: _Level) -> Maps:
    """(k, 3 _SIDE^2): the patches about some pixels of a bordered picture (numbers, 3)."""
    return np.hstack([colours.take(numbers + level.step(tap), axis=0) for tap in _TAPS])


def _principal(patches: Maps) -> Maps:
    """(d, c): the directions in which patches vary most."""
    centred = patches - patches.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return np.asarray(vectors[:, -_COMPONENTS:], np.float32)


def _features(level: _Level, numbers: Index, colours: Maps, photograph: NDArray[np.uint8], mask: Mask) -> Maps:
    """(k, 7) of what else is compared, weighted so that it counts as one level's difference of all colours of a patch."""
    rows, columns = level.places(numbers)
    cell = 64 / level.size
    place = np.column_stack([_DOWN * cell * rows, _ACROSS * cell * columns]).astype(np.float32)
    detail = _DETAIL * _detail(level, photograph, mask)[rows, columns]
    return np.asarray(_SIDE * np.hstack([colours[rows, columns], detail, place]), np.float32)


def _soft(level: _Level) -> Maps:
    """The colours about as soft as the guess."""
    sigma = 2.5 * level.size / _EXHAUSTIVE
    return np.asarray(cv2.GaussianBlur(level.colours, (0, 0), sigma, borderType=cv2.BORDER_REFLECT), np.float32)


def _detail(level: _Level, photograph: NDArray[np.uint8], mask: Mask) -> Maps:
    """(size, size, 2): the standard deviation within a pixel of the level, and about it; smooth in the hole."""
    known = (~mask).astype(np.float32)[..., None]
    seen = known * photograph
    share, mean, square = (
        np.atleast_3d(resized_maps(maps, level.size))
        for maps in (known, seen, np.square(seen))
    )
    within = np.maximum(square - np.square(mean) / np.maximum(share, 1e-3), 0)
    maps = np.dstack([share, mean, square, within]).astype(np.float32)
    blurred = cv2.GaussianBlur(maps, (0, 0), 2.0, borderType=cv2.BORDER_REFLECT)
    weight = np.maximum(blurred[..., :1], 1e-3)
    about = np.maximum(blurred[..., 4:7] / weight - np.square(blurred[..., 1:4] / weight), 0).mean(axis=2)
    deviations = np.sqrt(np.dstack([(blurred[..., 7:] / weight).mean(axis=2), about])).astype(np.float32)
    return smooth_fill(deviations, level.mask)


def _nearest(wanted: Maps, known: Maps, squares: Maps) -> tuple[NDArray[np.intp], Maps]:
    """Of each row of `wanted`, the row of `known` with the least squared distance, and that."""
    rows = max(1, _DISTANCES_AT_ONCE // len(known))
    nearest, least = [], []
    for begin in range(0, len(wanted), rows):
        part = squares - wanted[begin : begin + rows] @ known.T
        nearest.append(part.argmin(axis=1))
        least.append(part[np.arange(len(part)), nearest[-1]])
    distances = 2 * np.concatenate(least) + np.square(wanted).sum(axis=1)
    return np.concatenate(nearest), np.maximum(distances, 0).astype(np.float32)


def _trust(level: _Level, costs: Maps) -> Maps:
    """Of matches, by their costs, in squared levels."""
    scale = 0.6 * float(np.median(costs)) + 2.0
    return np.asarray(np.exp(-costs / scale).clip(1e-6) * np.power(_TRUST_FALLS, -level.depth), np.float32)


def _vote(level: _Level, matches: _Matches) -> Maps:
    """(k, 3): the colours of the hole's pixels that the matches of those around say."""
    steps, trust = matches.over_level()
    colours = level.bordered(level.colours)
    total = np.zeros((len(level.hole), 3), np.float32)
    weight = np.zeros((len(level.hole), 1), np.float32)
    for tap in _TAPS:
        neighbours = level.hole + level.step(tap)
        counts = trust.take(neighbours)[:, None]
        total += counts * colours.take(level.hole + steps.take(neighbours), axis=0)
        weight += counts
    return total / weight


def _taken_over(level: _Level, coarser: _Matches) -> _Matches:
    """The matches of a coarser level, at this one's size; some may no longer be known patches."""
    times = level.size / coarser.level.size
    steps, trust = coarser.over_level()
    rows, columns = level.places(level.hole)
    cells = ((rows + 0.5) / times).astype(np.int32), ((columns + 0.5) / times).astype(np.int32)
    numbers = (cells[0] + _RADIUS) * coarser.level.stride + cells[1] + _RADIUS
    to_rows, to_columns = coarser.level.places(numbers + steps[numbers])
    down, across = np.rint(times * (to_rows - cells[0])), np.rint(times * (to_columns - cells[1]))
    last = level.size - 1 - _RADIUS
    to_rows = np.clip(rows + down, _RADIUS, last).astype(np.int32)
    to_columns = np.clip(columns + across, _RADIUS, last).astype(np.int32)
    return _Matches(level, level.step((1, 0)) * (to_rows - rows) + to_columns - columns, trust[numbers])


def _refine(level: _Level, coarser: _Matches) -> _Matches:
    """The coarser level's matches, each replaced by that of a neighbour, or one a pixel beside it, where that is better."""
    begun = _taken_over(level, coarser)
    colours = level.bordered(level.colours)
    estimate = level.bordered(level.with_fill(_vote(level, begun)))
    wanted = [estimate.take(level.hole + level.step(tap), axis=0) for tap in _FEW_TAPS]

    def costs(which: NDArray[np.intp], steps: Index) -> Maps:
        to = level.hole[which] + steps
        total = np.zeros(len(which), np.float32)
        for tap, mine in zip(_FEW_TAPS, wanted, strict=True):
            difference = mine[which] - colours.take(to + level.step(tap), axis=0)
            total += np.einsum("ij,ij->i", difference, difference)
        return np.where(level.known[to], total / len(_FEW_TAPS), np.float32(1e9))

    steps = begun.steps.copy()
    least = costs(np.arange(len(steps)), steps)
    field = np.zeros(level.stride**2, np.int32)
    inside = np.zeros(level.stride**2, np.bool_)
    inside[level.hole] = True
    moves = [(tap, far) for far in (4, 1) for tap in ((0, 1), (1, 0), (0, -1), (-1, 0))]
    for beside in (False, True):
        for (down, across), far in moves:
            if beside:
                if far > 1:
                    continue
                candidates = steps + level.step((down, across))
                which = np.arange(len(steps))
            else:
                field[level.hole] = steps
                rows, columns = level.places(level.hole)
                rows = np.clip(rows + down * far, 0, level.size - 1)
                columns = np.clip(columns + across * far, 0, level.size - 1)
                neighbours = (rows + _RADIUS) * level.stride + columns + _RADIUS
                candidates = field[neighbours]
                which = np.flatnonzero(inside[neighbours] & (candidates != steps))
            to_rows, to_columns = level.places(level.hole[which] + candidates[which])
            within = (to_rows >= 0) & (to_rows < level.size) & (to_columns >= 0) & (to_columns < level.size)
            which = which[within]
            cost = costs(which, candidates[which])
            better = cost < _GAIN * least[which]
            steps[which[better]] = candidates[which[better]]
            least[which[better]] = cost[better]
    return _Matches(level, steps, _trust(level, least))


def _joined(photograph: NDArray[np.uint8], mask: Mask, matches: _Matches) -> Maps:
    """(k, 3): the photograph's own pixels at the matches, made to meet what is around the hole.

    What is copied is continued one pixel beyond the hole; by how much it differs from the photograph there is spread smoothly
    over the hole and added (Perez et al., "Poisson Image Editing", SIGGRAPH 2003, with `push_pull` for the membrane).
    """
    size = mask.shape[0]
    fill, _ = _copied(photograph, mask, matches)
    ring = cv2.dilate(mask.view(np.uint8), np.ones((3, 3), np.uint8)).view(np.bool_) & ~mask
    beyond, weight = _copied(photograph, ring, matches)
    steps = np.zeros((size, size, 3), np.float32)
    steps[ring] = np.clip(photograph[ring] - beyond, -_LARGEST_STEP, _LARGEST_STEP)
    unknown = ~ring
    unknown[ring] = weight < _LEAST_WEIGHT
    return np.asarray(fill + smooth_fill(steps, unknown)[mask], np.float32)


def _copied(photograph: NDArray[np.uint8], where: Mask, matches: _Matches) -> tuple[Maps, Maps]:
    """(k, 3) colours of some pixels in or beside the hole, and (k,) how well they are known; where matches change, one passes
    into the other."""
    size = where.shape[0]
    level = matches.level
    times = size / level.size
    steps, trust = matches.over_level()
    all_rows, all_columns = (places.astype(np.int32) for places in np.nonzero(where))
    colours = np.empty((len(all_rows), 3), np.float32)
    weights = np.empty(len(all_rows), np.float32)
    for begin in range(0, len(all_rows), _PIXELS_AT_ONCE):
        part = slice(begin, begin + _PIXELS_AT_ONCE)
        rows, columns = all_rows[part], all_columns[part]
        total = np.zeros((len(rows), 3), np.float32)
        weight = np.full((len(rows), 1), 1e-12, np.float32)
        cell_rows, row_weights = _spline((rows + 0.5) / times)
        cell_columns, column_weights = _spline((columns + 0.5) / times)
        for down, by_row in zip((-1, 0, 1), row_weights, strict=True):
            for across, by_column in zip((-1, 0, 1), column_weights, strict=True):
                numbers = (cell_rows + down + _RADIUS) * level.stride + cell_columns + across + _RADIUS
                to_rows, to_columns = level.places(numbers + steps[numbers])
                to_rows = rows + np.rint(times * (to_rows - cell_rows - down)).astype(np.int32)
                to_columns = columns + np.rint(times * (to_columns - cell_columns - across)).astype(np.int32)
                counts = (trust[numbers] * by_row * by_column)[:, None]
                total += counts * photograph[to_rows.clip(0, size - 1), to_columns.clip(0, size - 1)]
                weight += counts
        colours[part], weights[part] = total / weight, weight[:, 0]
    return colours, weights


def _spline(places: NDArray[np.float64]) -> tuple[Index, tuple[Maps, Maps, Maps]]:
    """The cell of each place, and the weights of a quadratic B-spline for the one before, itself and the one after."""
    cells = places.astype(np.int32)
    at = (places - cells).astype(np.float32)
    return cells, (0.5 * np.square(1 - at), 0.75 - np.square(at - 0.5), 0.5 * np.square(at))
