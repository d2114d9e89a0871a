"""Photographs as square uint8 images of one size: one source at a time, or all of a URI in memory. Knows no Ray."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from inpaint_core.errors import ImageError
from inpaint_core.images.collections.config import ReadingConfig
from inpaint_core.images.collections.sources import (
    Failure,
    Source,
    as_sources,
    check_failures,
    list_photographs,
    read_bytes,
    utf8,
)
from inpaint_core.images.decode import CODEC_ERRORS, decode
from inpaint_core.images.formats import jpeg
from inpaint_core.images.formats.codec import check_size, open_image
from inpaint_core.images.formats.samples import to_upright
from inpaint_core.images.metadata.previews import exif_orientation
from inpaint_core.storage import S3Options

_IMAGES_PER_PART = 256
# A JPEG is decoded at 1/2, 1/4 or 1/8 of its size while that leaves so many times the pixels needed on a side: what the
# filter makes of them then differs by a quarter of a level on average from what it makes of all.
_JPEG_MARGIN = 2


@dataclass
class DecodedPhotographs:
    """The photographs of one source, in its order."""

    keys: list[str]
    pixels: NDArray[np.uint8]
    """(n, size, size, 3) uint8 RGB."""
    failures: list[Failure] = field(default_factory=list)
    enlarged: int = 0
    """How many of them have fewer pixels than that on a side."""


@dataclass
class Photographs:
    """All photographs of a URI in memory."""

    keys: list[str]
    """In UTF-8 order."""
    pixels: NDArray[np.uint8]
    """(n, size, size, 3) uint8 RGB."""
    failures: list[Failure] = field(default_factory=list)


def read_source(source: Source, size: int) -> DecodedPhotographs:
    """Read and decode the photographs of a source. One that cannot be read or decoded becomes a failure.

    Args:
        source: what to read.
        size: the side of the images, in pixels.

    Raises:
        StorageError: the store cannot be used, or a shard is no longer what was listed.
    """
    keys: list[str] = []
    failures: list[Failure] = []
    enlarged = 0
    pixels = np.empty((len(source.photographs), size, size, 3), np.uint8)
    for photograph, data in read_bytes(source):
        if isinstance(data, str):
            failures.append((photograph.key, data))
            continue
        try:
            whole = _decoded(data, size, source.max_pixels)
        except ImageError as error:
            failures.append((photograph.key, error.reason))
        else:
            pixels[len(keys)] = middle_square(whole, size)
            enlarged += min(whole.shape[:2]) < size
            keys.append(photograph.key)
    return DecodedPhotographs(keys, pixels[: len(keys)], failures, enlarged)


def load_photographs(
    uri: str, s3: S3Options, reading: ReadingConfig, size: int, *, threads: int | None = None, name: str = "data"
) -> Photographs:
    """Read all photographs of a URI into memory, in UTF-8 order of their keys.

    Args:
        uri: see `inpaint_core.images.collections.sources.list_photographs`.
        s3: how `s3://` URIs are reached.
        reading: which photographs, and how many may fail; its `stored_size` is not used.
        size: the side of the images, in pixels.
        threads: how many decode at the same time; None: one for each CPU.
        name: the config key that holds the URI, for messages.

    Raises:
        ConfigError: nothing there, a damaged shard, or more failures than `reading.max_failed`.
        StorageError: the store cannot be used.
    """
    storage, photographs = list_photographs(uri, s3, reading.extensions, reading.limit, name=name)
    rows = {photograph.key: row for row, photograph in enumerate(photographs)}
    pixels = np.empty((len(photographs), size, size, 3), np.uint8)
    usable = np.zeros(len(photographs), bool)
    failures: list[Failure] = []
    threads = threads or os.cpu_count() or 1
    per_part = min(_IMAGES_PER_PART, math.ceil(len(photographs) / threads))
    sources = as_sources(storage, photographs, reading.max_pixels, per_block=per_part)
    with ThreadPoolExecutor(threads) as pool:
        for block in pool.map(lambda source: read_source(source, size), sources):
            places = [rows[key] for key in block.keys]
            pixels[places] = block.pixels
            usable[places] = True
            failures += block.failures
    failures.sort(key=lambda failure: utf8(failure[0]))
    check_failures(len(photographs), failures, reading.max_failed, name=name)
    keys = [photograph.key for photograph, is_usable in zip(photographs, usable, strict=True) if is_usable]
    return Photographs(keys, pixels[usable] if failures else pixels, failures)


def decode_square(data: bytes, size: int, *, max_pixels: int) -> NDArray[np.uint8]:
    """The middle square of a photograph, brought to (size, size, 3) uint8 RGB; upright, transparency over white.

    Args:
        data: the whole file.
        size: the side of the square, in pixels.
        max_pixels: photographs with more pixels are refused.

    Raises:
        ImageError: stage `decode`; see `inpaint_core.images.decode.decode`.
    """
    return middle_square(_decoded(data, size, max_pixels), size)


def _decoded(data: bytes, size: int, max_pixels: int) -> NDArray[np.uint8]:
    """A photograph (H, W, 3), whole; a large JPEG at a fraction of its size, with more than `size` pixels a side."""
    pixels = _reduced_jpeg(data, size, max_pixels)
    return decode(data, max_pixels=max_pixels).pixels if pixels is None else pixels


def middle_square(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The middle square of an image (H, W, 3) uint8, brought to `size` pixels a side by Lanczos; as it is where it has them."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    if side == size:
        return pixels[int(top) : int(top) + size, int(left) : int(left) + size]
    # In fractions of a pixel, which are several pixels of a photograph that was decoded at a fraction of its size.
    box = (left, top, left + side, top + side)
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0))


def _reduced_jpeg(data: bytes, size: int, max_pixels: int) -> NDArray[np.uint8] | None:
    """A large JPEG (H, W, 3) at a fraction of its size, several times faster; None where `decode` has to be asked."""
    if not jpeg.sniff(data):
        return None
    try:
        image = open_image(data, "JPEG")
        least = _JPEG_MARGIN * size
        # MPO files (several pictures) and CMYK are left to `decode`.
        if type(image) is not JpegImageFile or image.mode not in ("RGB", "L") or min(image.size) < 2 * least:
            return None
        check_size(*image.size, max_pixels)
        image.draft(image.mode, (least, least))
        pixels = np.asarray(image.convert("RGB"))
    except CODEC_ERRORS:
        return None  # `decode` fails as well, and says why
    return np.ascontiguousarray(to_upright(pixels, exif_orientation(image.info.get("exif", b""))))
