"""BMP: the file is copied, and the pixels under the mask are overwritten in it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inpaint_core.images.formats.codec import channels_last, check_size, damaged, open_image, refused
from inpaint_core.images.formats.format import ImageFormat
from inpaint_core.images.formats.samples import Raster, UInt8, paint, show

_RGB, _RLE8, _RLE4, _BITFIELDS, _ALPHA_BITFIELDS = 0, 1, 2, 3, 6
_FILE_HEADER, _CORE_HEADER, _INFO_HEADER = 14, 12, 40
_DEFAULT_MASKS = {16: (0x7C00, 0x3E0, 0x1F, 0), 24: (0xFF0000, 0xFF00, 0xFF, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}
_JPEG_OR_PNG = (4, 5)


@dataclass(frozen=True)
class BmpFile:
    """A BMP file taken apart."""

    raster: Raster
    data: bytes
    header: BmpHeader

    @property
    def orientation(self) -> int:
        """1: the format has none."""
        return 1

    def pixels(self) -> UInt8:
        """See `SourceFile.pixels`."""
        return show(self.raster)

    def write(self, fill: UInt8, mask: NDArray[np.bool_], quality: int | None) -> bytes:
        """See `SourceFile.write`."""
        samples = paint(self.raster, fill, mask)
        header = self.header
        if header.bits <= 8:
            rows = _rows(self.data, header).copy()
            shifts = np.arange(header.bits - 1, -1, -1, dtype=np.uint8)
            bits = ((samples[..., 0, None] >> shifts) & 1).reshape(header.height, -1)
            packed = np.packbits(bits, axis=1)
            rows[:, : packed.shape[1]] = packed
        else:
            words = _words(self.data, header)
            painted = words & ~np.uint32(_all(header.masks))
            for channel in range(samples.shape[2]):
                shift, top = _shift_and_top(header.masks[channel])
                value = np.rint(samples[..., channel].astype(np.float64) * top / 255).astype(np.uint32)
                painted |= value << np.uint32(shift)
            words = np.where(mask, painted, words)
            rows = _rows(self.data, header).copy()
            little_endian = words.astype("<u4")[..., None].view(np.uint8)[..., : header.bits // 8]
            rows[:, : header.width * header.bits // 8] = little_endian.reshape(header.height, -1)
        if header.bottom_up:
            rows = rows[::-1]
        end = header.pixels_at + header.row_bytes * header.height
        return self.data[: header.pixels_at] + rows.tobytes() + self.data[end:]


@dataclass(frozen=True)
class BmpHeader:
    """What the headers say of the pixel array."""

    width: int
    height: int
    bottom_up: bool
    bits: int
    compression: int
    pixels_at: int
    header_size: int
    masks: tuple[int, int, int, int]
    """Of red, green, blue and alpha within one pixel of 16, 24 or 32 bits; 0 where there is no alpha."""
    palette_entries: int

    @property
    def row_bytes(self) -> int:
        """Length of a row, which ends on a multiple of four."""
        return (self.width * self.bits + 31) // 32 * 4


def sniff(data: bytes) -> bool:
    """See `ImageFormat.sniff`. Texts begin with `BM` as well: the reserved bytes are zero in an image."""
    return data[:2] == b"BM" and len(data) >= 26 and data[6:10] == bytes(4)


def read(data: bytes, max_pixels: int) -> BmpFile:
    """Take a BMP file apart.

    Raises:
        ImageError: too large, cut off, damaged, or of a kind that cannot be written again.
    """
    header = _header(data)
    check_size(header.width, header.height, max_pixels)
    if header.compression in (_RLE8, _RLE4):
        data, header = _without_run_lengths(data, header)
    elif header.compression not in (_RGB, _BITFIELDS, _ALPHA_BITFIELDS):
        what = "a JPEG or PNG image" if header.compression in _JPEG_OR_PNG else "an unknown compression"
        raise refused(f"The BMP file contains {what}, which cannot be written again.")
    if header.pixels_at + header.row_bytes * header.height > len(data):
        raise damaged("BMP", "it is cut off before its end")
    if header.bits <= 8:
        return BmpFile(Raster(_indices(data, header), "P", palette=_palette(data, header)), data, header)
    words = _words(data, header)
    masks = header.masks if header.masks[3] else header.masks[:3]
    samples = np.stack([_field(words, mask) for mask in masks], axis=-1)
    return BmpFile(Raster(samples, "RGBA" if header.masks[3] else "RGB"), data, header)


FORMAT = ImageFormat(sniff, read)


def _header(data: bytes) -> BmpHeader:
    (pixels_at,) = struct.unpack_from("<L", data, 10)
    (size,) = struct.unpack_from("<L", data, _FILE_HEADER)
    if size == _CORE_HEADER:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression, used = _RGB, 0
    elif size >= _INFO_HEADER:
        width, height, _, bits, compression, _, _, _, used, _ = struct.unpack_from("<llHHLLllLL", data, 18)
    else:
        raise damaged("BMP", f"a header of {size} bytes does not exist")
    if bits not in (1, 4, 8, 16, 24, 32):
        raise refused(f"The BMP file has {bits} bits per pixel, which cannot be written again.")
    masks = _DEFAULT_MASKS.get(bits, (0, 0, 0, 0))
    if compression in (_BITFIELDS, _ALPHA_BITFIELDS):
        # In a longer header they are a part of it, behind the short one they follow it: the same place.
        has_alpha = size >= 56 or compression == _ALPHA_BITFIELDS
        found = struct.unpack_from("<LLLL", data, _FILE_HEADER + _INFO_HEADER)
        masks = (found[0], found[1], found[2], found[3] if has_alpha else 0)
        if bits not in (16, 32) or any(not _is_plain(mask) for mask in masks[:3]) or not _is_plain(masks[3], True):
            raise refused("The BMP file has colours of more than 8 bits or in parts, which cannot be written again.")
    return BmpHeader(
        width=width,
        height=abs(height),
        bottom_up=height > 0,
        bits=bits,
        compression=compression,
        pixels_at=pixels_at,
        header_size=size,
        masks=masks,
        palette_entries=min(used or 2**bits, 2**bits) if bits <= 8 else 0,
    )


def _is_plain(mask: int, may_lack: bool = False) -> bool:
    """Whether the mask is one run of up to 8 bits."""
    if mask == 0:
        return may_lack
    shift, top = _shift_and_top(mask)
    return top <= 255 and mask == top << shift and top & (top + 1) == 0


def _shift_and_top(mask: int) -> tuple[int, int]:
    """Position of a mask's lowest bit, and the largest value of its field."""
    shift = (mask & -mask).bit_length() - 1
    return shift, mask >> shift


