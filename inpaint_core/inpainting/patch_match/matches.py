"""A window at one size, and what the pixels of its hole are most like."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from inpaint_core.inpainting.windows import resize, resize_mask

LARGEST = 1024
"""Soft fills, levels and membranes of windows with longer sides are made at this size, so that only the copying grows with the window (about 80 bytes
for each pixel of the hole). Pixels."""

RADIUS = 3
"""Of a patch in pixels."""

SIDE = 2 * RADIUS + 1
TAPS = tuple((down, across) for down in range(-RADIUS, RADIUS + 1) for across in range(-RADIUS, RADIUS + 1))
"""From the middle of a patch to its pixels: rows down, columns to the right."""

_TRUST_FALLS = 1.15  # a match counts so many times less for every 64th of the window that it lies deeper in the hole

Maps = NDArray[np.float32]
Mask = NDArray[np.bool_]
Index = NDArray[np.int32]


@dataclass(frozen=True)
class Level:
    """The window at one size, with a border of `RADIUS` pixels around (mirrored), so that patches never end.

    Pixels are numbered row by row over the bordered picture.
    """

    size: int
    colours: Maps  # (size, size, 3)
    mask: Mask  # (size, size)
    hole: Index  # numbers of the hole's pixels
    known: Mask  # (numbers,), that lie in the middle of a known patch
    depth: Maps  # of each of the hole's pixels, in 64ths of the window

    @classmethod
    def of(cls, photograph: NDArray[np.uint8], mask: Mask, size: int) -> Level:
        """`photograph` is blanked (`windows.blank`)."""
        hidden = resize_mask(mask, size, size)
        patch = np.ones((SIDE, SIDE), np.uint8)
        known = cv2.erode((~hidden).view(np.uint8), patch, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        depth = cv2.distanceTransform(hidden.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
        rows, columns = np.nonzero(hidden)
        return cls(
            size,
            resize(photograph, size, size).astype(np.float32),
            hidden,
            ((rows + RADIUS) * (size + 2 * RADIUS) + columns + RADIUS).astype(np.int32),
            np.pad(known.view(np.bool_), RADIUS).reshape(-1),
            (np.minimum(depth[rows, columns], size) * (64 / size)).astype(np.float32),
        )

    @property
    def stride(self) -> int:
        """Numbers from a pixel to the one below it."""
        return self.size + 2 * RADIUS

    def step(self, tap: tuple[int, int]) -> int:
        """Numbers from a pixel to another."""
        return tap[0] * self.stride + tap[1]

    def places(self, numbers: Index) -> tuple[Index, Index]:
        """Rows and columns."""
        return numbers // self.stride - RADIUS, numbers % self.stride - RADIUS

    def bordered(self, maps: Maps) -> Maps:
        """(size, size, c) to (numbers, c)."""
        around = cv2.copyMakeBorder(maps, RADIUS, RADIUS, RADIUS, RADIUS, cv2.BORDER_REFLECT_101)
        return np.asarray(around.reshape(self.stride**2, -1), np.float32)

    @cached_property
    def pixels(self) -> Maps:
        """(numbers, 3): the colours with the border."""
        return self.bordered(self.colours)

    def with_fill(self, fill: Maps) -> Maps:
        """(size, size, 3): the colours, and in the hole those of `fill`."""
        result = self.colours.copy()
        result[self.mask] = fill
        return result


@dataclass(frozen=True)
class Matches:
    """What each pixel of a level's hole is most like.

    Args:
        level: whose.
        steps: numbers from each to its match.
        trust: how much it counts.
    """

    level: Level
    steps: Index
    trust: Maps

    def over_level(self) -> tuple[Index, Maps]:
        """(numbers,) of both; 0 where there is no hole."""
        steps = np.zeros(self.level.stride**2, np.int32)
        trust = np.zeros(self.level.stride**2, np.float32)
        steps[self.level.hole] = self.steps
        trust[self.level.hole] = self.trust
        return steps, trust


def trusted(level: Level, costs: Maps) -> Maps:
    """How much matches count, by their mean squared differences and by how deep in the hole they are looked for."""
    scale = 0.6 * float(np.median(costs)) + 2.0
    return np.asarray(np.exp(-costs / scale).clip(1e-6) * np.power(_TRUST_FALLS, -level.depth), np.float32)


def vote(level: Level, matches: Matches) -> Maps:
    """(k, 3): the colours of the hole's pixels that the matches of those around say."""
    steps, trust = matches.over_level()
    total = np.zeros((len(level.hole), 3), np.float32)
    weight = np.zeros((len(level.hole), 1), np.float32)
    for tap in TAPS:
        neighbours = level.hole + level.step(tap)
        counts = trust.take(neighbours)[:, None]
        total += counts * level.pixels.take(level.hole + steps.take(neighbours), axis=0)
        weight += counts
    return total / weight


def taken_over(level: Level, coarser: Matches) -> Matches:
    """The matches of a coarser level, at this one's size."""
    times = level.size / coarser.level.size
    steps, trust = coarser.over_level()
    rows, columns = level.places(level.hole)
    cells = ((rows + 0.5) / times).astype(np.int32), ((columns + 0.5) / times).astype(np.int32)
    numbers = (cells[0] + RADIUS) * coarser.level.stride + cells[1] + RADIUS
    to_rows, to_columns = coarser.level.places(numbers + steps[numbers])
    down, across = (np.rint(times * way).astype(np.int32) for way in (to_rows - cells[0], to_columns - cells[1]))
    return Matches(level, level.stride * down + across, trust[numbers])
