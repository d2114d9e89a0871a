"""Bytes to pixels: the file taken apart, and the image as it is displayed.

An image is decoded by its content, whatever its name. `Decoded` keeps the file taken apart, so that
`inpaint_core.images.encode.encode` can put it together again with other pixels and nothing else changed.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from inpaint_core.images.formats.all import FORMATS
from inpaint_core.images.formats.codec import open_image, refused
from inpaint_core.images.formats.format import SourceFile
from inpaint_core.images.formats.samples import show, to_upright
from inpaint_core.images.transparency import WHITE, over

# What the parsers here, Pillow and OpenCV raise on damaged data (found by fuzzing, and by reading Pillow's plugins).
CODEC_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    struct.error,
    zlib.error,
    EOFError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    RuntimeError,
    MemoryError,
    Image.DecompressionBombError,
    cv2.error,
)
_OTHER_KINDS = (
    (re.compile(rb"\s*(<!doctype html|<html|<head)", re.IGNORECASE), "an HTML page, often an error page"),
    (re.compile(rb"\s*(<\?xml.*?)?<svg", re.IGNORECASE | re.DOTALL), "an SVG drawing"),
    (re.compile(rb"%PDF"), "a PDF document"),
    (
        re.compile(rb"....ftyp(mif1|msf1|mif2|jpeg|vvic)", re.DOTALL),
        "a HEIF image that is coded with neither HEVC nor AV1",
    ),
    (re.compile(rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51"), "a JPEG 2000 image"),
    (re.compile(rb"\x00\x00\x00\x0cJXL |\xff\x0a"), "a JPEG XL image"),
    (re.compile(rb"8BPS"), "a Photoshop document"),
    (re.compile(rb"....ftyp|\x1aE\xdf\xa3", re.DOTALL), "a video"),
    (re.compile(rb"PK\x03\x04|\x1f\x8b"), "an archive"),
    (re.compile(rb"[\t\n\r\x20-\x7e]+\Z"), "text"),
)


@dataclass(frozen=True)
class Decoded:
    """One image, and what is needed to write it again."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) RGB as displayed: upright, transparency over white. Read-only."""
    rgba: NDArray[np.uint8] | None
    """(H, W, 4) as displayed, straight alpha; None where every pixel is opaque. Read-only."""
    format: str
    """Name of one of `inpaint_core.images.formats.all.FORMATS`."""
    mode: str
    """Of the stored samples, named as in Pillow; `LA;16`, `RGB;16`, `RGBA;16` for 16 bits, which Pillow lacks."""
    orientation: int
    """EXIF orientation, 1 to 8."""
    file: SourceFile
    """The file taken apart."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks for the image's record: what of the file is not written again."""
        return getattr(self.file, "notes", ())


def decode(data: bytes, *, max_pixels: int, shown_as: Decoded | None = None) -> Decoded:
    """Decode a still image.

    Args:
        data: the whole file.
        max_pixels: images with more pixels are refused from their header, before anything is decoded.
        shown_as: the source of which the file is a cleaned copy: samples of 16 bits are shown by the range of its
            samples, which the removed object may have extended.

    Raises:
        ImageError: stage `decode`; the file is damaged, cut off, no image, too large, of a kind that cannot be
            written again as it is, or holds several frames or pages.
    """
    name = _supported_format_of(data)
    try:
        file = FORMATS[name].read(data, max_pixels)
        if shown_as is None or file.raster.range == shown_as.file.raster.range:
            stored = file.pixels()
        else:
            stored = show(replace(file.raster, range=shown_as.file.raster.range))
        shown = np.ascontiguousarray(to_upright(stored, file.orientation))
    except CODEC_ERRORS as error:
        raise refused(f"The {name} file is damaged: {_told(error)}.") from error
    rgba = shown if shown.shape[2] == 4 else None
    pixels = shown if rgba is None else over(rgba, WHITE)
    shown.flags.writeable = pixels.flags.writeable = False
    return Decoded(pixels, rgba, name, file.raster.mode, file.orientation, file)


def pixel_count(data: bytes) -> int:
    """Number of pixels of an image file by its header, without decoding it: an estimate where the header says nothing.

    Args:
        data: the whole file.
    """
    name = _format_of(data)
    if name is None:
        return 0
    try:
        if (by_header := FORMATS[name].pixel_count) is not None:
            return by_header(data)
        with open_image(data, name) as image:
            return image.width * image.height
    except CODEC_ERRORS:  # damaged; or a TIFF of samples that Pillow does not know
        return len(data) // 3


def _told(error: BaseException) -> str:
    """What went wrong in a parser or codec, as the end of a sentence."""
    match error:
        case UnidentifiedImageError():
            return "its header is unreadable"
        case struct.error() | LookupError():
            return "it is cut off, or a length in it is wrong"
        case _:
            return str(error).strip().rstrip(".") or type(error).__name__


def _format_of(data: bytes) -> str | None:
    """Name of the format that takes the file, from its first bytes."""
    return next((name for name, format_ in FORMATS.items() if format_.sniff(data)), None)


def _supported_format_of(data: bytes) -> str:
    if not data:
        raise refused("The file is empty.")
    name = _format_of(data)
    if name is None:
        kind = next((kind for pattern, kind in _OTHER_KINDS if pattern.match(data[:4096])), "a file of an unknown kind")
        raise refused(f"The file is not a supported image but {kind}; supported are {', '.join(FORMATS)}.")
    return name
