"""A TIFF file taken apart, and its writing half.

New strips lie where the old ones were as far as they fit, the rest at the end.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inpaint_core.images.formats.codec import from_channels_last, saved
from inpaint_core.images.formats.samples import Raster, Samples, UInt8, paint, show
from inpaint_core.images.formats.tiff_tags import (
    BYTE_COMPRESSIONS,
    FAX_COMPRESSIONS,
    JPEG,
    NONE,
    PACKBITS,
    WHITE_IS_ZERO,
    Tag,
    append_directory,
    number,
    packed_directory,
    pixel_extents,
)
from inpaint_core.images.metadata.directories import Entry, Ifd

_STRIP_BYTES = 2**16
_SHORT, _LONG, _UNDEFINED = 3, 4, 7
_HORIZONTAL_DIFFERENCES = 2
# How the strips are coded: of these the source's values hold no longer.
_CODING_TAGS = (
    Tag.FILL_ORDER,
    Tag.T4_OPTIONS,
    Tag.T6_OPTIONS,
    Tag.TILE_WIDTH,
    Tag.TILE_HEIGHT,
    Tag.TILE_OFFSETS,
    Tag.TILE_LENGTHS,
    Tag.JPEG_TABLES,
    Tag.YCC_COEFFICIENTS,
    Tag.YCC_SUBSAMPLING,
    Tag.YCC_POSITIONING,
    Tag.REFERENCE_BLACK_WHITE,
)
_FROM_LIBTIFF = (Tag.PHOTOMETRIC, Tag.FILL_ORDER, Tag.T4_OPTIONS, Tag.T6_OPTIONS, Tag.YCC_SUBSAMPLING)


@dataclass(frozen=True)
class TiffFile:
    """A TIFF file taken apart."""

    raster: Raster
    orientation: int
    directory: Ifd
    body: bytes
    """The file with pixel data, previews and what else shows the picture overwritten with zeros."""
    entries: dict[int, Entry]
    """The directory's entries that are written again."""
    notes: tuple[str, ...] = ()

    def pixels(self) -> UInt8:
        """See `SourceFile.pixels`."""
        return show(self.raster)

    def write(self, fill: UInt8, mask: NDArray[np.bool_], quality: int | None) -> bytes:
        """See `SourceFile.write`."""
        samples = paint(self.raster, fill, mask)
        directory = self.directory
        strips, numbers, tables = _coded(self, samples, 92 if quality is None else quality)
        body = bytearray(self.body)
        numbers[Tag.STRIP_OFFSETS] = _placed(body, strips, pixel_extents(directory))
        numbers[Tag.STRIP_LENGTHS] = tuple(map(len, strips))
        numbers[Tag.PLANES] = (1,)
        entries = {tag: entry for tag, entry in self.entries.items() if tag not in _CODING_TAGS}
        for tag, values in numbers.items():
            type_, code = (_SHORT, "H") if max(values) < 2**16 and tag != Tag.STRIP_OFFSETS else (_LONG, "L")
            packed = struct.pack(f"{directory.order}{len(values)}{code}", *values)
            entries[tag] = Entry(type_, len(values), _value(body, directory, tag, packed))
        if tables:
            entries[Tag.JPEG_TABLES] = Entry(_UNDEFINED, len(tables), _value(body, directory, Tag.JPEG_TABLES, tables))
        _write_directory(body, directory, entries)
        return bytes(body)


