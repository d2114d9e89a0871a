"""A TIFF file taken apart, and its writing half.

Strips and tiles that the mask does not touch stay as they are, byte for byte; new ones are coded as they were. Smaller
copies of the picture (overviews) are changed in the same places.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inpaint_core.images.formats.codec import channels_last, from_channels_last, saved
from inpaint_core.images.formats.format import XmpEdit
from inpaint_core.images.formats.samples import Raster, Samples, UInt8, paint, show
from inpaint_core.images.formats.tiff_jpeg import jpeg_quality
from inpaint_core.images.formats.tiff_layout import Segments, laid_out, merged, moved, moved_entries, placed, put
from inpaint_core.images.formats.tiff_overviews import repainted
from inpaint_core.images.formats.tiff_segments import Page, can_code, coded_segments, packed_rows
from inpaint_core.images.formats.tiff_tags import (
    BYTE_COMPRESSIONS,
    FAX_COMPRESSIONS,
    JPEG,
    NONE,
    YCC,
    Tag,
    append_directory,
    number,
    packed_directory,
    pixel_extents,
)
from inpaint_core.images.metadata.directories import Entry, Ifd

_STRIP_BYTES = 2**16
_SHORT, _LONG, _UNDEFINED = 3, 4, 7
# How the strips are coded: of these the source's values hold no longer where all strips are coded anew by libtiff.
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
    overviews: tuple[Page, ...] = ()
    """Smaller copies of the picture, which are written again."""
    masks: tuple[Ifd, ...] = ()
    """Directories of transparency masks, which stay as they are."""
    chain: tuple[Ifd, ...] = ()
    """Of these and the overviews those that follow the first directory, in order."""
    sequential: bool = False
    """The strips and tiles lie together, so that they can be written one after another again."""
    optimised: bool = False
    """The same, and the layout is that of a cloud-optimised GeoTIFF."""
    notes: tuple[str, ...] = ()
    """What of the file is not written again, for the record."""

    def xmp(self) -> bytes:
        """Its XMP packet; empty where it has none."""
        extent = self.directory.extent(Tag.XMP)
        return self.body[extent] if extent else b""

    def with_xmp(self, edit: XmpEdit) -> TiffFile:
        """See `FileWithXmp.with_xmp`. The packet is filled up with spaces: it keeps its place and length."""
        extent = self.directory.extent(Tag.XMP)
        if extent is None:
            return self
        (xmp,) = edit((self.xmp(),))
        body = bytearray(self.body)
        body[extent] = xmp.ljust(extent.stop - extent.start)
        return replace(self, body=bytes(body))

    def pixels(self) -> UInt8:
        """See `SourceFile.pixels`."""
        return show(self.raster)

    def write(self, fill: UInt8, mask: NDArray[np.bool_], quality: int | None) -> bytes:
        """See `SourceFile.write`. JPEG-compressed files keep their own tables where they can."""
        samples = paint(self.raster, fill, mask)
        body = bytearray(self.body)
        pages: list[tuple[Ifd, Segments]] = []
        if can_code(self.directory):
            pages.append((self.directory, coded_segments(Page(self.directory, self.raster), samples, mask)))
        else:
            _write_anew(body, self, samples)
        for overview in self.overviews:
            pages.append((overview.directory, coded_segments(overview, *repainted(overview.raster, samples, mask))))
        pages += [(directory, {}) for directory in self.masks]
        if not self.sequential:
            extents, move = placed(body, pages), (len(body), 0)
        else:
            extents, move = laid_out(body, pages, self.optimised)
        whole = bytes(body)
        for (directory, _), of_page in zip(pages, extents, strict=True):
            entries = self.entries if directory is self.directory else directory.entries
            entries = moved_entries(directory, entries, *move)
            here = moved(directory, whole, *move)
            _write_directory(body, here, _with_extents(body, here, entries, of_page))
            if directory is self.directory and here.offset != directory.offset:
                struct.pack_into(here.order + "L", body, 4, here.offset)
        _write_chain(body, self.directory.order, [moved(directory, whole, *move).offset for directory in self.chain])
        return bytes(body)


def _with_extents(
    body: bytearray, directory: Ifd, entries: Mapping[int, Entry], extents: Sequence[tuple[int, int]]
) -> dict[int, Entry]:
    """The entries with other offsets and lengths of the strips or tiles; the numbers are put into the file."""
    tiled = Tag.STRIP_OFFSETS not in entries
    tags = (Tag.TILE_OFFSETS, Tag.TILE_LENGTHS) if tiled else (Tag.STRIP_OFFSETS, Tag.STRIP_LENGTHS)
    result = dict(entries)
    for tag, values in zip(tags, zip(*extents, strict=True), strict=True):
        fits = entries[tag].type == _SHORT and max(values) < 2**16
        result[tag] = _numbers(body, directory, tag, values, _SHORT if fits else _LONG)
    return result


def _write_anew(body: bytearray, file: TiffFile, samples: Samples) -> None:
    """All strips coded anew, for what cannot be coded piece by piece; tiles become strips, and planes are interleaved."""
    directory = file.directory
    strips, numbers, tables = _coded(file, samples)
    regions = merged(pixel_extents(directory))
    offsets = tuple(put(body, strip, regions) for strip in strips)
    numbers[Tag.STRIP_LENGTHS] = tuple(map(len, strips))
    numbers[Tag.PLANES] = (1,)
    entries = {tag: entry for tag, entry in file.entries.items() if tag not in _CODING_TAGS}
    for tag, values in numbers.items():
        entries[tag] = _numbers(body, directory, tag, values, _SHORT if max(values) < 2**16 else _LONG)
    entries[Tag.STRIP_OFFSETS] = _numbers(body, directory, Tag.STRIP_OFFSETS, offsets, _LONG)
    if tables:
        entries[Tag.JPEG_TABLES] = Entry(_UNDEFINED, len(tables), _value(body, directory, Tag.JPEG_TABLES, tables))
    _write_directory(body, directory, entries)


def _coded(file: TiffFile, samples: Samples) -> tuple[list[bytes], dict[int, tuple[int, ...]], bytes]:
    """The strips, the tags that say how they are coded, and JPEG tables that they share."""
    compression = number(file.directory, Tag.COMPRESSION, NONE)
    if compression == JPEG:
        options = {"compression": "jpeg", "quality": jpeg_quality(file.directory)}
        if number(file.directory, Tag.PHOTOMETRIC, 0) != YCC:
            return _coded_by_libtiff(samples, file.raster.mode, **options)
        planes = channels_last(from_channels_last(samples, file.raster.mode).convert("YCbCr"))
        return _coded_by_libtiff(planes, "YCbCr", **options)
    if compression in FAX_COMPRESSIONS:
        return _coded_by_libtiff(samples, "1", compression=FAX_COMPRESSIONS[compression])
    rows = packed_rows(Page(file.directory, file.raster), samples)
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


def _numbers(body: bytearray, directory: Ifd, tag: int, values: Sequence[int], type_: int) -> Entry:
    packed = struct.pack(f"{directory.order}{len(values)}{'H' if type_ == _SHORT else 'L'}", *values)
    return Entry(type_, len(values), _value(body, directory, tag, packed))


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
    """Put the directory where it was; only the file's first one may have more entries than before, and goes to the end."""
    body[directory.offset : directory.end] = bytes(directory.end - directory.offset)
    table = bytearray(packed_directory(directory.order, entries))
    if directory.offset + len(table) <= directory.end:
        struct.pack_into(directory.order + "L", table, len(table) - 4, directory.next_offset)
        body[directory.offset : directory.offset + len(table)] = table
    else:
        append_directory(body, directory.order, entries)


def _write_chain(body: bytearray, order: str, offsets: Sequence[int]) -> None:
    """Let each directory point to the next one, from that to which the header points."""
    (current,) = struct.unpack_from(order + "L", body, 4)
    for following in [*offsets, 0]:
        (count,) = struct.unpack_from(order + "H", body, current)
        struct.pack_into(order + "L", body, current + 2 + 12 * count, following)
        current = following
