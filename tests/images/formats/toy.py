"""The shortest format: `TOY`, a byte of orientation, height and width, RGB; what follows is a remark."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inpaint_core.images.formats.codec import check_size, damaged
from inpaint_core.images.formats.format import ImageFormat
from inpaint_core.images.formats.samples import Raster, UInt8, paint, show


@dataclass(frozen=True)
class ToyFile:
    raster: Raster
    orientation: int
    remark: bytes
    notes: tuple[str, ...] = ()

    def pixels(self) -> UInt8:
        return show(self.raster)

    def write(self, fill: UInt8, mask: NDArray[np.bool_], quality: int | None) -> bytes:
        if quality == 13:
            raise OSError("a number that brings bad luck.")
        height, width = mask.shape
        header = struct.pack("<3sBHH", b"TOY", self.orientation, height, width)
        return header + paint(self.raster, fill, mask).tobytes() + self.remark


def sniff(data: bytes) -> bool:
    return data.startswith(b"TOY")


def read(data: bytes, max_pixels: int) -> ToyFile:
    orientation, height, width = struct.unpack_from("<BHH", data, 3)
    check_size(width, height, max_pixels)
    end = 8 + 3 * height * width
    if end > len(data):
        raise damaged("TOY", "it is cut off before its end")
    samples = np.frombuffer(data[8:end], np.uint8).reshape(height, width, 3)
    return ToyFile(Raster(samples, "RGB"), orientation, data[end:])


FORMAT = ImageFormat(sniff, read)
