"""A fill's colours as CMYK, with the inks of what surrounds it.

One colour is printed with many mixtures of inks: a neutral grey with black alone, or with cyan, magenta and yellow and
little black. A profile knows one of them, and the file may hold another. Each colour of the fill therefore gets the
mixture that the surroundings have for the nearest colour, corrected by the difference of the two colours; the profile's
own mixture is taken only for colours that the surroundings do not have. So flat fields and colours outside sRGB get
exactly the inks around them, and black text and grey areas stay black alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from inpaint_core.images.formats.cmyk import Conversion
from inpaint_core.images.formats.surroundings import parts_of

UInt8 = NDArray[np.uint8]
Floats = NDArray[np.float64]

_COLOURS_AT_ONCE = 2**15
# How many pixels around a hole give their mixtures.
_MIXTURES_OF = 2**17
# An ink that nowhere in the surroundings exceeds this (of 255) is noise of the codec, and not used by the image.
_UNUSED_INK = 3
# Mean squared error of a colour, in levels of RGB, above which the profile's mixture may replace the surroundings'.
_CLOSE_ENOUGH = 4.0
# Of the derivatives of RGB by the inks, in levels per level of ink.
_DIFFERENCE = 8
_DAMPING = 1.0


def paint_inks(samples: UInt8, fill: UInt8, mask: NDArray[np.bool_], conversion: Conversion) -> UInt8:
    """Return the samples with those under the mask replaced by inks that show the fill.

    No pixel gets more ink in total than the surroundings of its part of the mask have at most, and none gets an ink
    that the surroundings do not use.

    Args:
        samples: (H, W, 4) CMYK, 0 = no ink.
        fill: (H, W, 3) sRGB.
        mask: (H, W), True = replace.
        conversion: what shows the inks.
    """
    painted = samples.copy()
    for part in parts_of(mask):
        around = part.known(samples, mask, _MIXTURES_OF).astype(np.uint8)
        colours = fill[part.box][part.hole]
        codes, where = np.unique(_codes(colours), return_inverse=True)
        palette = np.stack([codes >> np.uint32(shift) & np.uint32(255) for shift in (16, 8, 0)], -1).astype(np.uint8)
        painted[part.box][part.hole] = _mixed(palette, around, conversion)[where]
    return painted


def _codes(rgb: UInt8) -> NDArray[np.uint32]:
    codes: NDArray[np.uint32] = rgb.astype(np.uint32) @ np.array([2**16, 2**8, 1], np.uint32)
    return codes


def _mixed(colours: UInt8, around: UInt8, conversion: Conversion) -> UInt8:
    """(n, 4) inks for (n, 3) colours, with the mixtures of the pixels (m, 4) around."""
    if not len(around):
        return _listed(conversion.to_cmyk, colours)
    from scipy.spatial import KDTree  # half a second, in every process, and pictures in CMYK are few

    mixtures = _mixtures(around, conversion)
    tree = KDTree(_listed(conversion.to_rgb, mixtures).astype(np.float64))
    highest, total = around.max(0), int(around.astype(np.uint32).sum(1).max())
    parts = []
    for start in range(0, len(colours), _COLOURS_AT_ONCE):
        wanted = colours[start : start + _COLOURS_AT_ONCE]
        nearest = mixtures[tree.query(wanted)[1]]
        corrected = _limited(_corrected(nearest, wanted, conversion), highest, total)
        best, error = _better(nearest, corrected, wanted, conversion, 0.0)
        if (error > _CLOSE_ENOUGH).any():
            of_profile = _limited(_listed(conversion.to_cmyk, wanted), highest, total)
            best, _ = _better(best, of_profile, wanted, conversion, _CLOSE_ENOUGH)
            # Tables are coarse: what a profile gives for a colour is shown as one near it.
            again = _limited(_corrected(best, wanted, conversion), highest, total)
            best, _ = _better(best, again, wanted, conversion, _CLOSE_ENOUGH)
        parts.append(best)
    return np.concatenate(parts)


def _listed(convert: Callable[[UInt8], UInt8], colours: UInt8) -> UInt8:
    """A conversion of (n, channels) colours."""
    converted: UInt8 = convert(colours[None])[0]
    return converted


def _mixtures(around: UInt8, conversion: Conversion) -> UInt8:
    """(k, 4): for each colour that is seen around, the mean of its mixtures."""
    codes, where, counts = np.unique(
        _codes(_listed(conversion.to_rgb, around)), return_inverse=True, return_counts=True
    )
    sums = np.stack([np.bincount(where, weights=ink, minlength=len(codes)) for ink in around.T], -1)
    means: UInt8 = np.rint(sums / counts[:, None]).astype(np.uint8)
    return means


def _corrected(inks: UInt8, wanted: UInt8, conversion: Conversion) -> UInt8:
    """One step of Newton's method from the inks to the wanted colours.

    Of the steps that change the colour as wanted, it is the one with the smallest sum of squares of each ink's change,
    divided by the amount of the ink: inks in use change, others hardly. Damped where the inks cannot change the colour
    (Levenberg-Marquardt).
    """
    error = wanted.astype(np.float64) - _listed(conversion.to_rgb, inks)
    slopes = np.empty((len(inks), 3, 4))
    for ink in range(4):
        more, less = inks.astype(np.int16), inks.astype(np.int16)
        more[:, ink] = np.minimum(more[:, ink] + _DIFFERENCE, 255)
        less[:, ink] = np.maximum(less[:, ink] - _DIFFERENCE, 0)
        change = _listed(conversion.to_rgb, more.astype(np.uint8)).astype(np.float64)
        change -= _listed(conversion.to_rgb, less.astype(np.uint8))
        slopes[:, :, ink] = change / (more[:, ink] - less[:, ink])[:, None]
    weighted = slopes * (inks / 255.0)[:, None, :]
    system = weighted @ slopes.transpose(0, 2, 1) + _DAMPING / 255.0 * np.eye(3)
    step = np.einsum("nci,nc->ni", weighted, np.linalg.solve(system, error[..., None])[..., 0])
    corrected: UInt8 = np.clip(np.rint(inks + step), 0, 255).astype(np.uint8)
    return corrected


def _limited(inks: UInt8, highest: UInt8, total: int) -> UInt8:
    """Without inks that are not used, and with no more than `total` of all: first grey is given to black, then less."""
    limited = inks.astype(np.int32)
    unused = highest <= _UNUSED_INK
    limited[:, unused] = np.minimum(limited[:, unused], highest[unused])
    excess = np.maximum(limited.sum(1) - total, 0)
    if not unused[3]:
        # t of each of three colours is replaced by t of black.
        grey = np.minimum.reduce([-(-excess // 2), limited[:, :3].min(1), 255 - limited[:, 3]])
        limited += grey[:, None] * np.array([-1, -1, -1, 1])
    sums = np.maximum(limited.sum(1), 1)
    scaled: UInt8 = (limited * np.minimum(sums, total)[:, None] // sums[:, None]).astype(np.uint8)
    return scaled


def _better(
    first: UInt8, second: UInt8, wanted: UInt8, conversion: Conversion, tolerated: float
) -> tuple[UInt8, Floats]:
    """Of two mixtures the one that shows the wanted colour better, and its mean squared error.

    The first is kept where its error is not above `tolerated`.
    """
    errors = [((_listed(conversion.to_rgb, inks).astype(np.float64) - wanted) ** 2).mean(1) for inks in (first, second)]
    takes_second = (errors[1] < errors[0]) & (errors[0] > tolerated)
    return np.where(takes_second[:, None], second, first), np.where(takes_second, errors[1], errors[0])
