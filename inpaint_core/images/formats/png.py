"""PNG: chunks are taken over, the image data are filtered and compressed anew in the same colour type and bit depth.

Interlaced files are written without interlacing, which changes no sample.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from inpaint_core.images.formats.codec import channels_last, check_frames, check_size, damaged, open_image
from inpaint_core.images.formats.format import ImageFormat, XmpEdit
from inpaint_core.images.formats.png_text import cleaned_text, raw_exif, raw_profile_name, with_xmp_packet, xmp_packet
from inpaint_core.images.formats.samples import Mode, Raster, Samples, UInt8, paint, show, with_own_range
from inpaint_core.images.metadata import previews as metadata
from inpaint_core.images.metadata.segments import MAX_PARTS
from inpaint_core.images.metadata.xmp_pictures import clean_xmp

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_CHANNELS = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGBA: 4}
_DEPTHS = {_GREY: (1, 2, 4, 8, 16), _RGB: (8, 16), _PALETTE: (1, 2, 4, 8), _GREY_ALPHA: (8, 16), _RGBA: (8, 16)}
_MODES: dict[int, Mode] = {_GREY: "L", _RGB: "RGB", _PALETTE: "P", _GREY_ALPHA: "LA", _RGBA: "RGBA"}
_MODES_16: dict[int, Mode] = {_GREY: "I;16", _RGB: "RGB;16", _GREY_ALPHA: "LA;16", _RGBA: "RGBA;16"}
# (first column, first row, column step, row step) of Adam7's passes.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
# Of the chunks that a change of the image data may make wrong, these stay right.
_STAY_RIGHT = (b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"bKGD", b"hIST", b"tRNS", b"tIME")
_STAY_RIGHT_TOO = (b"cICP", b"mDCV", b"cLLI", b"mDCv", b"cLLi", b"PLTE", b"eXIf")
# Chunks of animations: without one of them, an animation looks like a still image.
_OF_ANIMATIONS = (b"acTL", b"fcTL", b"fdAT")
_SLICE = 2**16


@dataclass(frozen=True)
class PngFile:
    """A PNG file taken apart."""

    raster: Raster
    orientation: int
    colour_type: int
    depth: int
    before: tuple[tuple[bytes, bytes], ...]
    """(type, data) of the chunks between IHDR and IDAT that are written again."""
    after: tuple[tuple[bytes, bytes], ...]
    """The same, between IDAT and IEND."""
    notes: tuple[str, ...] = ()
    """What of the file is not written again, for the record."""

    def with_xmp(self, edit: XmpEdit) -> PngFile:
        """See `FileWithXmp.with_xmp`."""
        packets = (xmp_packet(chunk) for chunk in (*self.before, *self.after))
        new = iter(edit(tuple(packet for packet in packets if packet is not None)))
        before, after = (
            tuple(with_xmp_packet(chunk, next(new)) if xmp_packet(chunk) is not None else chunk for chunk in part)
            for part in (self.before, self.after)
        )
        return replace(self, before=before, after=after)

    def pixels(self) -> UInt8:
        """See `SourceFile.pixels`."""
        return show(self.raster)

    def write(self, fill: UInt8, mask: NDArray[np.bool_], quality: int | None) -> bytes:
        """See `SourceFile.write`."""
        samples = paint(self.raster, fill, mask)
        height, width = samples.shape[:2]
        rows, pixel_bytes = _packed(samples, self.colour_type, self.depth), self.depth * samples.shape[2] // 8
        # Filters help photographs; of indices and single bits they make noise (PNG 12.7).
        filtered = (
            _filtered(rows, pixel_bytes) if self.depth >= 8 and self.colour_type != _PALETTE else _unfiltered(rows)
        )
        header = struct.pack(">LLBBBBB", width, height, self.depth, self.colour_type, 0, 0, 0)
        parts = [(b"IHDR", header), *self.before, (b"IDAT", zlib.compress(filtered, 6)), *self.after, (b"IEND", b"")]
        return _SIGNATURE + b"".join(_chunk(kind, content) for kind, content in parts)


def sniff(data: bytes) -> bool:
    """See `ImageFormat.sniff`."""
    return data.startswith(_SIGNATURE)


def read(data: bytes, max_pixels: int) -> PngFile:
    """Take a PNG file apart.

    Raises:
        ImageError: too large, animated, cut off, a checksum of a critical chunk is wrong, or there is too little image data.
    """
    chunks, notes = _chunks(data)
    kinds = [kind for kind, _ in chunks]
    if kinds[0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise damaged("PNG", "it does not start with a header")
    width, height, depth, colour_type, _, _, interlace = struct.unpack(">LLBBBBB", chunks[0][1])
    check_size(width, height, max_pixels)
    if depth not in _DEPTHS.get(colour_type, ()):
        raise damaged("PNG", f"colour type {colour_type} with {depth} bits does not exist")
    frames = 1 + kinds.count(b"fdAT")
    for kind, content in chunks:
        if kind == b"acTL" and len(content) == 8:
            check_frames("PNG", max(struct.unpack(">L", content[:4])[0], frames))
    if b"IDAT" not in kinds:
        raise damaged("PNG", "it has no image data")
    image_data = b"".join(content for kind, content in chunks if kind == b"IDAT")
    _check_image_data(image_data, width, height, depth * _CHANNELS[colour_type], interlace)
    palette = next((content for kind, content in chunks if kind == b"PLTE"), b"")
    transparent = next((content for kind, content in chunks if kind == b"tRNS"), b"")
    exif = next((content for kind, content in chunks if kind == b"eXIf"), None) or raw_exif(chunks)
    cleaned = [_cleaned(kind, content) for kind, content in chunks]
    dropped = [raw_profile_name(*chunk) for chunk, clean in zip(chunks, cleaned, strict=True) if not clean]
    notes += [f"the PNG's raw profile {name} is not readable and was dropped" for name in dropped if name]
    first = kinds.index(b"IDAT")
    file = PngFile(
        raster=_raster(chunks[0][1], palette, transparent, image_data),
        orientation=metadata.exif_orientation(exif),
        colour_type=colour_type,
        depth=depth,
        before=tuple(chunk for chunk in cleaned[:first] if chunk),
        after=tuple(chunk for chunk in cleaned[first:] if chunk),
        notes=tuple(dict.fromkeys(notes)),
    )
    xmp_notes: tuple[str, ...] = ()

    def clean(packets: tuple[bytes, ...]) -> tuple[bytes, ...]:
        nonlocal xmp_notes
        result = clean_xmp(*packets)
        xmp_notes = result.notes()
        return result.packets

    file = file.with_xmp(clean)
    return replace(file, notes=(*file.notes, *xmp_notes))


FORMAT = ImageFormat(sniff, read)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", checksum)


def _chunks(data: bytes) -> tuple[list[tuple[bytes, bytes]], list[str]]:
    """(type, data) of every chunk up to IEND, which is left out; notes of ancillary chunks with a wrong checksum.

    Those are passed over, as libpng does.
    """
    chunks: list[tuple[bytes, bytes]] = []
    notes: list[str] = []
    position = len(_SIGNATURE)
    while True:
        if position + 12 > len(data):
            raise damaged("PNG", "it is cut off before its end")
        length, kind = struct.unpack_from(">L4s", data, position)
        content = data[position + 8 : position + 8 + length]
        checksum = data[position + 8 + length : position + 12 + length]
        if len(checksum) < 4:
            raise damaged("PNG", "it is cut off before its end")
        if zlib.crc32(content, zlib.crc32(kind)) != int.from_bytes(checksum, "big"):
            wrong = f"the checksum of its {kind.decode('latin-1')} chunk is wrong"
            if not (chunks and kind.isalpha() and kind[0] & 0x20) or kind in _OF_ANIMATIONS:
                raise damaged("PNG", wrong)
            notes.append(
                f"the checksum of the PNG's {kind.decode('latin-1')} chunk is wrong, and the chunk was dropped"
            )
        elif kind == b"IEND":
            if not chunks:
                raise damaged("PNG", "it is empty")
            return chunks, notes
        else:
            chunks.append((kind, content))
        if len(chunks) + len(notes) > MAX_PARTS:
            raise damaged("PNG", f"it has more than {MAX_PARTS:,} chunks")
        position += 12 + length


def _check_image_data(compressed: bytes, width: int, height: int, bits: int, interlace: int) -> None:
    """Raise where too little was compressed: decoders fill up with black or grey if they are told to."""
    passes = [(0, 0, 1, 1)] if not interlace else _ADAM7
    expected = 0
    for column, row, across, down in passes:
        columns, rows = -(-(width - column) // across), -(-(height - row) // down)
        if columns > 0 and rows > 0:
            expected += rows * (1 + (columns * bits + 7) // 8)
    inflater, got, view = zlib.decompressobj(), 0, memoryview(compressed)
    for start in range(0, len(view), _SLICE):
        # In small pieces: what a call does not consume is copied.
        piece: bytes | memoryview = view[start : start + _SLICE]
        while got < expected and piece and not inflater.eof:
            got += len(inflater.decompress(piece, 2**20))
            piece = inflater.unconsumed_tail
        if got >= expected or inflater.eof:
            break
    if got < expected:
        raise damaged("PNG", "it has too little image data")


def _raster(header: bytes, palette: bytes, transparent: bytes, image_data: bytes) -> Raster:
    depth, colour_type = header[8], header[9]
    # Without the other chunks: Pillow would parse metadata, OpenCV would turn tRNS into a channel.
    colours = [(b"PLTE", palette)] if colour_type == _PALETTE else []
    parts = [(b"IHDR", header), *colours, (b"IDAT", image_data), (b"IEND", b"")]
    plain = _SIGNATURE + b"".join(_chunk(kind, content) for kind, content in parts)
    samples: Samples
    if depth == 16:
        mode, samples = _MODES_16[colour_type], _samples_16(plain, colour_type)
    else:
        mode = "1" if (colour_type, depth) == (_GREY, 1) else _MODES[colour_type]
        samples = channels_last(open_image(plain, "PNG"))
    if colour_type == _PALETTE:
        return Raster(samples, mode, palette=_rgba_palette(palette, transparent))
    # Grey of fewer than 8 bits is scaled to 0..255 here, as Pillow does.
    step = 255 // (2**depth - 1) if depth < 8 else 1
    key = None
    if transparent and len(transparent) == 2 * samples.shape[2]:
        key = tuple((value & (2**depth - 1)) * step for (value,) in struct.iter_unpack(">H", transparent))
    if samples.dtype == np.uint16:
        return with_own_range(samples.astype(np.uint16, copy=False), mode, key)
    return Raster(samples, mode, key=key, step=step)


def _samples_16(plain: bytes, colour_type: int) -> NDArray[np.uint16]:
    decoded = cv2.imdecode(np.frombuffer(plain, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        raise damaged("PNG", "its image data cannot be decoded")
    samples = decoded.reshape(*decoded.shape[:2], -1)
    match colour_type, samples.shape[2]:
        case 2, 3:
            samples = samples[..., ::-1]
        case 6, 4:
            samples = samples[..., [2, 1, 0, 3]]
        case 4, 4:  # OpenCV shows grey and alpha as colour and alpha.
            samples = samples[..., [0, 3]]
        case 0, 1:
            pass
        case _:
            raise damaged("PNG", "its image data cannot be decoded")
    return np.array(samples, dtype=np.uint16, order="C")


def _rgba_palette(palette: bytes, transparent: bytes) -> UInt8:
    if not palette or len(palette) % 3 or len(palette) > 768:
        raise damaged("PNG", "its palette is missing or of a wrong size")
    colours = np.frombuffer(palette, np.uint8).reshape(-1, 3)
    alpha = np.full((len(colours), 1), 255, np.uint8)
    given = np.frombuffer(transparent[: len(colours)], np.uint8)
    alpha[: len(given), 0] = given
    return np.concatenate([colours, alpha], axis=1)


def _cleaned(kind: bytes, content: bytes) -> tuple[bytes, bytes] | None:
    """The chunk as it is written again, or None."""
    unsafe_to_copy = not kind[3] & 0x20
    if kind in (b"IHDR", b"IDAT", *_OF_ANIMATIONS) or (unsafe_to_copy and kind not in (*_STAY_RIGHT, *_STAY_RIGHT_TOO)):
        return None
    # Content credentials hold thumbnails of the old picture.
    if kind == b"caBX":
        return None
    if kind == b"eXIf":
        return kind, metadata.without_exif_thumbnail(content)
    return cleaned_text(kind, content)


def _packed(samples: Samples, colour_type: int, depth: int) -> UInt8:
    """(H, row bytes) of the samples, with `depth` bits each."""
    height = samples.shape[0]
    if depth == 16:
        return samples.astype(">u2").view(np.uint8).reshape(height, -1)
    values = samples.astype(np.uint8).reshape(height, -1)
    if depth == 8:
        return values
    if colour_type == _GREY:
        steps = 2**depth - 1
        values = ((values.astype(np.uint16) * steps + 127) // 255).astype(np.uint8)
    bits = (values[..., None] >> np.arange(depth - 1, -1, -1, dtype=np.uint8)) & 1
    return np.packbits(bits.reshape(height, -1), axis=1)


def _unfiltered(rows: UInt8) -> bytes:
    return np.pad(rows, ((0, 0), (1, 0))).tobytes()


def _filtered(rows: UInt8, pixel_bytes: int, block: int = 256) -> bytes:
    """Rows with their filter bytes; of Sub, Up and Paeth each gets the one with the smallest sum (PNG 12.7)."""
    parts = []
    for top in range(0, len(rows), block):
        current = rows[top : top + block]
        above = np.concatenate([rows[top - 1 : top] if top else np.zeros_like(rows[:1]), current[:-1]])
        left, above_left = (np.pad(part, ((0, 0), (pixel_bytes, 0)))[:, :-pixel_bytes] for part in (current, above))
        candidates = (current - left, current - above, current - _paeth(left, above, above_left))
        sums = np.stack([np.abs(candidate.view(np.int8).astype(np.int16)).sum(1) for candidate in candidates])
        best = sums.argmin(0)
        chosen = np.choose(best[:, None], candidates)
        filters = np.array([1, 2, 4], np.uint8)[best]
        parts.append(np.concatenate([filters[:, None], chosen], axis=1).tobytes())
    return b"".join(parts)


def _paeth(left: UInt8, above: UInt8, above_left: UInt8) -> UInt8:
    """The PaethPredictor of PNG 9.4."""
    a, b, c = (part.astype(np.int16) for part in (left, above, above_left))
    to_a, to_b, to_c = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    return np.where((to_a <= to_b) & (to_a <= to_c), left, np.where(to_b <= to_c, above, above_left))
