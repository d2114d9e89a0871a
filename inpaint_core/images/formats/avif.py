"""AVIF: coded anew by libavif; EXIF, XMP and colour profile are taken over."""

from __future__ import annotations

import operator
import struct
from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inpaint_core.images.formats.av1_quality import base_quantiser, sequence_size
from inpaint_core.images.formats.codec import (
    channels_last,
    check_frames,
    check_size,
    from_channels_last,
    open_image,
    refused,
    saved,
)
from inpaint_core.images.formats.format import ImageFormat, XmpEdit
from inpaint_core.images.formats.heif_items import HeifItems, boxes, heif_items
from inpaint_core.images.formats.quality import encoded_like
from inpaint_core.images.formats.samples import Raster, UInt8, paint, show
from inpaint_core.images.metadata import previews as metadata
from inpaint_core.images.metadata.xmp_pictures import clean_xmp

_BRANDS, _SHARED_BRANDS = (b"avif", b"avis"), (b"mif1", b"msf1")
_EXIF = b"Exif\x00\x00"
_ORIENTATION = 274
_PLACEHOLDER_TAG = 65000
# ITU-T H.273 numbers that 8-bit pictures for screens have: BT.709 or unspecified; its curve, sRGB's, or BT.601's.
_PRIMARIES, _CURVES = (1, 2), (1, 2, 6, 13)


@dataclass(frozen=True)
class AvifFile:
    """An AVIF file taken apart."""

    raster: Raster
    orientation: int
    subsampling: str
    icc: bytes
    exif: bytes
    """TIFF stream without prefix; empty where there is none."""
    xmp: bytes
    size: int
    """Bytes of the file."""
    quantiser: int | None
    """`base_q_idx` of its AV1 frame, 0 to 255; None where it cannot be read."""
    notes: tuple[str, ...] = ()
    """What of the file is not written again, for the record."""

    def with_xmp(self, edit: XmpEdit) -> AvifFile:
        """See `FileWithXmp.with_xmp`."""
        (xmp,) = edit((self.xmp,))
        return replace(self, xmp=xmp)

    def pixels(self) -> UInt8:
        """See `SourceFile.pixels`."""
        return show(self.raster)

    def write(self, fill: UInt8, mask: NDArray[np.bool_], quality: int | None) -> bytes:
        """See `SourceFile.write`."""
        samples = paint(self.raster, fill, mask)
        image = from_channels_last(samples, self.raster.mode)
        exif = _EXIF + self.exif if self.exif else b""
        placeholder = _placeholder(len(exif), self.orientation) if exif else None
        options = {"exif": placeholder} if placeholder else {}
        encode = partial(
            saved, image, "AVIF", subsampling=self.subsampling, icc_profile=self.icc, xmp=self.xmp, **options
        )
        if quality is None:
            estimate = None if self.quantiser is None else _quality_of(self.quantiser)
            coded = encoded_like(lambda quality: encode(quality=quality), estimate, self.size)
        else:
            coded = encode(quality=quality)
        if placeholder is None:
            return coded
        # Pillow takes the orientation out of the EXIF block for the container and writes the rest in its own order,
        # which breaks maker notes. So it is given a block of the same length, in whose place the source's is put.
        placeholder.pop(_ORIENTATION, None)
        written = placeholder.tobytes()
        exif = exif.ljust(len(written), b"\x00")
        if coded.count(written) != 1:
            raise OSError("the EXIF block cannot be written into an AVIF file")
        return coded.replace(written, exif)


def sniff(data: bytes) -> bool:
    """See `ImageFormat.sniff`. HEIC files share some of the brands, and name their own beside them."""
    if data[4:8] != b"ftyp":
        return False
    brands = data[8 : int.from_bytes(data[:4], "big")]
    others = [brands[at : at + 4] for at in range(0, len(brands), 4)]
    return data[8:12] in _BRANDS or (data[8:12] in _SHARED_BRANDS and b"avif" in others)


