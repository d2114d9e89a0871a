"""JPEG decoded and coded again as a whole: where DCT blocks cannot be replaced one by one.

A JPEG decoded to RGB and coded again changes everywhere: chroma is interpolated and averaged again, colours are
rounded twice. Here the luma and chroma planes are coded from the values that the decoder had before interpolation
and before RGB, with the tables of the source: most blocks that the mask does not touch get their old coefficients again,
except where decoded samples were clipped at 0 or 255. Sampling other than 4:2:0 and 4:2:2 becomes 4:4:4.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, JpegImagePlugin

from inpaint_core.images.formats.codec import channels_last, from_channels_last, open_image, saved
from inpaint_core.images.formats.samples import Mode, Samples, UInt8

# (horizontal, vertical) factor of luma over chroma -> Pillow's number for it; others are written as 4:4:4.
_SUBSAMPLINGS = {(1, 1): 0, (2, 1): 1, (2, 2): 2}


def coded_again(
    stream: bytes,
    samples: Samples,
    mode: Mode,
    mask: NDArray[np.bool_],
    *,
    progressive: bool,
    coded_as_rgb: bool,
    coded_as_ycck: bool,
) -> bytes:
    """A JPEG file of other samples, coded as the source as far as Pillow can.

    Args:
        stream: the source, with no more than what decides over its samples.
        samples: (H, W, C) uint8 of `mode`, the source's with the fill where the mask is True.
        mode: `L`, `RGB` or `CMYK`.
        mask: (H, W) bool.
        progressive, coded_as_rgb, coded_as_ycck: how the source is coded.

    Raises:
        OSError, ValueError and others that `inpaint_core.images.encode` turns into ImageError.
    """
    source = open_image(stream, "JPEG")
    assert isinstance(source, JpegImagePlugin.JpegImageFile)
    tables = [source.quantization[table] for _, _, _, table in source.layer]
    if coded_as_ycck:
        # Pillow writes the four inks themselves: chroma's coarse tables would be wrong for magenta and yellow.
        tables = tables[:1]
    while len(tables) > 1 and tables[-1] == tables[-2]:
        tables.pop()
    subsampling = _subsampling(source)
    if mode == "RGB" and not coded_as_rgb:
        image = from_channels_last(_painted_planes(stream, subsampling, samples, mask), "YCbCr")
    else:
        image = from_channels_last(samples, mode)
    options = {
        "qtables": tables,
        "subsampling": subsampling if mode == "RGB" else -1,
        "progressive": progressive,
        "keep_rgb": coded_as_rgb,
    }
    try:
        return saved(image, "JPEG", **options)
    except OSError:
        # Pillow codes a progressive file in one buffer of 2 bytes a pixel, which noise and fine tables exceed;
        # the only way to a larger one is this setting, which is no limit but a least size.
        ImageFile.MAXBLOCK = max(ImageFile.MAXBLOCK, 5 * mask.size)
        return saved(image, "JPEG", **options)


def _factors(source: JpegImagePlugin.JpegImageFile) -> tuple[int, int] | None:
    """How many luma samples lie along one chroma sample, (across, down); None where that is not the same for both."""
    if source.layers != 3:
        return None
    (_, across, down, _), (_, *blue, _), (_, *red, _) = source.layer
    if blue != red or across % blue[0] or down % blue[1]:
        return None
    return across // blue[0], down // blue[1]


def _subsampling(source: JpegImagePlugin.JpegImageFile) -> int:
    factors = _factors(source)
    return _SUBSAMPLINGS.get(factors, 0) if factors else 0


def _painted_planes(stream: bytes, subsampling: int, samples: Samples, mask: NDArray[np.bool_]) -> UInt8:
    """(H, W, 3) YCbCr: the source's own, chroma repeated instead of interpolated, the fill under the mask.

    The encoder averages chroma over 2 or 4 pixels: of repeated values it gets the stored ones back.
    """
    planes = channels_last(_opened_as_ycc(stream))
    height, width = mask.shape
    chroma: UInt8 | None = None
    if subsampling == 1:
        chroma = _uninterpolated(planes[..., 1:])
        chroma = np.repeat(chroma, 2, axis=1)
    elif subsampling == 2 and min(height, width) >= 2:
        # At half size libjpeg decodes chroma blocks in full: the stored samples without interpolation.
        half = channels_last(_opened_as_ycc(stream, (width // 2, height // 2)))
        chroma = np.repeat(np.repeat(half[..., 1:], 2, axis=0), 2, axis=1)
    if chroma is not None:
        planes[..., 1:] = chroma[:height, :width]
    fill = channels_last(from_channels_last(samples, "RGB").convert("YCbCr"))
    planes[mask] = fill[mask]
    return planes


def _opened_as_ycc(stream: bytes, size: tuple[int, int] | None = None) -> Image.Image:
    image = open_image(stream, "JPEG")
    image.draft("YCbCr", size)
    return image


def _uninterpolated(chroma: UInt8) -> UInt8:
    """Chroma (H, W, C) as stored, (H, ceil(W / 2), C), from libjpeg's interpolation of 4:2:2.

    It makes of two stored neighbours p, q the two samples between their centres, (3p + q + 2) // 4 and
    (p + 3q + 1) // 4 (libjpeg, h2v1_fancy_upsample). Solving both for p and q with the mean rounding error (1/8)
    gives every stored sample once from each side; the first, and with an even width the last, are stored as such.
    """
    width = chroma.shape[1]
    if width <= 4:  # Too narrow for libjpeg to interpolate.
        return chroma[:, ::2]
    samples = chroma.astype(np.float64)
    left, right = samples[:, 1 : width - 1 : 2] - 0.125, samples[:, 2:width:2] + 0.125
    from_right, from_left = (3 * left[:, : right.shape[1]] - right) / 2, (3 * right - left[:, : right.shape[1]]) / 2
    stored = np.empty((chroma.shape[0], (width + 1) // 2, chroma.shape[2]))
    stored[:, 1:] = from_left
    stored[:, 1:-1] = (from_left[:, :-1] + from_right[:, 1:]) / 2
    stored[:, 0] = samples[:, 0]
    if width % 2 == 0:
        stored[:, -1] = samples[:, -1]
    return np.clip(np.rint(stored), 0, 255).astype(np.uint8)