def _all(masks: tuple[int, ...]) -> int:
    return masks[0] | masks[1] | masks[2] | masks[3]


def _palette(data: bytes, header: BmpHeader) -> UInt8:
    entry = 3 if header.header_size == _CORE_HEADER else 4
    start = _FILE_HEADER + header.header_size
    stop = min(start + entry * header.palette_entries, header.pixels_at)
    entries = np.frombuffer(data[start:stop], np.uint8)
    if len(entries) < entry:
        raise damaged("BMP", "its palette is missing")
    entries = entries[: len(entries) // entry * entry].reshape(-1, entry)
    palette = np.full((len(entries), 4), 255, np.uint8)
    palette[:, :3] = entries[:, 2::-1]
    return palette


def _rows(data: bytes, header: BmpHeader) -> UInt8:
    """(H, row bytes), the top row first."""
    rows = np.frombuffer(data, np.uint8, count=header.row_bytes * header.height, offset=header.pixels_at)
    rows = rows.reshape(header.height, header.row_bytes)
    return rows[::-1] if header.bottom_up else rows


def _indices(data: bytes, header: BmpHeader) -> UInt8:
    bits = np.unpackbits(_rows(data, header), axis=1)[:, : header.width * header.bits]
    weights = 1 << np.arange(header.bits - 1, -1, -1, dtype=np.uint8)
    indices = bits.reshape(header.height, header.width, header.bits) @ weights
    return indices.astype(np.uint8)[..., None]


def _words(data: bytes, header: BmpHeader) -> NDArray[np.uint32]:
    """(H, W) pixels of 16, 24 or 32 bits as numbers."""
    size = header.bits // 8
    pixels = _rows(data, header)[:, : header.width * size].reshape(header.height, header.width, size)
    words = np.zeros((header.height, header.width), np.uint32)
    for byte in range(size):
        words |= pixels[..., byte].astype(np.uint32) << np.uint32(8 * byte)
    return words


def _field(words: NDArray[np.uint32], mask: int) -> UInt8:
    """(H, W) values of one colour, scaled to 0..255."""
    shift, top = _shift_and_top(mask)
    values = (words & np.uint32(mask)) >> np.uint32(shift)
    return ((values * 255 + top // 2) // top).astype(np.uint8)


def _without_run_lengths(data: bytes, header: BmpHeader) -> tuple[bytes, BmpHeader]:
    """The same image without run-length compression, which is written that way."""
    image = open_image(data, "BMP")
    image.load()
    indices = channels_last(image)[..., 0] if image.mode in ("P", "L") else None
    if indices is None or header.bits not in (4, 8) or not header.bottom_up:
        raise refused("This kind of run-length compressed BMP cannot be written again.")
    bits = ((indices[..., None] >> np.arange(header.bits - 1, -1, -1, dtype=np.uint8)) & 1).reshape(header.height, -1)
    packed = np.packbits(bits, axis=1)
    rows = np.zeros((header.height, header.row_bytes), np.uint8)
    rows[:, : packed.shape[1]] = packed
    head = bytearray(data[: header.pixels_at])
    struct.pack_into("<LL", head, 30, _RGB, rows.size)
    struct.pack_into("<L", head, 2, len(head) + rows.size)
    plain = bytes(head) + rows[::-1].tobytes()
    return plain, _header(plain)