def read(data: bytes, max_pixels: int) -> AvifFile:
    """Take an AVIF file apart.

    Raises:
        ImageError: too large, a sequence, damaged, or of a depth or colour space that cannot be written again.
    """
    meta = dict(reversed(list(boxes(data)))).get(b"meta", b"")
    _check_properties(meta, max_pixels)
    items = heif_items(meta)
    _check_pieces(items, data)
    image = open_image(data, "AVIF")
    check_size(*image.size, max_pixels)
    check_frames("AVIF", getattr(image, "n_frames", 1))
    # Pillow puts the rotation of the container (irot, imir), the one that viewers follow, in the EXIF block.
    exif = image.info.get("exif", b"").removeprefix(_EXIF)
    image.load()
    clean = clean_xmp(image.info.get("xmp", b""))
    return AvifFile(
        raster=Raster(channels_last(image), "RGBA" if image.mode == "RGBA" else "RGB"),
        orientation=metadata.exif_orientation(exif),
        subsampling=_subsampling(meta),
        icc=image.info.get("icc_profile", b""),
        exif=metadata.without_exif_thumbnail(exif) if exif else b"",
        xmp=clean.packets[0],
        size=len(data),
        quantiser=base_quantiser(_coded_picture(items, data)),
        notes=clean.notes(),
    )


FORMAT = ImageFormat(sniff, read)


@cache
def _quality_of(quantiser: int) -> int:
    """The highest quality of libavif whose quantiser is not finer than `quantiser`.

    The numbers differ between versions of libavif and its encoders, so they are taken from tiny pictures.
    """

    def finer(quality: int) -> bool:
        coded = saved(Image.new("RGB", (16, 16)), "AVIF", quality=quality)
        found = base_quantiser(_coded_picture(heif_items(dict(boxes(coded))[b"meta"]), coded))
        return found is not None and found < quantiser

    return max(1, bisect_left(range(101), True, key=finer) - 1)


def _placeholder(length: int, orientation: int) -> Image.Exif:
    """EXIF that has `length` bytes once its orientation is taken away, or the fewest that it can have."""
    without = Image.Exif()
    without[_PLACEHOLDER_TAG] = b"inpaint!"
    missing = max(0, length - len(without.tobytes()))
    placeholder = Image.Exif()
    placeholder[_PLACEHOLDER_TAG] = b"inpaint!" + bytes(index * 7 % 251 for index in range(missing))
    placeholder[_ORIENTATION] = orientation
    return placeholder


def _properties(meta: bytes) -> list[tuple[bytes, bytes]]:
    """The item properties: meta (with 4 bytes of version and flags) / iprp / ipco."""
    for kind, content in boxes(meta[4:]):
        if kind == b"iprp":
            return [entry for name, box in boxes(content) if name == b"ipco" for entry in boxes(box)]
    return []


def _check_properties(meta: bytes, max_pixels: int) -> None:
    properties = _properties(meta)
    has_profile = any(kind == b"colr" and content[:4] in (b"prof", b"rICC") for kind, content in properties)
    for kind, content in properties:
        if kind == b"av1C" and len(content) >= 4 and content[2] & 0x40:
            raise refused("The AVIF file has more than 8 bits per sample, which cannot be written again.")
        if kind == b"ispe" and len(content) >= 12:
            width, height = struct.unpack_from(">LL", content, 4)
            check_size(width, height, max_pixels)
        if kind == b"colr" and content[:4] == b"nclx" and not has_profile:
            primaries, curve = struct.unpack_from(">HH", content, 4)
            if primaries not in _PRIMARIES or curve not in _CURVES:
                raise refused("The AVIF file has a wide colour space without a profile, which cannot be written again.")


def _coded_picture(items: HeifItems, data: bytes) -> bytes:
    """The AV1 stream of the primary picture; of one that is a grid, the stream of its first tile."""
    return next((items.content(data, number) for number in items.pieces() if items.items[number].kind == b"av01"), b"")


def _check_pieces(items: HeifItems, data: bytes) -> None:
    """Raise ValueError for a picture that is smaller in its stream than the file says: libavif would scale it."""
    for number in items.pieces():
        coded = sequence_size(items.content(data, number)) if items.items[number].kind == b"av01" else None
        for content in items.properties(number, b"ispe"):
            if coded is not None and any(map(operator.gt, struct.unpack_from(">LL", content, 4), coded)):
                raise ValueError(f"its picture has {coded[0]} x {coded[1]} pixels, fewer than its header says")


def _subsampling(meta: bytes) -> str:
    """Chroma subsampling of the coded picture, as Pillow names it (AV1-ISOBMFF, 2.3.3)."""
    configurations = [
        content[2] >> 2 & 7 for kind, content in _properties(meta) if kind == b"av1C" and len(content) > 3
    ]
    # Alpha is a picture of its own, without chroma.
    coloured = [bits for bits in configurations if not bits & 0b100]
    if not coloured:
        return "4:0:0"
    return {0b000: "4:4:4", 0b010: "4:2:2"}.get(coloured[0], "4:2:0")