def _coded(file: TiffFile, samples: Samples, quality: int) -> tuple[list[bytes], dict[int, tuple[int, ...]], bytes]:
    """The strips, the tags that say how they are coded, and JPEG tables that they share."""
    compression = number(file.directory, Tag.COMPRESSION, NONE)
    if compression == JPEG:
        return _coded_by_libtiff(samples, file.raster.mode, compression="jpeg", quality=quality)
    if compression in FAX_COMPRESSIONS:
        return _coded_by_libtiff(samples, "1", compression=FAX_COMPRESSIONS[compression])
    rows = _rows(file, samples, compression)
    if compression in BYTE_COMPRESSIONS:
        # libtiff as a compressor of plain bytes: a grey image as wide as a row is long.
        name = BYTE_COMPRESSIONS[compression]
        strips, numbers, _ = _coded_by_libtiff(rows[..., None], "L", compression=name)
        return strips, {Tag.ROWS_PER_STRIP: numbers[Tag.ROWS_PER_STRIP]}, b""
    count = max(1, _STRIP_BYTES // max(1, rows.shape[1]))
    strips = [rows[top : top + count].tobytes() for top in range(0, len(rows), count)]
    if compression != NONE:
        strips = [zlib.compress(strip, 6) for strip in strips]
    return strips, {Tag.ROWS_PER_STRIP: (count,)}, b""


def _coded_by_libtiff(
    samples: Samples, mode: str, **options: object
) -> tuple[list[bytes], dict[int, tuple[int, ...]], bytes]:
    image = from_channels_last(samples, "L" if mode == "1" else mode)
    data = saved(image.convert("1", dither=Image.Dither.NONE) if mode == "1" else image, "TIFF", **options)
    directory = Ifd.at_header(data)
    strips = [data[start : start + length] for start, length in pixel_extents(directory)]
    numbers: dict[int, tuple[int, ...]] = {
        tag: directory.numbers(tag) for tag in (*_FROM_LIBTIFF, Tag.ROWS_PER_STRIP) if tag in directory.entries
    }
    return strips, numbers, directory.raw(Tag.JPEG_TABLES)


def _rows(file: TiffFile, samples: Samples, compression: int) -> UInt8:
    """(H, row bytes) as they are compressed."""
    directory = file.directory
    if number(directory, Tag.PHOTOMETRIC, 0) == WHITE_IS_ZERO:
        samples = np.iinfo(samples.dtype).max - samples
    if file.raster.mode == "1":
        return np.packbits(samples[..., 0] > 127, axis=1)
    can_predict = compression not in (NONE, PACKBITS)
    if can_predict and number(directory, Tag.PREDICTOR, 1) == _HORIZONTAL_DIFFERENCES:
        samples = np.concatenate([samples[:, :1], samples[:, 1:] - samples[:, :-1]], axis=1)
    order: Literal["<", ">"] = "<" if directory.order == "<" else ">"
    in_file_order = np.ascontiguousarray(samples.astype(samples.dtype.newbyteorder(order)))
    return in_file_order.view(np.uint8).reshape(len(samples), -1)


def _placed(body: bytearray, strips: Iterable[bytes], free: list[tuple[int, int]]) -> tuple[int, ...]:
    """Put the strips into the free extents (start, length), else behind the end; return their offsets."""
    regions: list[list[int]] = []
    for start, length in sorted(free):
        if regions and start <= regions[-1][1]:
            regions[-1][1] = max(regions[-1][1], start + length)
        else:
            regions.append([start, start + length])
    offsets = []
    for strip in strips:
        region = next((region for region in regions if region[1] - region[0] >= len(strip)), None)
        if region is None:
            body += bytes(len(body) % 2)
            offsets.append(len(body))
            body += strip
        else:
            offsets.append(region[0])
            body[region[0] : region[0] + len(strip)] = strip
            region[0] += len(strip)
    return tuple(offsets)


def _value(body: bytearray, directory: Ifd, tag: int, packed: bytes) -> bytes:
    """The four bytes of an entry: the value, or the offset where it is put, which is the old one where it fits."""
    if len(packed) <= 4:
        return packed.ljust(4, b"\x00")
    extent = directory.extent(tag)
    if extent is None or extent.stop - extent.start < len(packed):
        body += bytes(len(body) % 2)
        extent = slice(len(body), len(body) + len(packed))
    body[extent.start : extent.start + len(packed)] = packed
    return struct.pack(directory.order + "L", extent.start)


def _write_directory(body: bytearray, directory: Ifd, entries: dict[int, Entry]) -> None:
    body[directory.offset : directory.end] = bytes(directory.end - directory.offset)
    table = packed_directory(directory.order, entries)
    if directory.offset + len(table) <= directory.end:
        body[directory.offset : directory.offset + len(table)] = table
    else:
        append_directory(body, directory.order, entries)
