"""TIFF: the file is copied, and the strips and tiles under the mask are replaced in it; no other tag's value moves."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np

from inpaint_core.images.formats.codec import channels_last, check_size, damaged, open_image, refused
from inpaint_core.images.formats.format import ImageFormat
from inpaint_core.images.formats.samples import Mode, Raster, Samples, UInt8, with_own_range
from inpaint_core.images.formats.tiff_layout import is_optimised, is_sequential, without_claim
from inpaint_core.images.formats.tiff_overviews import PREVIEW, further_directories, kept_directories
from inpaint_core.images.formats.tiff_segments import can_code
from inpaint_core.images.formats.tiff_tags import (
    BLACK_IS_ZERO,
    CMYK,
    COMPRESSIONS,
    FAX_COMPRESSIONS,
    JPEG,
    NONE,
    PALETTE,
    RGB,
    WHITE_IS_ZERO,
    YCC,
    Tag,
    append_directory,
    check_amount,
    number,
    pixel_extents,
)
from inpaint_core.images.formats.tiff_writing import TiffFile
from inpaint_core.images.metadata import previews as metadata
from inpaint_core.images.metadata.directories import Entry, Ifd
from inpaint_core.images.metadata.xmp_pictures import clean_xmp

_PHOTOMETRIC_NAMES = {
    WHITE_IS_ZERO: "grey",
    BLACK_IS_ZERO: "grey",
    RGB: "RGB",
    PALETTE: "palette",
    CMYK: "CMYK",
    YCC: "YCbCr",
    8: "CIELAB",
    32803: "raw sensor data",
}
# (photometric, number of extra samples) -> mode of 8-bit samples.
_MODES: dict[tuple[int, int], Mode] = {
    (WHITE_IS_ZERO, 0): "L",
    (BLACK_IS_ZERO, 0): "L",
    (BLACK_IS_ZERO, 1): "LA",
    (RGB, 0): "RGB",
    (RGB, 1): "RGBA",
    (PALETTE, 0): "P",
    (CMYK, 0): "CMYK",
}
_CHANNELS_OF = {"L": 1, "LA": 2, "P": 1, "RGB": 3, "RGBA": 4, "CMYK": 4}
_DECIDING_TAGS = frozenset(Tag) - {
    Tag.SUBFILE_TYPE,
    Tag.ORIENTATION,
    Tag.SUB_IFDS,
    Tag.XMP,
    Tag.PHOTOSHOP,
    Tag.PHOTOSHOP_LAYERS,
    Tag.CONTENT_CREDENTIALS,
}
_ICC_PROFILE = 34675
_UNSPECIFIED, _PREMULTIPLIED, _ALPHA = 0, 1, 2


def sniff(data: bytes) -> bool:
    """See `ImageFormat.sniff`. BigTIFF files are of this format as well, so that `read` can name them."""
    return data[:4] in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")


def read(data: bytes, max_pixels: int) -> TiffFile:
    """Take a TIFF file apart.

    Raises:
        ImageError: too large, several pages, cut off, or of samples that cannot be written again.
        ValueError, struct.error: a value lies beyond the end.
    """
    if data[2:4] in (b"\x2b\x00", b"\x00\x2b"):
        raise refused("BigTIFF files are not supported.")
    directory = Ifd.at_header(data)
    check_size(number(directory, Tag.WIDTH, 0), number(directory, Tag.HEIGHT, 0), max_pixels)
    if number(directory, Tag.SUBFILE_TYPE, 0) & PREVIEW:
        raise refused(
            "The TIFF file (a raw photograph?) starts with a preview of its image and cannot be written again."
        )
    below, behind = further_directories(directory)
    raster = _raster(directory)
    orientation = number(directory, Tag.ORIENTATION, 1)
    overviews, masks = kept_directories(directory, raster, below, behind, _raster)
    kept = [directory, *(page.directory for page in overviews), *masks]
    offsets = {page.offset for page in kept}
    dropped = [page for page in (*below, *behind) if page.offset not in offsets]
    notes = [f"smaller copies of the picture in the TIFF were dropped: {len(dropped)}"] if dropped else []
    body, entries = _without_pictures(directory, kept, dropped)
    sequential = not dropped and can_code(directory) and is_sequential(data, kept)
    optimised = sequential and is_optimised(data, kept)
    if not optimised and (unclaimed := without_claim(body)) != body:
        body = unclaimed
        notes.append("the TIFF is no longer a cloud-optimised GeoTIFF and does not claim it")
    file = TiffFile(
        raster=raster,
        orientation=orientation if 1 <= orientation <= 8 else 1,
        directory=directory,
        body=body,
        entries=entries,
        overviews=tuple(overviews),
        masks=tuple(masks),
        chain=tuple(page for page in behind if page.offset in offsets),
        sequential=sequential,
        optimised=optimised,
        notes=tuple(notes),
    )
    if not file.xmp():
        return file
    clean = clean_xmp(file.xmp())
    return replace(file.with_xmp(lambda _: clean.packets), notes=(*file.notes, *clean.notes()))


FORMAT = ImageFormat(sniff, read)


def _raster(directory: Ifd) -> Raster:
    mode, extra = _mode(directory)
    _check_extents(directory)
    samples, palette = _decoded(directory, mode)
    if samples.dtype == np.uint16:
        return with_own_range(samples.astype(np.uint16, copy=False), mode)
    profile = directory.raw(_ICC_PROFILE) if mode == "CMYK" else b""
    return Raster(samples, mode, palette=palette, premultiplied=extra == _PREMULTIPLIED, profile=profile)


def _check_extents(directory: Ifd) -> None:
    extents = pixel_extents(directory)
    if not extents:
        raise damaged("TIFF", "it has no image data")
    if any(start + length > len(directory.data) for start, length in extents):
        raise damaged("TIFF", "it is cut off before its end")
    kept = [directory.extent(tag) for tag in _DECIDING_TAGS] + [slice(directory.offset, directory.end)]
    if any(
        value and start < value.stop and value.start < start + length for start, length in extents for value in kept
    ):
        raise damaged("TIFF", "its image data lie over its directory")
    check_amount(directory)


def _mode(directory: Ifd) -> tuple[Mode, int]:
    """The mode of the samples and the meaning of an extra one, or ImageError where they cannot be written again."""
    photometric = number(directory, Tag.PHOTOMETRIC, 0)
    compression = number(directory, Tag.COMPRESSION, NONE)
    channels = number(directory, Tag.CHANNELS, 1)
    bits = set(directory.numbers(Tag.BITS) or (1,))
    extra = directory.numbers(Tag.EXTRA_SAMPLES)
    formats = set(directory.numbers(Tag.SAMPLE_FORMAT) or (1,))
    kind = "float" if 3 in formats else "signed" if 2 in formats else ""
    depth = "/".join(map(str, sorted(bits)))
    colours = _PHOTOMETRIC_NAMES.get(photometric, f"photometric {photometric}")
    cannot = refused(
        f"This kind of TIFF ({depth}-bit {kind}{' ' * bool(kind)}{colours}, {channels} channels, "
        f"compression {compression}) cannot be written again without loss."
    )
    if formats != {1} or compression not in COMPRESSIONS or (bits != {1} and compression in FAX_COMPRESSIONS):
        raise cannot
    if channels == 1 and bits == {1} and photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO) and compression != JPEG:
        return "1", _ALPHA
    if channels == 1 and bits == {16} and photometric == BLACK_IS_ZERO and compression != JPEG:
        return "I;16", _ALPHA
    if bits == {8} and channels == 3 and photometric == YCC and compression == JPEG:
        return "RGB", _ALPHA
    mode = _MODES.get((photometric, len(extra)))
    if bits != {8} or mode is None or channels != _CHANNELS_OF[mode] or (compression == JPEG and extra):
        raise cannot
    if extra == (_UNSPECIFIED,) and mode == "RGBA":
        return "RGBX", _UNSPECIFIED
    if extra and extra[0] not in (_PREMULTIPLIED, _ALPHA):
        raise cannot
    return mode, extra[0] if extra else _ALPHA


def _decoded(directory: Ifd, mode: Mode) -> tuple[Samples, UInt8 | None]:
    """(H, W, C) samples as stored, and the palette.

    Pillow is shown only the tags that decide over the samples: it would turn the image upright, divide colours by
    alpha, and parse metadata.
    """
    entries = {tag: entry for tag, entry in directory.entries.items() if tag in _DECIDING_TAGS}
    if Tag.EXTRA_SAMPLES in entries:
        entries[Tag.EXTRA_SAMPLES] = Entry(3, 1, struct.pack(directory.order + "HH", _ALPHA, 0))
    body = bytearray(directory.data)
    append_directory(body, directory.order, entries)
    image = open_image(bytes(body), "TIFF")
    expected = {"RGBX": "RGBA", "I;16": image.mode if image.mode.startswith("I;16") else "I;16"}.get(mode, mode)
    if image.mode != expected:
        raise refused(f"This kind of TIFF (decoded as {image.mode}) cannot be written again without loss.")
    image.load()
    if mode == "I;16":
        return np.array(image).astype(np.uint16)[..., None], None
    palette = None
    if mode == "P":
        colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        palette = np.pad(colours, ((0, 0), (0, 1)), constant_values=255)
    return channels_last(image), palette


def _without_pictures(directory: Ifd, kept: list[Ifd], dropped: list[Ifd]) -> tuple[bytes, dict[int, Entry]]:
    """The file and the first directory's entries without anything that shows the picture."""
    body = bytearray(directory.data)
    entries = dict(directory.entries)
    for page in kept:
        for start, length in pixel_extents(page):
            body[start : start + length] = bytes(length)
    for page in dropped:
        try:
            metadata.blank_thumbnail_ifd(body, directory.order, page.offset)
        except (ValueError, struct.error) as error:
            raise damaged("TIFF", "a preview in it is unreadable") from error
    blanked = [Tag.PHOTOSHOP_LAYERS, Tag.CONTENT_CREDENTIALS]
    if any(page.offset in directory.numbers(Tag.SUB_IFDS) for page in dropped):
        blanked.append(Tag.SUB_IFDS)
    for tag in blanked:
        if extent := directory.extent(tag):
            body[extent] = bytes(extent.stop - extent.start)
        entries.pop(tag, None)
    if extent := directory.extent(Tag.PHOTOSHOP):
        clean = metadata.without_photoshop_thumbnails(directory.data[extent])
        body[extent] = clean.ljust(extent.stop - extent.start, b"\x00")
        if len(clean) > 4:
            entries[Tag.PHOTOSHOP] = Entry(7, len(clean), entries[Tag.PHOTOSHOP].value)
        else:
            del entries[Tag.PHOTOSHOP]
    metadata.blank_jpegs(body)
    return bytes(body), entries
