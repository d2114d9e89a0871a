"""What the reading and the writing half of TIFF share: tags, compressions, and directories as bytes."""

from __future__ import annotations

import math
import struct
from enum import IntEnum

from inpaint_core.images.formats.codec import damaged
from inpaint_core.images.metadata.directories import Entry, Ifd


class Tag(IntEnum):
    """The tags that decide over the samples, and those that may show the picture (TIFF 6.0)."""

    SUBFILE_TYPE = 254
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    CHANNELS = 277
    ROWS_PER_STRIP = 278
    STRIP_LENGTHS = 279
    PLANES = 284
    T4_OPTIONS = 292
    T6_OPTIONS = 293
    PREDICTOR = 317
    COLOUR_MAP = 320
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_LENGTHS = 325
    SUB_IFDS = 330
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    JPEG_TABLES = 347
    YCC_COEFFICIENTS = 529
    YCC_SUBSAMPLING = 530
    YCC_POSITIONING = 531
    REFERENCE_BLACK_WHITE = 532
    XMP = 700
    PHOTOSHOP = 34377
    PHOTOSHOP_LAYERS = 37724
    CONTENT_CREDENTIALS = 52545


NONE, LZW, JPEG, DEFLATE, OLD_DEFLATE, PACKBITS = 1, 5, 7, 8, 32946, 32773
BYTE_COMPRESSIONS = {LZW: "tiff_lzw", PACKBITS: "packbits", 34925: "lzma", 50000: "zstd"}
FAX_COMPRESSIONS = {2: "tiff_ccitt", 3: "group3", 4: "group4"}
COMPRESSIONS = (NONE, JPEG, DEFLATE, OLD_DEFLATE, *BYTE_COMPRESSIONS, *FAX_COMPRESSIONS)
# The most bytes that one compressed byte can stand for: runs of 128 in 2 bytes; matches of 258 in 2 bits (RFC 1951); in LZW strings
# of 3838, all that a table holds, in 12 bits (TIFF 6.0, section 13); in Zstandard blocks of 128 KiB in 4 bytes (RFC 8878).
_MOST_OF_A_BYTE = {NONE: 1, PACKBITS: 64, DEFLATE: 1032, OLD_DEFLATE: 1032, LZW: 2559, 50000: 32768}
# Each block of luma takes a bit at least.
_PIXELS_OF_A_BLOCK = 64
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, TRANSPARENCY_MASK, CMYK, YCC = 0, 1, 2, 3, 4, 5, 6


def number(directory: Ifd, tag: int, default: int) -> int:
    """The first number of a tag's value."""
    return next(iter(directory.numbers(tag)), default)


def pixel_extents(directory: Ifd) -> list[tuple[int, int]]:
    """(start, length) of the strips, or of the tiles."""
    for offsets, lengths in ((Tag.STRIP_OFFSETS, Tag.STRIP_LENGTHS), (Tag.TILE_OFFSETS, Tag.TILE_LENGTHS)):
        if offsets in directory.entries:
            return list(zip(directory.numbers(offsets), directory.numbers(lengths), strict=True))
    return []


def check_amount(directory: Ifd) -> None:
    """Check that the strips or tiles are not shorter than the shortest that can hold the samples.

    Raises:
        ImageError: they are.
    """
    width, height = number(directory, Tag.WIDTH, 0), number(directory, Tag.HEIGHT, 0)
    bits = number(directory, Tag.BITS, 1) * number(directory, Tag.CHANNELS, 1)
    stored = sum(length for _, length in pixel_extents(directory))
    compression = number(directory, Tag.COMPRESSION, NONE)
    if compression in FAX_COMPRESSIONS:
        enough = 8 * stored >= height  # A row that is like the one above takes one bit (ITU-T T.6).
    elif compression == JPEG:
        enough = stored * 8 * _PIXELS_OF_A_BLOCK >= width * height
    else:
        enough = stored * _MOST_OF_A_BYTE.get(compression, math.inf) >= -(-width * bits // 8) * height
    if not enough:
        raise damaged("TIFF", "it has too little image data")


def append_directory(body: bytearray, order: str, entries: dict[int, Entry]) -> None:
    """Write a directory at the end of the file and point its header to it."""
    body += bytes(len(body) % 2)
    struct.pack_into(order + "L", body, 4, len(body))
    body += packed_directory(order, entries)


def packed_directory(order: str, entries: dict[int, Entry]) -> bytes:
    """A directory with its entries in order, and no next one."""
    table = b"".join(
        struct.pack(order + "HHL4s", tag, entry.type, entry.count, entry.value)
        for tag, entry in sorted(entries.items())
    )
    return struct.pack(order + "H", len(entries)) + table + bytes(4)
