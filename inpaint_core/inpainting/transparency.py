"""Alpha under a mask, and the colours that an image with transparency has there.

Alpha has no texture to continue: it is interpolated from the edge of the mask. Colours are filled by the inpainter, as
elsewhere, where some of the fill is seen.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inpaint_core.images.formats.alpha import HALF
from inpaint_core.images.transparency import FAINT
from inpaint_core.inpainting.inpainter import Hole
from inpaint_core.inpainting.window_pixels import blank
from inpaint_core.inpainting.windows import find_parts

# Pixels of the edge whose alpha is neither near 0 nor near 255, as a fraction, up to which the surroundings count as binary:
# those where the outline of a soft cut-out crosses the edge.
_SOFT_FRACTION = 0.1
_COARSE, _REFINED = (
    64,
    256,
)  # pixels along the longer side: of the coarsest grid, and of the finest that is iterated long
_STEPS = 1000  # of the iteration for the least total variation on the coarsest grid
_SWEEPS = 24  # of relaxation on the finest grids
_SCALE = np.float32(32)  # of the dual variable; it decides over the speed of the iteration only
_SOFTNESS = 0.7  # standard deviation in pixels of an outline where the surroundings' is soft
_CROSS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32) / 4

Alpha = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Maps = NDArray[np.float32]


def fill_alpha(alpha: Alpha, mask: Mask) -> Alpha:
    """Alpha continued under a mask: each connected part is filled from the pixels that touch it.

    Where these are the same, but for less than 16 levels, their median is the fill. Where they are nearly all opaque or
    transparent, an outline is continued, the shortest one (least total variation, Rudin, Osher and Fatemi 1992), so that no
    veil appears; it is soft only where the surroundings' is. Elsewhere, the fill is the harmonic function of the values
    (Laplace's equation), which lies between them and has no extremum of its own. The border of the image is free.

    Args:
        alpha: (H, W) uint8; values under the mask have no effect.
        mask: (H, W) bool, True = fill. A part without any pixel around it becomes opaque.

    Returns:
        (H, W) uint8, equal to `alpha` outside the mask.
    """
    height, width = mask.shape
    result = alpha.copy()
    for part in find_parts(mask):
        around = part.box.grown(1).within(width, height)
        inside = np.zeros((around.height, around.width), np.bool_)
        inside[part.box.relative_to(around).slices] = part.pixels
        edge = (cv2.dilate(inside.view(np.uint8), np.ones((3, 3), np.uint8)) > 0) & ~inside
        values = alpha[around.slices][edge]
        target = result[around.slices]
        if values.size == 0:
            target[inside] = 255
        elif int(values.max()) - int(values.min()) < FAINT:
            target[inside] = np.median(values).astype(np.uint8)
        else:
            target[inside] = _continued(alpha[around.slices], inside, edge, values)[inside]
    return result


def transparent_hole(rgba: NDArray[np.uint8], alpha: Alpha, core: Mask, mask: Mask) -> Hole:
    """What the inpainter is to fill of an image with transparency, once its alpha is filled.

    Connected parts of the mask in which nothing will be seen are not inpainted. There, as everywhere where the image is
    transparent, the colour is that of the nearest pixel that is seen: the object's does not stay in the file, and no viewer
    that enlarges the image draws a foreign colour into an edge.

    Args:
        rgba: (H, W, 4) uint8, straight alpha.
        alpha: (H, W) uint8, filled under the mask (see `fill_alpha`).
        core: (H, W) bool, the objects.
        mask: (H, W) bool, the objects grown.
    """
    seen = np.zeros_like(mask)
    for part in find_parts(mask):
        if (alpha[part.box.slices][part.pixels] >= FAINT).any():
            seen[part.box.slices] |= part.pixels
    faint = rgba[..., 3] < FAINT
    colours, unknown = np.ascontiguousarray(rgba[..., :3]), faint | mask
    image = blank(colours, mask if unknown.all() else unknown)
    ring = seen & ~core & ~faint
    image[ring] = colours[ring]
    return Hole(image, core & seen, seen, faint)


def _continued(alpha: Alpha, inside: Mask, edge: Mask, values: Alpha) -> Alpha:
    """(h, w) alpha, valid in the part."""
    between = int(np.count_nonzero((values >= FAINT) & (values <= 255 - FAINT)))
    binary = between <= _SOFT_FRACTION * values.size
    levels = np.where(alpha >= HALF, 255, 0) if binary else alpha
    filled = _interpolated(np.where(edge, levels, 0).astype(np.float32), edge, shortest=binary)
    if not binary:
        return _levels(filled)
    if between == 0:
        return _levels(np.where(filled >= 127.5, 255.0, 0.0))
    visible = cv2.GaussianBlur(np.where(filled >= 127.5, 255.0, 0.0), (0, 0), _SOFTNESS)
    return _levels(np.asarray(visible, np.float64))


def _levels(alpha: NDArray[np.floating]) -> Alpha:
    levels: Alpha = np.rint(alpha).clip(0, 255).astype(np.uint8)
    return levels


def _interpolated(values: Maps, known: Mask, *, shortest: bool) -> Maps:
    """Values between those given where `known`: harmonic, or the ones of least total variation.

    They are computed on a grid of up to 64 pixels a side. In a larger area the result of a grid of half the size is the
    start, and is refined.

    Args:
        values: (h, w) float32; 0 where not known.
        known: (h, w) bool.
        shortest: least total variation: of given values of two levels, the outline between is as short as can be.
    """
    height, width = values.shape
    longer = max(height, width)
    if longer <= _COARSE:
        start = _harmonic(values, known)
        return _least_variation(start, known, _STEPS) if shortest else start
    half = ((width + 1) // 2, (height + 1) // 2)
    weights = np.asarray(cv2.resize(known.astype(np.float32), half, interpolation=cv2.INTER_AREA), np.float32)
    sums = np.asarray(cv2.resize(values, half, interpolation=cv2.INTER_AREA), np.float32)
    some = weights > 0
    coarse = np.divide(sums, weights, out=np.zeros_like(sums), where=some)
    start = np.asarray(cv2.resize(_interpolated(coarse, some, shortest=shortest), (width, height)), np.float32)
    np.copyto(start, values, where=known)
    if shortest and longer <= _REFINED:
        return _least_variation(start, known, _STEPS // 8)
    for _ in range(_SWEEPS):
        start = np.asarray(cv2.filter2D(start, cv2.CV_32F, _CROSS, borderType=cv2.BORDER_REPLICATE), np.float32)
        np.copyto(start, values, where=known)
    return start


def _harmonic(values: Maps, known: Mask) -> Maps:
    """The solution of the linear system in which each unknown pixel is the mean of its neighbours."""
    # Here, since most images have no transparency.
    from scipy.sparse import coo_array, csgraph
    from scipy.sparse.linalg import spsolve

    numbers = np.arange(values.size).reshape(values.shape)
    first = np.concatenate([numbers[:, :-1].ravel(), numbers[:-1].ravel()])
    second = np.concatenate([numbers[:, 1:].ravel(), numbers[1:].ravel()])
    links = coo_array((np.ones(first.size), (first, second)), shape=(values.size, values.size))
    laplacian = csgraph.laplacian(links + links.T).tocsr()
    given, free = np.flatnonzero(known), np.flatnonzero(~known)
    result = values.astype(np.float32).ravel()
    if free.size:
        result[free] = spsolve(laplacian[free][:, free].tocsc(), -(laplacian[free][:, given] @ result[given]))
    return result.reshape(values.shape)


def _least_variation(start: Maps, known: Mask, steps: int) -> Maps:
    """Towards the values of least total variation that agree with `start` where `known` (Chambolle and Pock 2011, algorithm 1)."""
    rate = 1 / np.sqrt(8.0)
    given = start[known]
    current, ahead = start.copy(), start
    down, across = np.zeros_like(start), np.zeros_like(start)
    for _ in range(steps):
        down[:-1] += rate * (ahead[1:] - ahead[:-1])
        across[:, :-1] += rate * (ahead[:, 1:] - ahead[:, :-1])
        size = np.maximum(np.sqrt(down**2 + across**2) / _SCALE, 1)
        down /= size
        across /= size
        change = down + across
        change[1:] -= down[:-1]
        change[:, 1:] -= across[:, :-1]
        new = current + rate * change
        new[known] = given
        ahead = 2 * new - current
        current = new
    return current
