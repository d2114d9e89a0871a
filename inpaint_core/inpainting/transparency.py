"""Alpha under a mask, and the colours that an image with transparency has there.

Alpha has no texture to continue: it is interpolated from the edge of the mask. Colours are filled by the inpainter, as
elsewhere, where some of the fill is seen.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inpaint_core.images.transparency import FAINT
from inpaint_core.inpainting.inpainter import Hole
from inpaint_core.inpainting.windows import blank, find_parts

# Pixels of the edge whose alpha is neither near 0 nor near 255, as a fraction, up to which the surroundings count as binary:
# those where the outline of a soft cut-out crosses the edge.
_SOFT_FRACTION = 0.1
_SOLVED = 96  # pixels along the longer side of a grid whose linear system is solved
_SWEEPS = 24  # of relaxation on each larger grid
_CROSS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32) / 4

Alpha = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Maps = NDArray[np.float32]


def fill_alpha(alpha: Alpha, mask: Mask) -> Alpha:
    """Alpha continued under a mask: each connected part is filled from the pixels that touch it.

    Where these are the same, but for less than 16 levels, their median is the fill. Otherwise it is the harmonic function of these values (Laplace's equation; the
    border of the image is free), which lies between them and has no extremum of its own. Where they are nearly all opaque
    or transparent, it is cut at one half, so that an outline is continued and no veil appears; the outline is as soft as
    one pixel, or hard where no value between occurs.

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
    height, width = alpha.shape
    filled = _harmonic(np.where(edge, alpha, 0).astype(np.float32), edge)
    between = np.count_nonzero((values >= FAINT) & (values <= 255 - FAINT))
    if between > _SOFT_FRACTION * values.size:
        return _levels(filled)
    if between == 0:
        return _levels(np.where(filled >= 127.5, 255.0, 0.0))
    # Distance to the outline in pixels: the value there over the slope.
    down, across = np.gradient(filled) if min(height, width) > 1 else (filled * 0, filled * 0)
    slope = np.maximum(np.hypot(down, across), 1e-3)
    return _levels(255 * ((filled - 127.5) / slope + 0.5))


def _levels(alpha: NDArray[np.floating]) -> Alpha:
    levels: Alpha = np.rint(alpha).clip(0, 255).astype(np.uint8)
    return levels


def _harmonic(values: Maps, known: Mask) -> Maps:
    """The harmonic function with given values where `known`: solved up to 96 pixels a side.

    In a larger area the solution of a grid of half the size is the start, and is relaxed (cascadic multigrid, Bornemann and
    Deuflhard 1996).

    Args:
        values: (h, w) float32; 0 where not known.
        known: (h, w) bool.
    """
    height, width = values.shape
    if max(height, width) <= _SOLVED:
        return _solved(values, known)
    half = ((width + 1) // 2, (height + 1) // 2)
    weights = np.asarray(cv2.resize(known.astype(np.float32), half, interpolation=cv2.INTER_AREA), np.float32)
    sums = np.asarray(cv2.resize(values, half, interpolation=cv2.INTER_AREA), np.float32)
    some = weights > 0
    coarse = np.divide(sums, weights, out=np.zeros_like(sums), where=some)
    current = np.asarray(cv2.resize(_harmonic(coarse, some), (width, height)), np.float32)
    np.copyto(current, values, where=known)
    for _ in range(_SWEEPS):
        current = np.asarray(cv2.filter2D(current, cv2.CV_32F, _CROSS, borderType=cv2.BORDER_REPLICATE), np.float32)
        np.copyto(current, values, where=known)
    return current


def _solved(values: Maps, known: Mask) -> Maps:
    """`_harmonic` as the solution of the linear system in which each unknown pixel is the mean of its neighbours."""
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
