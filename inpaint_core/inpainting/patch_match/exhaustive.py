"""Matches among all known patches of a level."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inpaint_core.inpainting.patch_match.matches import (
    SIDE,
    TAPS,
    Index,
    Level,
    Maps,
    Mask,
    Matches,
    taken_over,
    trusted,
    vote,
)
from inpaint_core.inpainting.windows import resized_maps
from inpaint_core.networks.push_pull import smooth_fill

ROUNDS = {32: 4, 64: 4, 128: 2}
"""How often matches are looked for, by the side of the level."""

_COMPONENTS = 24  # of a patch, that are compared
_DETAIL = 4.0  # weight of a level of detail
_DOWN, _ACROSS = 1.0, 0.3  # weight of a 64th of the window's side between a pixel and its match
_DISTANCES_AT_ONCE = 2**20


def search(
    level: Level, photograph: NDArray[np.uint8], mask: Mask, guess: Maps, guess_weight: float, coarser: Matches | None
) -> Matches:
    """Find matches among all known patches of a level.

    Args:
        level: which.
        photograph: (n, n, 3) uint8, blanked: what the level was made of.
        mask: (n, n) bool.
        guess: (m, m, 3) float32, 0 to 255.
        guess_weight: how much a match's soft colours have to be those of the guess.
        coarser: where to begin; None: with the guess.
    """
    guessed = np.clip(resized_maps(guess, level.size), 0, 255)
    sources = np.flatnonzero(level.known).astype(np.int32)
    patches = _patches(level.pixels, sources, level)
    basis = _principal(patches)
    detail = _detail(level, photograph, mask)
    hole_features = _features(level, level.hole, guess_weight * guessed, detail)
    known = np.hstack([patches @ basis, _features(level, sources, guess_weight * _soft(level), detail)])
    fill = guessed[level.mask] if coarser is None else vote(level, taken_over(level, coarser))
    for _ in range(ROUNDS[level.size]):
        estimate = level.bordered(level.with_fill(fill))
        wanted = np.hstack([_patches(estimate, level.hole, level) @ basis, hole_features])
        nearest, distances = _nearest(wanted, known)
        matches = Matches(level, sources[nearest] - level.hole, trusted(level, distances / np.float32(SIDE**2)))
        fill = vote(level, matches)
    return matches


def _patches(colours: Maps, numbers: Index, level: Level) -> Maps:
    """(k, 3 SIDE^2): the patches about some pixels of a bordered picture (numbers, 3)."""
    return np.hstack([colours.take(numbers + level.step(tap), axis=0) for tap in TAPS])


def _principal(patches: Maps) -> Maps:
    """(d, c): the directions in which patches vary most."""
    centred = patches - patches.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return np.asarray(vectors[:, -_COMPONENTS:], np.float32)


def _features(level: Level, numbers: Index, colours: Maps, detail: Maps) -> Maps:
    """(k, 7) of what else is compared, weighted so that it counts as one level's difference of all colours of a patch."""
    rows, columns = level.places(numbers)
    cell = 64 / level.size
    place = np.column_stack([_DOWN * cell * rows, _ACROSS * cell * columns]).astype(np.float32)
    return np.asarray(SIDE * np.hstack([colours[rows, columns], _DETAIL * detail[rows, columns], place]), np.float32)


def _soft(level: Level) -> Maps:
    """The colours about as soft as the guess."""
    sigma = 0.02 * level.size
    return np.asarray(cv2.GaussianBlur(level.colours, (0, 0), sigma, borderType=cv2.BORDER_REFLECT), np.float32)


def _detail(level: Level, photograph: NDArray[np.uint8], mask: Mask) -> Maps:
    """(size, size, 2): the standard deviation within a pixel of the level, and about it; smooth in the hole."""
    known = (~mask).astype(np.float32)[..., None]
    seen = known * photograph
    share, mean, square = (np.atleast_3d(resized_maps(maps, level.size)) for maps in (known, seen, np.square(seen)))
    within = np.maximum(square - np.square(mean) / np.maximum(share, 1e-3), 0)
    maps = np.dstack([share, mean, square, within]).astype(np.float32)
    blurred = cv2.GaussianBlur(maps, (0, 0), 2.0, borderType=cv2.BORDER_REFLECT)
    weight = np.maximum(blurred[..., :1], 1e-3)
    about = np.maximum(blurred[..., 4:7] / weight - np.square(blurred[..., 1:4] / weight), 0).mean(axis=2)
    deviations = np.sqrt(np.dstack([(blurred[..., 7:] / weight).mean(axis=2), about])).astype(np.float32)
    return smooth_fill(deviations, level.mask)


def _nearest(wanted: Maps, known: Maps) -> tuple[NDArray[np.intp], Maps]:
    """Of each row of `wanted`, the row of `known` with the least squared distance, and that."""
    rows = max(1, _DISTANCES_AT_ONCE // len(known))
    # Half the squared distance, but for half the square of what is wanted: one product of matrices.
    right = np.ascontiguousarray(np.column_stack([-known, 0.5 * np.square(known).sum(axis=1)]).T)
    left = np.column_stack([wanted, np.ones(len(wanted), np.float32)])
    nearest, least = [], []
    for begin in range(0, len(left), rows):
        part = left[begin : begin + rows] @ right
        nearest.append(part.argmin(axis=1))
        least.append(part[np.arange(len(part)), nearest[-1]])
    distances = 2 * np.concatenate(least) + np.square(wanted).sum(axis=1)
    return np.concatenate(nearest), np.maximum(distances, 0).astype(np.float32)
