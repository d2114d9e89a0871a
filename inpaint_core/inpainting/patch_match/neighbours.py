"""Better matches for a finer level, from those of neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inpaint_core.inpainting.patch_match.matches import (
    RADIUS,
    TAPS,
    Index,
    Level,
    Maps,
    Matches,
    taken_over,
    trusted,
    vote,
)

_FEW_TAPS = tuple(tap for tap in TAPS if tap[0] % 2 == 1 and tap[1] % 2 == 1)
_UNKNOWN = np.float32(1e9)  # cost of a patch that is not known
_GAIN = 0.7  # a match is replaced by one of less than so much of its cost


def refine(level: Level, coarser: Matches) -> Matches:
    """The coarser level's matches, each replaced by that of a neighbour, or one a pixel beside it, where that is better."""
    search = _Search(level, taken_over(level, coarser))
    directions = ((0, 1), (1, 0), (0, -1), (-1, 0))
    for far in (4, 1):
        for down, across in directions:
            search.ask_neighbours(down * far, across * far)
    for direction in directions:
        search.look_beside(direction)
    return Matches(level, search.steps, trusted(level, search.least))


class _Search:
    """The best matches so far and their costs: mean squared differences of some pixels of the patches."""

    def __init__(self, level: Level, begun: Matches) -> None:
        self._level = level
        estimate = level.bordered(level.with_fill(vote(level, begun)))
        self._wanted = [estimate.take(level.hole + level.step(tap), axis=0) for tap in _FEW_TAPS]
        self.steps = begun.steps.copy()
        self.least = self._costs(np.arange(len(self.steps)), self.steps)

    def ask_neighbours(self, down: int, across: int) -> None:
        """Try, for each pixel of the hole, what its neighbour so many pixels away has found."""
        level = self._level
        rows, columns = level.places(level.hole)
        rows, columns = (np.clip(at, 0, level.size - 1) for at in (rows + down, columns + across))
        neighbours = (rows + RADIUS) * level.stride + columns + RADIUS
        found = np.zeros(level.stride**2, np.int32)
        found[level.hole] = self.steps  # 0 outside the hole: to the pixel itself, which is not known
        candidates = found[neighbours]
        self._try(np.flatnonzero((candidates != self.steps) & (candidates != 0)), candidates)

    def look_beside(self, direction: tuple[int, int]) -> None:
        """Try, for each pixel of the hole, the patch next to its match."""
        self._try(np.arange(len(self.steps)), self.steps + np.int32(self._level.step(direction)))

    def _try(self, which: NDArray[np.intp], candidates: Index) -> None:
        rows, columns = self._level.places(self._level.hole[which] + candidates[which])
        last = self._level.size - 1
        which = which[(rows >= 0) & (rows <= last) & (columns >= 0) & (columns <= last)]
        costs = self._costs(which, candidates[which])
        better = costs < _GAIN * self.least[which]
        self.steps[which[better]] = candidates[which[better]]
        self.least[which[better]] = costs[better]

    def _costs(self, which: NDArray[np.intp], steps: Index) -> Maps:
        to = self._level.hole[which] + steps
        total = np.zeros(len(which), np.float32)
        for tap, wanted in zip(_FEW_TAPS, self._wanted, strict=True):
            difference = wanted[which] - self._level.pixels.take(to + self._level.step(tap), axis=0)
            total += np.einsum("ij,ij->i", difference, difference)
        return np.where(self._level.known[to], total / np.float32(len(_FEW_TAPS)), _UNKNOWN)
