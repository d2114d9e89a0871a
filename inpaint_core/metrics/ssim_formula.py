"""SSIM's constants and formula (Wang et al., IEEE TIP 2004), for arrays and tensors alike. Loads no torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

WINDOW = 11
"""Side of the Gaussian window, in pixels."""

SIGMA = 1.5
"""Standard deviation of the Gaussian window, in pixels."""

HALO = WINDOW // 2
"""Pixels that a window reaches from its centre."""

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales of MS-SSIM, the finest first (Wang et al., Asilomar 2003)."""

K1 = 0.01
K2 = 0.03

Plane = TypeVar("Plane", NDArray[np.float64], "Tensor")


def constants(data_range: float) -> tuple[float, float]:
    """C1 and C2, which keep the quotient stable, for a data range: largest value less smallest that samples can have."""
    return (K1 * data_range) ** 2, (K2 * data_range) ** 2


def scale_count(side: int) -> int:
    """Scales of MS-SSIM of images of `side` pixels, their shorter side: as many as hold a window, at most five."""
    return min(len(SCALE_WEIGHTS), int(math.log2(side / WINDOW)) + 1)


def similarity(u: Plane, v: Plane, s: Plane, p: Plane, data_range: float) -> Plane:
    """Structural similarity of two images x and y, of their local means under the Gaussian window.

    The variances enter as their sum alone, so that four means are enough. The variances are differences of nearly equal
    numbers in smooth regions: float32 is a compromise there.

    Args:
        u, v: local means of x and of y, of any one shape.
        s, p: local means of x^2 + y^2 and of xy.
        data_range: see `constants`.

    Returns:
        -1..1, of their shape.
    """
    c1, c2 = constants(data_range)
    product, squares = u * v, u * u + v * v
    return (2 * product + c1) * (2 * (p - product) + c2) / ((squares + c1) * (s - squares + c2))
