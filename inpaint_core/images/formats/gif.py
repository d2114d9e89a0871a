"""GIF with one frame: everything but the compressed indices of that frame is taken over."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inpaint_core.images.formats.codec import (
    channels_last,
    check_frames,
    check_size,
    damaged,
    from_channels_last,
    open_image,
    refused,
    saved,
)
from inpaint_core.images.formats.format import ImageFormat
from inpaint_core.images.formats.samples import Raster, UInt8, paint, show
from inpaint_core.images.metadata import previews as metadata

_INTERLACED = 0x40
_IDENTITY = np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes()


@dataclass(frozen=True)
class GifFile:
    """A GIF file taken apart. The frame may be smaller than the screen that it is shown on."""

    raster: Raster
    """The frame."""
    corner: tuple[int, int]
    """(row, column) of the frame's first pixel on the screen."""
    screen: tuple[int, int]
    """(height, width) of the image."""
    interlaced: bool
    before: bytes
    """All bytes up to the compressed indices, so with the frame's descriptor and its palette."""
    after: bytes
    """All bytes from behind them."""

    @property
    def frame(self) -> tuple[slice, slice]:
        """(rows, columns) of the screen that the frame covers."""
        height, width = self.raster.samples.shape[:2]
        row, column = self.corner
        return slice(row, row + height), slice(column, column + width)

    @property
    def orientation(self) -> int:
        """1: the format has none."""
        return 1

    def pixels(self) -> UInt8:
        """See `SourceFile.pixels`. What the frame leaves free of its screen is transparent."""
        frame = show(self.raster)
        if frame.shape[:2] == self.screen:
            return frame
        screen = np.zeros((*self.screen, 4), np.uint8)
        rows, columns = self.frame
        screen[rows, columns, : frame.shape[2]] = frame
        if frame.shape[2] == 3:
            screen[rows, columns, 3] = 255
        return screen

    def write(self, fill: UInt8, mask: NDArray[np.bool_], quality: int | None) -> bytes:
        """See `SourceFile.write`. What lies outside the frame is not in the file, and stays transparent."""
        samples = paint(self.raster, fill[self.frame], mask[self.frame])
        # As a grey image: Pillow would reorder a palette.
        coded = saved(from_channels_last(samples, "L"), "GIF", optimize=False, interlace=int(self.interlaced))
        frames, _, _ = _walk(coded, 13 + _palette_size(coded[10]))
        return self.before + coded[frames[0].data : frames[0].end] + self.after


@dataclass(frozen=True)
class _Frame:
    descriptor: int
    data: int
    end: int


def sniff(data: bytes) -> bool:
    """See `ImageFormat.sniff`."""
    return data.startswith((b"GIF87a", b"GIF89a"))


def read(data: bytes, max_pixels: int) -> GifFile:
    """Take a GIF file apart.

    Raises:
        ImageError: too large, more than one frame, cut off or damaged.
    """
    screen_width, screen_height, flags = struct.unpack_from("<HHB", data, 6)
    check_size(screen_width, screen_height, max_pixels)
    palette_bytes = _palette_size(flags)
    frames, transparent, end = _walk(data, 13 + palette_bytes)
    check_frames("GIF", len(frames))
    frame = frames[0]
    left, top, width, height, frame_flags = struct.unpack_from("<HHHHB", data, frame.descriptor + 1)
    check_size(width, height, max_pixels)
    if left + width > screen_width or top + height > screen_height:
        raise refused("The GIF file's frame reaches beyond its screen; it cannot be written again as it is.")
    local_bytes = _palette_size(frame_flags)
    palette_at, size = (frame.descriptor + 10, local_bytes) if local_bytes else (13, palette_bytes)
    colours = data[palette_at : palette_at + size] or _IDENTITY
    return GifFile(
        raster=Raster(
            _indices(data[frame.data : frame.end], width, height, frame_flags & _INTERLACED),
            "P",
            palette=_rgba_palette(colours, transparent),
        ),
        corner=(top, left),
        screen=(screen_height, screen_width),
        interlaced=bool(frame_flags & _INTERLACED),
        before=metadata.without_xmp_pictures(data[: frame.data]),
        after=metadata.without_xmp_pictures(data[frame.end : end]),
    )


FORMAT = ImageFormat(sniff, read)


def _palette_size(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _walk(data: bytes, position: int) -> tuple[list[_Frame], int | None, int]:
    """The frames, the transparent index that is in force for the first, and the end of the last block."""
    frames: list[_Frame] = []
    transparent: int | None = None
    while position < len(data):
        match data[position]:
            case 0x3B:
                return frames, transparent, position + 1
            case 0x21:
                if data[position + 1] == 0xF9 and not frames and data[position + 3] & 1:
                    transparent = data[position + 6]
                position = _blocks_end(data, position + 2)
            case 0x2C:
                image = position + 10 + _palette_size(data[position + 9])
                end = _blocks_end(data, image + 1)
                frames.append(_Frame(position, image, end))
                position = end
            case _:
                if frames:  # Bytes of no block after the image: written by some cameras, shown by no viewer.
                    return frames, transparent, position
                raise damaged("GIF", f"there is no block at byte {position}")
    if not frames:
        raise damaged("GIF", "it is cut off before its image")
    return frames, transparent, len(data)


def _blocks_end(data: bytes, position: int) -> int:
    while position < len(data):
        size = data[position]
        position += 1 + size
        if size == 0:
            return position
    raise damaged("GIF", "it is cut off before its end")


def _indices(image_data: bytes, width: int, height: int, interlaced: int) -> NDArray[np.uint8]:
    """(H, W, 1) indices. The frame is decoded alone, with a palette in which every index is its own grey."""
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF7, 0, 0) + _IDENTITY
    descriptor = b"," + struct.pack("<HHHHB", 0, 0, width, height, interlaced)
    return channels_last(open_image(screen + descriptor + image_data + b";", "GIF"))


def _rgba_palette(colours: bytes, transparent: int | None) -> UInt8:
    palette = np.full((len(colours) // 3, 4), 255, np.uint8)
    palette[:, :3] = np.frombuffer(colours, np.uint8, count=len(palette) * 3).reshape(-1, 3)
    if transparent is not None and transparent < len(palette):
        palette[transparent, 3] = 0
    return palette
