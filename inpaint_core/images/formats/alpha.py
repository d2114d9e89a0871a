"""Samples with alpha: associated and straight colours, and palettes with transparent entries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HALF = 128
"""Least alpha that is stored as opaque where a file knows only opaque and transparent."""


def straight(colour: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colours divided by their alpha (TIFF's associated alpha to unassociated); black where alpha is 0.

    Args:
        colour: (..., C) uint8, times alpha.
        alpha: (..., 1) uint8.

    Returns:
        (..., C) uint8, at most 255 where a colour is above its alpha.
    """
    opacity = np.maximum(alpha, 1).astype(np.uint32)
    divided: NDArray[np.uint8] = np.minimum((colour * np.uint32(255) + opacity // 2) // opacity, 255).astype(np.uint8)
    return np.where(alpha > 0, divided, 0).astype(np.uint8)


def nearest_by_looks(palette: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Indices of the palette entries that look most like some pixels, over black and over white together.

    The distance is the Euclidean one of the two colours that are seen, so that between opaque entries it is that of their
    colours, and all entries that are fully transparent are alike.

    Args:
        palette: (N, 4) uint8 RGBA.
        wanted: (n, 4) uint8 RGBA.

    Returns:
        (n,) uint8.
    """
    from scipy.spatial import KDTree  # half a second, in every process, and pictures with palettes are few

    colours, back = np.unique(wanted, axis=0, return_inverse=True)
    _, nearest = KDTree(_looks(palette)).query(_looks(colours))
    indices: NDArray[np.uint8] = nearest[back.reshape(-1)].astype(np.uint8)
    return indices


def _looks(rgba: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(n, 6) values 0..1: the colours over black, then over white."""
    opacity = rgba[:, 3:] / 255.0
    over_black = rgba[:, :3] / 255.0 * opacity
    return np.concatenate([over_black, over_black + (1.0 - opacity)], axis=1)
