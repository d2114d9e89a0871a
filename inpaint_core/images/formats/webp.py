"""WebP: RIFF chunks are taken over, lossless images stay lossless."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inpaint_core.images.formats.codec import (
    channels_last,
    check_size,
    damaged,
    from_channels_last,
    open_image,
    refused,
    saved,
)
from inpaint_core.images.formats.format import ImageFormat, XmpEdit
from inpaint_core.images.formats.quality import encoded_like
from inpaint_core.images.formats.samples import Raster, UInt8, paint, show
from inpaint_core.images.formats.vp8_quality import webp_quality
from inpaint_core.images.metadata import previews as metadata
from inpaint_core.images.metadata.segments import MAX_PARTS
from inpaint_core.images.metadata.xmp_pictures import clean_xmp

_IMAGE_CHUNKS = (b"VP8 ", b"VP8L", b"ALPH")
_XMP = b"XMP "
_ALPHA_FLAG = 0x10
# The likeliest mode of luma has the probability 145/256, that of chroma 142/256.
_MACROBLOCK, _LEAST_BITS = 16, 1.6


@dataclass(frozen=True)
class WebpFile:
    """A WebP file taken apart."""

    raster: Raster
    orientation: int
    lossless: bool
    chunks: tuple[tuple[bytes, bytes], ...]
    """(type, data) of the chunks; those of the image are replaced when the file is written."""
    notes: tuple[str, ...] = ()
    """What of the file is not written again, for the record."""

    def with_xmp(self, edit: XmpEdit) -> WebpFile:
        """See `FileWithXmp.with_xmp`."""
        packets = iter(edit(_packets(self.chunks)))
        return replace(self, chunks=tuple((kind, next(packets) if kind == _XMP else old) for kind, old in self.chunks))

    def pixels(self) -> UInt8:
        """See `SourceFile.pixels`."""
        return show(self.raster)

    def write(self, fill: UInt8, mask: NDArray[np.bool_], quality: int | None) -> bytes:
        """See `SourceFile.write`."""
        samples = paint(self.raster, fill, mask)
        image = from_channels_last(samples, self.raster.mode)
        if self.lossless:
            coded = saved(image, "WEBP", lossless=True, exact=True)
        elif quality is not None:
            coded = _lossy(image, quality)
        else:
            old = {kind: content for kind, content in self.chunks if kind in _IMAGE_CHUNKS}
            size = sum(map(len, old.values()))
            coded = encoded_like(partial(_lossy, image), webp_quality(old[b"VP8 "]), size)
        images = [(kind, content) for kind, content in _chunks(coded) if kind in _IMAGE_CHUNKS]
        parts, written = [], False
        for kind, content in self.chunks:
            if kind == b"VP8X":
                content = bytes([_flags(content[0], self.raster.mode)]) + content[1:]
            if kind in _IMAGE_CHUNKS:
                parts += [] if written else images
                written = True
            else:
                parts.append((kind, content))
        body = b"WEBP" + b"".join(
            kind + struct.pack("<L", len(content)) + content + bytes(len(content) % 2) for kind, content in parts
        )
        return b"RIFF" + struct.pack("<L", len(body)) + body


def sniff(data: bytes) -> bool:
    """See `ImageFormat.sniff`."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def read(data: bytes, max_pixels: int) -> WebpFile:
    """Take a WebP file apart.

    Raises:
        ImageError: too large, animated, cut off or damaged.
    """
    chunks = _chunks(data)
    kinds = [kind for kind, _ in chunks]
    image_kinds = [kind for kind in kinds if kind in (b"VP8 ", b"VP8L")]
    frames = kinds.count(b"ANMF")
    if frames or b"ANIM" in kinds:
        raise refused(f"The WEBP file is animated ({frames} frames); only still images are processed.")
    if len(image_kinds) != 1:
        raise damaged("WEBP", "it has no image data")
    for kind, content in chunks:
        width, height = _size(kind, content)
        check_size(width, height, max_pixels)
        # Of each macroblock the modes of luma and chroma are coded, with fixed probabilities (RFC 6386, 8.2 and 11.2).
        if kind == b"VP8 " and 8 * len(content) < _LEAST_BITS * -(-width // _MACROBLOCK) * -(-height // _MACROBLOCK):
            raise damaged("WEBP", "it has too little image data")
    image = open_image(data, "WEBP")
    image.load()
    exif = next((content for kind, content in chunks if kind == b"EXIF"), b"")
    # Content credentials hold thumbnails of the old picture.
    kept = tuple(_cleaned(kind, content) for kind, content in chunks if kind != b"C2PA")
    clean = clean_xmp(*_packets(kept))
    file = WebpFile(
        raster=Raster(channels_last(image), "RGBA" if image.mode == "RGBA" else "RGB"),
        orientation=metadata.exif_orientation(exif),
        lossless=image_kinds[0] == b"VP8L",
        chunks=kept,
        notes=clean.notes(),
    )
    return file.with_xmp(lambda _: clean.packets)


FORMAT = ImageFormat(sniff, read)


def _lossy(image: Image.Image, quality: int) -> bytes:
    return saved(image, "WEBP", quality=quality, alpha_quality=100, exact=True)


def _flags(flags: int, mode: str) -> int:
    return flags | _ALPHA_FLAG if mode == "RGBA" else flags & ~_ALPHA_FLAG


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    (size,) = struct.unpack_from("<L", data, 4)
    end = size + 8
    if end > len(data):
        raise damaged("WEBP", "it is cut off before its end")
    chunks, position = [], 12
    while position + 8 <= end:
        kind, length = struct.unpack_from("<4sL", data, position)
        if position + 8 + length > end:
            raise damaged("WEBP", f"its {kind.decode('latin-1')} chunk is cut off")
        chunks.append((kind, data[position + 8 : position + 8 + length]))
        if len(chunks) > MAX_PARTS:
            raise damaged("WEBP", f"it has more than {MAX_PARTS:,} chunks")
        position += 8 + length + length % 2
    return chunks


def _size(kind: bytes, content: bytes) -> tuple[int, int]:
    """(width, height) where the chunk tells them; (1, 1) for other chunks."""
    if kind == b"VP8X" and len(content) >= 10:
        return int.from_bytes(content[4:7], "little") + 1, int.from_bytes(content[7:10], "little") + 1
    if kind == b"VP8 " and len(content) >= 10:
        return tuple(side & 0x3FFF for side in struct.unpack_from("<HH", content, 6))
    if kind == b"VP8L" and len(content) >= 5:
        bits = int.from_bytes(content[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return 1, 1


def _cleaned(kind: bytes, content: bytes) -> tuple[bytes, bytes]:
    if kind == b"EXIF":
        return kind, metadata.without_exif_thumbnail(content)
    return kind, content


def _packets(chunks: tuple[tuple[bytes, bytes], ...]) -> tuple[bytes, ...]:
    return tuple(content for kind, content in chunks if kind == _XMP)
