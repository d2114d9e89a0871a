"""Samples as a file stores them, how they look on a screen, and how a colour is stored in their place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from inpaint_core.images.formats import depth
from inpaint_core.images.formats.alpha import HALF, nearest_by_looks, straight
from inpaint_core.images.formats.cmyk import conversion
from inpaint_core.images.formats.inks import paint_inks

UInt8 = NDArray[np.uint8]
Samples = NDArray[np.uint8] | NDArray[np.uint16]
Floats = NDArray[np.float64]

Mode = Literal["1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "I;16", "LA;16", "RGB;16", "RGBA;16"]
_GREY = ("1", "L", "LA", "I;16", "LA;16")
_WITH_ALPHA = ("LA", "RGBA", "LA;16", "RGBA;16")
_WHITE = 255.0
# Pixels whose colours are converted at a time: the arrays in between take about 50 bytes each.
_STRIP_PIXELS = 2**18


@dataclass(frozen=True)
class Raster:
    """The samples of one image in stored orientation.

    `mode` is named as in Pillow; `RGBX` has a fourth channel without meaning, and the modes with `;16` that Pillow
    lacks hold 16 bits a sample.
    """

    samples: Samples
    """(H, W, C) uint8, or uint16 for the modes with `;16`; 0 or 255 for mode `1`; indices for mode `P`."""
    mode: Mode
    palette: UInt8 | None = None
    """(N, 4) RGBA of mode `P`."""
    key: tuple[int, ...] | None = None
    """The one colour that is transparent (PNG's tRNS in modes without alpha), one number per channel."""
    premultiplied: bool = False
    """The colours are stored times alpha (TIFF's associated alpha)."""
    step: int = 1
    """All samples are multiples of it: more than 1 in PNG's grey of fewer than 8 bits, scaled to 0..255."""
    profile: bytes = b""
    """The ICC profile of mode `CMYK`, by which inks are colours; of other modes, whose samples are colours, none."""
    range: depth.Range = depth.WHOLE
    """The samples of 16 bits that are shown as black and as white."""

    def __post_init__(self) -> None:
        self.samples.flags.writeable = False


def show(raster: Raster) -> UInt8:
    """Return the colours as a viewer shows them, in stored orientation.

    Returns:
        (H, W, 3) uint8 RGB; (H, W, 4) RGBA, straight alpha, where some pixel is not opaque.
    """
    if raster.mode == "RGB" and raster.key is None and raster.samples.dtype == np.uint8:
        return np.ascontiguousarray(raster.samples, dtype=np.uint8)
    if raster.mode == "CMYK":
        shown = np.empty((*raster.samples.shape[:2], 3), np.uint8)
        to_rgb = conversion(raster.profile).to_rgb
        for rows in _strips(raster):
            shown[rows] = to_rgb(raster.samples[rows].astype(np.uint8, copy=False))
        return shown
    channels = 4 if raster.mode in (*_WITH_ALPHA, "P") or raster.key is not None else 3
    shown = np.empty((*raster.samples.shape[:2], channels), np.uint8)
    for rows in _strips(raster):
        shown[rows] = _shown(raster, raster.samples[rows])
    return np.ascontiguousarray(shown[..., :3]) if channels == 4 and shown[..., 3].min(initial=255) == 255 else shown


def _strips(raster: Raster) -> Iterator[slice]:
    """The rows of the image, a few at a time."""
    height, width = raster.samples.shape[:2]
    step = max(1, _STRIP_PIXELS // max(1, width))
    for top in range(0, height, step):
        yield slice(top, min(top + step, height))


def _shown(raster: Raster, stored: Samples) -> UInt8:
    """`show` for some of the raster's rows, with alpha wherever the mode or a transparent colour may give it."""
    samples = stored
    if raster.mode == "P":
        return _padded(raster)[samples[..., 0]]
    samples = _to_8_bits(raster, samples)
    colour = np.repeat(samples[..., :1], 3, axis=-1) if raster.mode in _GREY else samples[..., :3]
    if raster.key is not None:
        visible = (stored != np.array(raster.key)).any(-1, keepdims=True)
        return np.concatenate([colour, np.where(visible, 255, 0).astype(np.uint8)], axis=-1)
    if raster.mode not in _WITH_ALPHA:
        return colour
    alpha = samples[..., -1:]
    if raster.premultiplied:
        colour = straight(colour, alpha)
    return np.concatenate([colour, alpha], axis=-1)


def paint(raster: Raster, fill: UInt8, mask: NDArray[np.bool_]) -> Samples:
    """Return the samples with those under the mask replaced, so that `show` gives the fill there where it can.

    A fill without alpha keeps that of the image: what was transparent stays transparent, and below partial transparency
    the colour is chosen that gives the fill over white, or the nearest one. CMYK gets the inks of its surroundings
    (`inks.paint_inks`), samples of 16 bits get their depth (`depth.refine`).

    Args:
        raster: what is stored.
        fill: (H, W, 3) uint8 RGB in stored orientation, or (H, W, 4) RGBA, straight alpha.
        mask: (H, W) bool in stored orientation, True = replace.

    Returns:
        A copy of `raster.samples`, changed only where the mask is True.
    """
    if raster.mode == "CMYK":
        return paint_inks(raster.samples.astype(np.uint8, copy=False), fill, mask, conversion(raster.profile))
    painted = raster.samples.copy()
    for rows in _strips(raster):
        here = mask[rows]
        if here.any():
            painted[rows][here] = _stored(raster, fill[rows][here], raster.samples[rows][here])
    if painted.dtype == np.uint16:
        return _refined(raster, painted.astype(np.uint16, copy=False), mask)
    return painted


def with_own_range(samples: NDArray[np.uint16], mode: Mode, key: tuple[int, ...] | None = None) -> Raster:
    """A raster of 16 bits that is shown by the range of its colours."""
    return Raster(samples, mode, key=key, range=depth.own_range(samples, samples.shape[2] - (mode in _WITH_ALPHA)))


def _refined(raster: Raster, painted: NDArray[np.uint16], mask: NDArray[np.bool_]) -> Samples:
    """The painted samples with the depth of their surroundings; neither to nor from the transparent colour."""
    channels = painted.shape[2] - (raster.mode in _WITH_ALPHA)
    if raster.key is None:
        depth.refine(painted, mask, raster.range, channels)
        return painted
    key, coarse = np.array(raster.key), painted.copy()
    depth.refine(painted, mask, raster.range, channels)
    kept = mask & ((coarse == key).all(-1) | (painted == key).all(-1))
    painted[kept] = coarse[kept]
    return painted


def to_upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn a stored (H, W, ...) array as its EXIF orientation (1 to 8) says it is to be displayed."""
    match orientation:
        case 2:
            return array[:, ::-1]
        case 3:
            return array[::-1, ::-1]
        case 4:
            return array[::-1]
        case 5:
            return array.swapaxes(0, 1)
        case 6:
            return np.rot90(array, -1)
        case 7:
            return array.swapaxes(0, 1)[::-1, ::-1]
        case 8:
            return np.rot90(array, 1)
        case _:
            return array


def to_stored(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Undo `to_upright`."""
    return to_upright(array, {6: 8, 8: 6}.get(orientation, orientation))


def luma(rgb: NDArray[Any]) -> UInt8:
    """ITU-R BT.601 luma of (..., 3) RGB in 0..255, rounded: what Pillow's `convert("L")` gives."""
    weighted = rgb.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
    rounded: UInt8 = ((weighted + np.uint32(0x8000)) >> np.uint32(16)).astype(np.uint8)
    return rounded


def _stored(raster: Raster, fill: UInt8, old: Samples) -> Samples:
    """(n, 3) colours, or (n, 4) with alpha, as (n, C) samples that take the place of the samples `old`."""
    if fill.shape[1] == 4:
        return _stored_with_alpha(raster, fill, old)
    if raster.mode == "P":
        return _nearest_entries(raster, fill, old[:, 0])[:, None]
    if raster.mode in ("RGB", "RGBX") and raster.key is None and old.dtype == np.uint8:
        return np.concatenate([fill, old[:, 3:].astype(np.uint8, copy=False)], axis=1)
    colour: UInt8 = luma(fill)[:, None] if raster.mode in _GREY else fill
    if raster.mode == "1":
        colour = np.where(colour >= 128, 255, 0).astype(np.uint8)
    new = old.copy()
    top = np.iinfo(old.dtype).max
    channels = colour.shape[1]
    alpha = old[:, channels:] / top if raster.mode in _WITH_ALPHA else np.ones((len(old), 1))
    behind_white = _under_alpha(colour / _WHITE, alpha, raster.premultiplied)
    shown = raster.range if old.dtype == np.uint16 else (0, top)
    new[:, :channels] = np.rint(depth.from_unit(behind_white, shown)).astype(old.dtype)
    if raster.step > 1:
        # To the nearest level that the file can hold: only then is it seen whether that is the transparent one.
        new[:] = np.rint(new / raster.step) * raster.step
    if raster.key is not None:
        was_transparent = (old == np.array(raster.key)).all(1)
        new = _without_key(raster, new)
        new[was_transparent] = old[was_transparent]
    return new


def _without_key(raster: Raster, new: Samples) -> Samples:
    """Samples (n, C) in which none has the transparent colour, but one beside it."""
    result = new.copy()
    # The lowest bit of the level, which is multiplied by the step.
    result[(new == np.array(raster.key)).all(1), -1] ^= raster.step
    return result


def _stored_with_alpha(raster: Raster, fill: UInt8, old: Samples) -> Samples:
    """`_stored` for a fill (n, 4) with alpha."""
    if raster.mode == "P":
        assert raster.palette is not None
        return nearest_by_looks(raster.palette, fill)[:, None]
    visible, alpha = fill[:, :3], fill[:, 3:]
    if raster.mode not in _WITH_ALPHA:
        new = _stored(replace(raster, key=None), visible, old)
        if raster.key is not None:
            new = _without_key(raster, new)
            new[alpha[:, 0] < HALF] = raster.key
        return new
    colour: UInt8 = luma(visible)[:, None] if raster.mode in _GREY else visible
    opacity = alpha / _WHITE
    top = np.iinfo(old.dtype).max
    shown = raster.range if old.dtype == np.uint16 else (0, top)
    colours = depth.from_unit(colour / _WHITE * (opacity if raster.premultiplied else 1.0), shown)
    new = old.copy()
    new[:] = np.rint(np.concatenate([colours, opacity * top], axis=1))
    return new


def _under_alpha(colour: Floats, alpha: Floats, premultiplied: bool) -> Floats:
    """The stored colour in 0..1 that is seen as `colour` when it lies with `alpha` over white."""
    if premultiplied:
        return np.clip(colour - (1.0 - alpha), 0.0, alpha)
    # What nobody sees is replaced as well: the object must not stay in the file below a transparent alpha.
    opaque_enough = np.where(alpha > 0, alpha, 1.0)
    return np.clip(np.where(alpha > 0, (colour - (1.0 - alpha)) / opaque_enough, colour), 0.0, 1.0)


def _nearest_entries(raster: Raster, fill: UInt8, old: Samples) -> UInt8:
    """Indices of the palette entries nearest to the fill among those with the alpha of the pixel replaced.

    Where only one entry has that alpha, as in palettes with a ramp of it, it is the pixel's own and would show the
    object on: the entry is taken that looks nearest over white among all that are not fully transparent.
    """
    from scipy.spatial import KDTree  # half a second, in every process, and pictures with palettes are few

    palette = raster.palette
    assert palette is not None
    visible = np.flatnonzero(palette[:, 3] > 0)
    opacity = palette[visible, 3:] / _WHITE
    seen = palette[visible, :3] / _WHITE * opacity + (1.0 - opacity)
    alphas = _padded(raster)[old, 3]
    indices = old.astype(np.uint8)
    for alpha in np.unique(alphas):
        entries = np.flatnonzero(palette[:, 3] == alpha)
        if alpha == 0 or not len(visible):
            continue
        here = alphas == alpha
        if len(entries) < 2:
            _, nearest = KDTree(seen).query(fill[here] / _WHITE)
            indices[here] = visible[nearest]
            continue
        wanted = _under_alpha(fill[here] / _WHITE, np.array(alpha / 255.0), premultiplied=False)
        _, nearest = KDTree(palette[entries, :3] / _WHITE).query(wanted)
        indices[here] = entries[nearest]
    return indices


def _padded(raster: Raster) -> UInt8:
    """The palette with 256 entries: an index beyond its end is shown black, as viewers do."""
    assert raster.palette is not None
    padded = np.zeros((256, 4), np.uint8)
    padded[:, 3] = 255
    padded[: len(raster.palette)] = raster.palette
    return padded


def _to_8_bits(raster: Raster, samples: Samples) -> UInt8:
    if samples.dtype == np.uint8:
        return samples.astype(np.uint8, copy=False)
    stored = samples.astype(np.uint16, copy=False)
    shown = depth.to_8_bits(stored, raster.range)
    if raster.mode in _WITH_ALPHA:
        shown[..., -1] = depth.to_8_bits(stored[..., -1])
    return shown
