"""Strips and tiles of a TIFF picture: where they lie in it, and their samples as bytes."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from inpaint_core.images.formats.codec import from_channels_last, saved
from inpaint_core.images.formats.samples import Raster, Samples, UInt8
from inpaint_core.images.formats.tiff_jpeg import can_code_jpeg, coded_jpegs
from inpaint_core.images.formats.tiff_tags import (
    BYTE_COMPRESSIONS,
    FAX_COMPRESSIONS,
    JPEG,
    NONE,
    PACKBITS,
    WHITE_IS_ZERO,
    Tag,
    number,
    pixel_extents,
)
from inpaint_core.images.metadata.directories import Ifd

_HORIZONTAL_DIFFERENCES = 2
_SEPARATE_PLANES = 2
_REVERSED_BITS = 2
_NO_LIMIT = 2**32 - 1


@dataclass(frozen=True)
class Page:
    """One picture of a file: its directory, and its samples as they are stored."""

    directory: Ifd
    raster: Raster


@dataclass(frozen=True)
class Segment:
    """A strip or tile: the rows and columns of the picture in it, and its own size, which a tile at the edge exceeds."""

    rows: slice
    columns: slice
    height: int
    width: int
    plane: int | None
    """Number of the only channel in it; None: all."""

    def samples(self, samples: Samples) -> Samples:
        """Its samples (height, width, C); beyond the picture's edges those at the edges."""
        part = samples[self.rows, self.columns]
        if self.plane is not None:
            part = part[..., self.plane : self.plane + 1]
        missing = self.height - part.shape[0], self.width - part.shape[1]
        padded: NDArray[Any] = np.pad(part, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
        return padded


def segments_of(directory: Ifd) -> list[Segment] | None:
    """The strips or tiles in the order in which the file numbers them; None where it does not have as many as it should."""
    height, width = number(directory, Tag.HEIGHT, 0), number(directory, Tag.WIDTH, 0)
    tiled = Tag.TILE_OFFSETS in directory.entries and Tag.STRIP_OFFSETS not in directory.entries
    if tiled:
        down, across = number(directory, Tag.TILE_HEIGHT, 0), number(directory, Tag.TILE_WIDTH, 0)
    else:
        down, across = min(number(directory, Tag.ROWS_PER_STRIP, _NO_LIMIT), height), width
    if down <= 0 or across <= 0:
        return None
    separate = number(directory, Tag.PLANES, 1) == _SEPARATE_PLANES
    planes = list(range(number(directory, Tag.CHANNELS, 1))) if separate else [None]
    count = len(planes) * -(-height // down) * -(-width // across)
    if count != len(pixel_extents(directory)):
        return None
    return [
        Segment(
            slice(top, min(top + down, height)),
            slice(left, min(left + across, width)),
            down if tiled else min(down, height - top),
            across,
            plane,
        )
        for plane in planes
        for top in range(0, height, down)
        for left in range(0, width, across)
    ]


def can_code(directory: Ifd) -> bool:
    """Whether `coded_segments` can put new segments beside the old ones of a picture."""
    extents = sorted((start, start + length) for start, length in pixel_extents(directory) if length)
    apart = all(end <= start for (_, end), (start, _) in pairwise(extents))
    if not extents or not apart or segments_of(directory) is None:
        return False
    compression = number(directory, Tag.COMPRESSION, NONE)
    if compression in FAX_COMPRESSIONS or number(directory, Tag.FILL_ORDER, 1) == _REVERSED_BITS:
        return False
    return compression != JPEG or can_code_jpeg(directory)


def coded_segments(page: Page, samples: Samples, mask: NDArray[np.bool_]) -> dict[int, bytes]:
    """The segments with other content, by number: those that the mask touches, or all where they depend on each other.

    Args:
        page: the picture, of which `can_code` is true.
        samples: (H, W, C), its new samples.
        mask: (H, W) bool, True where they differ from the old ones.
    """
    segments = segments_of(page.directory) or []
    touched = {index: segment for index, segment in enumerate(segments) if mask[segment.rows, segment.columns].any()}
    parts = {index: segment.samples(samples) for index, segment in touched.items()}
    if number(page.directory, Tag.COMPRESSION, NONE) == JPEG:
        return coded_jpegs(page.directory, page.raster.mode, parts)
    return {index: _compressed(page, part) for index, part in parts.items()}


def _compressed(page: Page, samples: Samples) -> bytes:
    compression = number(page.directory, Tag.COMPRESSION, NONE)
    rows = packed_rows(page, samples)
    if compression in BYTE_COMPRESSIONS:
        # libtiff as a compressor of plain bytes: a grey image as wide as a row is long, in one strip.
        image = from_channels_last(rows[..., None], "L")
        data = saved(image, "TIFF", compression=BYTE_COMPRESSIONS[compression], strip_size=max(rows.size, 1))
        ((start, length),) = pixel_extents(Ifd.at_header(data))
        return data[start : start + length]
    return rows.tobytes() if compression == NONE else zlib.compress(rows.tobytes(), 6)


def packed_rows(page: Page, samples: Samples) -> UInt8:
    """(H, row bytes) of samples as they are compressed."""
    directory = page.directory
    if number(directory, Tag.PHOTOMETRIC, 0) == WHITE_IS_ZERO:
        samples = np.iinfo(samples.dtype).max - samples
    if page.raster.mode == "1":
        return np.packbits(samples[..., 0] > 127, axis=1)
    can_predict = number(directory, Tag.COMPRESSION, NONE) not in (NONE, PACKBITS)
    if can_predict and number(directory, Tag.PREDICTOR, 1) == _HORIZONTAL_DIFFERENCES:
        samples = np.concatenate([samples[:, :1], samples[:, 1:] - samples[:, :-1]], axis=1)
    order: Literal["<", ">"] = "<" if directory.order == "<" else ">"
    in_file_order = np.ascontiguousarray(samples.astype(samples.dtype.newbyteorder(order)))
    return in_file_order.view(np.uint8).reshape(len(samples), -1)
