"""Windows at one size, and what the pixels of their holes are most like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

RADIUS = 3
"""Of a patch in pixels."""

SIDE = 2 * RADIUS + 1
TAPS = tuple((down, across) for down in range(-RADIUS, RADIUS + 1) for across in range(-RADIUS, RADIUS + 1))
"""From the middle of a patch to its pixels: rows down, columns to the right."""

FEW_TAPS = tuple(tap for tap in TAPS if tap[0] in (-2, 0, 2) and tap[1] in (-2, 0, 2))
"""Enough of them where matches hardly change from pixel to pixel."""

_TRUST_FALLS = 1.15  # a match counts so many times less for every 64th of the window that it lies deeper in the hole

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Hidden:
    """The masks of several windows at one size, with what follows from them alone; made on the host.

    Each window has a border of `RADIUS` pixels around, so that patches never end. Pixels are numbered row by row over the
    bordered windows, one window after the other.

    Args:
        size: side of the windows in pixels.
        masks: (B, size, size) bool, True = hole.
    """

    size: int
    masks: Mask

    @property
    def stride(self) -> int:
        """Numbers from a pixel to the one below it."""
        return self.size + 2 * RADIUS

    @cached_property
    def sources(self) -> Mask:
        """(B, size, size): in the middle of a patch without a pixel of the hole, in the window."""
        patch = np.ones((SIDE, SIDE), np.uint8)
        known = (~self.masks).view(np.uint8)
        eroded = [cv2.erode(each, patch, borderType=cv2.BORDER_CONSTANT, borderValue=0) for each in known]
        return np.stack(eroded).view(np.bool_)

    def candidates(self, step: int) -> Mask:
        """(B, size, size): one source in `step` of each row, shifted by half of that from row to row; all where none is such."""
        rows, columns = np.indices(self.masks.shape[1:])
        chosen = self.sources & ((rows * (step // 2) + columns) % step == 0)
        return np.where(chosen.any(axis=(1, 2), keepdims=True), chosen, self.sources)

    def numbers(self, where: Mask) -> NDArray[np.int64]:
        """(k,): the numbers of the pixels of a (B, size, size) mask."""
        window, rows, columns = np.nonzero(where)
        return (window * self.stride + rows + RADIUS) * self.stride + columns + RADIUS

    @cached_property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns outside of which no window has a hole, in whole quarters of the side; empty where none has.

        In quarters, since libraries make a kernel for each size.
        """
        seen: Mask = np.logical_or.reduce(self.masks, axis=0)
        quarter = self.size // 4
        rows, columns = (
            slice(int(at[0]) // quarter * quarter, -(-int(at[-1] + 1) // quarter) * quarter) if at.size else slice(0, 0)
            for at in (np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0)))
        )
        return rows, columns

    def depths(self) -> NDArray[np.float32]:
        """(k,): how far in the hole each of its pixels lies, in 64ths of the window."""
        in_pixels = np.minimum(np.concatenate([_depths(mask) for mask in self.masks]), self.size)
        return np.asarray(in_pixels * (64 / self.size), np.float32)

    def halved(self) -> Hidden:
        """At half the size: a pixel is of the hole where any of its four is."""
        half = self.size // 2
        fours = self.masks.reshape(-1, half, 2, half, 2)
        return Hidden(half, np.asarray(fours.any(axis=(2, 4)), bool))


