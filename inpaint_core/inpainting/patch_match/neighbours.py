"""Better matches for a finer level, from those of neighbours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from inpaint_core.inpainting.patch_match.descriptors import described, described_holes
from inpaint_core.inpainting.patch_match.levels import (
    FEW_TAPS,
    RADIUS,
    SIDE,
    Level,
    Matches,
    rows_of,
    taken_over,
    trusted,
    vote,
)

_FREQUENCIES = (3, 1)  # of brightness and colour, that are compared: 8 numbers for a patch
_UNKNOWN = 3e4  # difference to a patch that is not known
_GAIN = 0.7  # a match is replaced by one of less than so much of its cost
_DIRECTIONS = ((0, 1), (1, 0), (0, -1), (-1, 0))


def refine(level: Level, coarser: Matches) -> Matches:
    """The coarser level's matches, each replaced by that of a neighbour, or one a pixel beside it, where that is better."""
    search = _Search(level, taken_over(level, coarser))
    for far in (4, 1):
        search.ask_neighbours([(down * far, across * far) for down, across in _DIRECTIONS])
    search.look_beside()
    return Matches(level, search.steps, trusted(level, search.least / SIDE**2))


class _Search:
    """The best matches so far and their costs: squared differences of descriptors."""

    def __init__(self, level: Level, begun: Matches) -> None:
        self._level = level
        unknown = torch.full((level.total, 1), _UNKNOWN, device=level.hole.device)
        unknown[level.sources] = 0.0
        self._table = torch.cat([described(level.colours, *_FREQUENCIES), unknown], dim=1)
        self._wanted = F.pad(described_holes(level, vote(level, begun, FEW_TAPS), *_FREQUENCIES), (0, 1))
        window = level.hole // level.stride**2
        self._first = window * level.stride**2
        self.steps = begun.steps
        self.least = self._costs(self.steps)

    def ask_neighbours(self, ways: list[tuple[int, int]]) -> None:
        """Try, for each pixel of the hole, what its neighbours so many rows and columns away have found."""
        level = self._level
        rows, columns = level.hole_places
        found = torch.zeros(level.total, dtype=torch.int64, device=level.hole.device)
        found[level.hole] = self.steps  # 0 outside the hole: to the pixel itself, which is not known
        for down, across in ways:
            to_rows, to_columns = (
                (at + step).clamp(0, level.size - 1) for at, step in ((rows, down), (columns, across))
            )
            self._try(rows_of(found, self._first + (to_rows + RADIUS) * level.stride + to_columns + RADIUS))

    def look_beside(self) -> None:
        """Try, for each pixel of the hole, the patches next to its match."""
        for down, across in _DIRECTIONS:
            self._try(self.steps + down * self._level.stride + across)

    def _try(self, steps: Tensor) -> None:
        costs = self._costs(steps)
        better = costs < _GAIN * self.least
        self.steps = torch.where(better, steps, self.steps)
        self.least = torch.where(better, costs, self.least)

    def _costs(self, steps: Tensor) -> Tensor:
        # Beyond its window a pixel looks at the window's corner, in the border, where no patch is known.
        last = self._first + (self._level.stride**2 - 1)
        to = (self._level.hole + steps).clamp(self._first, last)
        return rows_of(self._table, to).sub_(self._wanted).square_().sum(dim=1)
