"""Bytes to pixels: the file taken apart, and the image as it is displayed.

An image is decoded by its content, whatever its name. `Decoded` keeps the file taken apart, so that
`inpaint_core.images.encode.encode` can put it together again with other pixels and nothing else changed.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from inpaint_core.images.formats.avif import AvifFile, read_avif
from inpaint_core.images.formats.bmp import BmpFile, read_bmp
from inpaint_core.images.formats.codec import refused
from inpaint_core.images.formats.gif import GifFile, read_gif, show_gif
from inpaint_core.images.formats.jpeg import JpegFile, read_jpeg
from inpaint_core.images.formats.png import SIGNATURE as PNG_SIGNATURE
from inpaint_core.images.formats.png import PngFile, read_png
from inpaint_core.images.formats.samples import show, to_upright
from inpaint_core.images.formats.tiff import TiffFile, read_tiff
from inpaint_core.images.formats.webp import WebpFile, read_webp

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")
SourceFile = JpegFile | PngFile | WebpFile | TiffFile | BmpFile | GifFile | AvifFile

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
_AVIF_BRANDS = (b"avif", b"avis", b"mif1", b"msf1")
_OTHER_KINDS = (
    (re.compile(rb"\s*(<!doctype html|<html|<head)", re.IGNORECASE), "an HTML page, often an error page"),
    (re.compile(rb"\s*(<\?xml.*?)?<svg", re.IGNORECASE | re.DOTALL), "an SVG drawing"),
    (re.compile(rb"%PDF"), "a PDF document"),
    (re.compile(rb"....ftyp(heic|heix|hevc|heim|heis|mif1|msf1)", re.DOTALL), "an HEIC image"),
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
    format: str
    """One of `FORMATS`."""
    mode: str
    """Of the stored samples, named as in Pillow; `LA;16`, `RGB;16`, `RGBA;16` for 16 bits, which Pillow lacks."""
    orientation: int
    """EXIF orientation, 1 to 8."""
    file: SourceFile
    """The file taken apart."""


def decode(data: bytes, *, max_pixels: int) -> Decoded:
    """Decode a still image.

    Args:
        data: the whole file.
        max_pixels: images with more pixels are refused from their header, before anything is decoded.

    Raises:
        ImageError: stage `decode`; the file is damaged, cut off, no image, too large, of a kind that cannot be
            written again as it is, or holds several frames or pages.
    """
    format_ = _format(data)
    try:
        file = _read(format_, data, max_pixels)
        stored = show_gif(file) if isinstance(file, GifFile) else show(file.raster)
        orientation = 1 if isinstance(file, GifFile | BmpFile) else file.orientation
        pixels = np.ascontiguousarray(to_upright(stored, orientation))
    except CODEC_ERRORS as error:
        raise refused(f"The {format_} file is damaged: {_told(error)}.") from error
    pixels.flags.writeable = False
    return Decoded(pixels, format_, file.raster.mode, orientation, file)


def _told(error: BaseException) -> str:
    """What went wrong in a parser or codec, as the end of a sentence."""
    match error:
        case UnidentifiedImageError():
            return "its header is unreadable"
        case struct.error() | LookupError():
            return "it is cut off, or a length in it is wrong"
        case _:
            return str(error).strip().rstrip(".") or type(error).__name__


def _read(format_: str, data: bytes, max_pixels: int) -> SourceFile:
    match format_:
        case "JPEG":
            return read_jpeg(data, max_pixels)
        case "PNG":
            return read_png(data, max_pixels)
        case "WEBP":
            return read_webp(data, max_pixels)
        case "TIFF":
            return read_tiff(data, max_pixels)
        case "BMP":
            return read_bmp(data, max_pixels)
        case "GIF":
            return read_gif(data, max_pixels)
        case _:
            return read_avif(data, max_pixels)


def _format(data: bytes) -> str:
    """The name of the format in `FORMATS`, from the first bytes."""
    if not data:
        raise refused("The file is empty.")
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(PNG_SIGNATURE):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:4] in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"):
        return "TIFF"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data[4:8] == b"ftyp" and (data[8:12] in _AVIF_BRANDS[:2] or _is_avif_of_other_brand(data)):
        return "AVIF"
    if data[:2] == b"BM" and len(data) >= 26 and data[6:10] == bytes(4):
        return "BMP"
    kind = next((name for pattern, name in _OTHER_KINDS if pattern.match(data[:4096])), "a file of an unknown kind")
    raise refused(f"The file is not a supported image but {kind}; supported are {', '.join(FORMATS)}.")


def _is_avif_of_other_brand(data: bytes) -> bool:
    brands = data[8 : int.from_bytes(data[:4], "big")]
    return data[8:12] in _AVIF_BRANDS and b"avif" in [brands[at : at + 4] for at in range(0, len(brands), 4)]