def _depths(mask: Mask) -> NDArray[np.float32]:
    """(k,): distances of a window's masked pixels to the nearest that is not, row by row; huge where there is none."""
    # Only where the hole is, and a pixel around it: the nearest lies there.
    rows, columns = (
        slice(max(0, int(at[0]) - 1), int(at[-1]) + 2) if at.size else slice(0, 0)
        for at in (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    )
    here = np.ascontiguousarray(mask[rows, columns])
    if not here.size:
        return np.zeros(0, np.float32)
    return np.asarray(cv2.distanceTransform(here.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)[here], np.float32)


class Level:
    """Windows at one size.

    Args:
        hidden: their masks.
        colours: (B, 3, size, size) float32, 0 to 255; of no meaning in the holes.
    """

    def __init__(self, hidden: Hidden, colours: Tensor) -> None:
        device = colours.device
        self.hidden = hidden
        self.size, self.stride = hidden.size, hidden.stride
        self.colours = colours
        self.counts = hidden.masks.sum(axis=(1, 2)).tolist()
        """Pixels of each window's hole."""
        self.hole = torch.from_numpy(hidden.numbers(hidden.masks)).to(device)
        """(k,) int64: numbers of the holes' pixels, window by window."""
        self.depths = torch.from_numpy(hidden.depths()).to(device)
        """(k,) float32, in 64ths of the window."""
        self.total = len(hidden.masks) * self.stride**2
        """Numbers of all windows."""

    def places(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and columns in the windows."""
        within = numbers % self.stride**2
        return within // self.stride - RADIUS, within % self.stride - RADIUS

    @cached_property
    def hole_places(self) -> tuple[Tensor, Tensor]:
        """(k,) int64: rows and columns of the holes' pixels in their windows."""
        return self.places(self.hole)

    def table(self, maps: Tensor) -> Tensor:
        """(B, c, size, size) to (numbers, c), mirrored in the border."""
        return bordered(maps).permute(0, 2, 3, 1).reshape(self.total, -1)

    @cached_property
    def known_maps(self) -> Tensor:
        """(B, 1, size, size) float32: 0 in the holes, 1 elsewhere."""
        return torch.from_numpy(~self.hidden.masks).to(self.colours.device)[:, None].float()

    @cached_property
    def sources(self) -> Tensor:
        """(m,) int64: numbers of the pixels in the middle of known patches."""
        return torch.from_numpy(self.hidden.numbers(self.hidden.sources)).to(self.colours.device)

    @cached_property
    def pixels(self) -> Tensor:
        """(numbers, 3): the colours with the border."""
        return self.table(self.colours)

    @cached_property
    def hole_in_box(self) -> Tensor:
        """(k,) int64: numbers of the holes' pixels row by row in the windows cut to `Hidden.box`, window by window."""
        rows, columns = self.hidden.box
        return torch.from_numpy(np.flatnonzero(self.hidden.masks[:, rows, columns])).to(self.colours.device)

    def with_fill(self, fill: Tensor) -> Tensor:
        """(B, 3, size, size): the colours, and in the hole those of `fill` (k, 3)."""
        table = self.pixels.clone()
        table[self.hole] = fill
        inside = table.view(-1, self.stride, self.stride, 3)[:, RADIUS:-RADIUS, RADIUS:-RADIUS]
        return inside.permute(0, 3, 1, 2)

    def around(self, taps: Sequence[tuple[int, int]]) -> Tensor:
        """(k, taps) int64: for each pixel of the hole, the numbers of pixels so many rows and columns away."""
        steps = torch.tensor([down * self.stride + across for down, across in taps], device=self.hole.device)
        return self.hole[:, None] + steps


@dataclass(frozen=True)
class Matches:
    """What each pixel of a level's holes is most like.

    Args:
        level: whose.
        steps: (k,) int64 numbers from each to its match.
        trust: (k,) float32, how much it counts.
    """

    level: Level
    steps: Tensor
    trust: Tensor

    def over_level(self) -> tuple[Tensor, Tensor]:
        """(numbers,) of both; 0 where there is no hole."""
        steps = self.steps.new_zeros(self.level.total)
        trust = self.trust.new_zeros(self.level.total)
        steps[self.level.hole] = self.steps
        trust[self.level.hole] = self.trust
        return steps, trust


def rows_of(table: Tensor, numbers: Tensor) -> Tensor:
    """`table[numbers]`: rows of a table (n, ...) by numbers of any shape. On CPUs several times as fast."""
    return table.index_select(0, numbers.flatten()).view(*numbers.shape, *table.shape[1:])


def bordered(maps: Tensor) -> Tensor:
    """(B, c, s, s) with a mirrored border of `RADIUS`; in memory as (B, s, s, c)."""
    around = F.pad(maps, (RADIUS, RADIUS, RADIUS, RADIUS), mode="reflect")
    return around.contiguous(memory_format=torch.channels_last)


def trusted(level: Level, costs: Tensor) -> Tensor:
    """How much matches count, by their mean squared differences and by how deep in the hole they are looked for."""
    medians = torch.stack(
        [part.median() if len(part) else costs.new_zeros(()) for part in torch.split(costs, level.counts)]
    )
    counts = torch.tensor(level.counts, device=costs.device)
    scale = torch.repeat_interleave(0.6 * medians + 2.0, counts, output_size=len(costs))
    return torch.exp(-costs / scale).clamp(min=1e-6) * torch.pow(_TRUST_FALLS, -level.depths)


def vote(level: Level, matches: Matches, taps: Sequence[tuple[int, int]] = TAPS) -> Tensor:
    """(k, 3): the colours of the holes' pixels that the matches of those around say."""
    steps, trust = matches.over_level()
    around = level.around(taps)
    weights = rows_of(trust, around)
    # Where a tap is outside the hole its step is 0 and so is its weight.
    voices = level.hole[:, None] + rows_of(steps, around)
    total = F.embedding_bag(voices, level.pixels, per_sample_weights=weights, mode="sum")
    return total / weights.sum(dim=1, keepdim=True)


def taken_over(level: Level, coarser: Matches) -> Matches:
    """The matches of a coarser level, at this one's size."""
    times = level.size // coarser.level.size
    steps, trust = coarser.over_level()
    stride = coarser.level.stride
    rows, columns = level.hole_places
    window = level.hole // level.stride**2
    cell_rows, cell_columns = rows // times, columns // times
    numbers = (window * stride + cell_rows + RADIUS) * stride + cell_columns + RADIUS
    to_rows, to_columns = coarser.level.places(numbers + rows_of(steps, numbers))
    down, across = times * (to_rows - cell_rows), times * (to_columns - cell_columns)
    return Matches(level, level.stride * down + across, rows_of(trust, numbers))
