"""What a module of this package offers to decoding and encoding, and what its reader returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from inpaint_core.images.formats.samples import Raster, UInt8

XmpEdit = Callable[[tuple[bytes, ...]], tuple[bytes, ...]]
"""From the XMP packets of a file to as many; empty ones stay empty, and none becomes longer."""


@dataclass(frozen=True)
class Written:
    """A file that `SourceFile.write` has put together."""

    data: bytes
    changed: NDArray[np.bool_] | None = None
    """(H, W) bool: the pixels whose samples are not kept by the format itself; None: those of the mask."""
    notes: tuple[str, ...] = ()
    """Remarks for the record."""


class SourceFile(Protocol):
    """A file taken apart, which can put itself together again. Everything is in stored orientation.

    A file may have an attribute `notes`, a tuple of remarks for its record: what is odd about it, and what is not written again.
    """

    @property
    def raster(self) -> Raster:
        """The samples as the file stores them."""
        ...

    @property
    def orientation(self) -> int:
        """EXIF orientation, 1 to 8: how the stored image is turned to be displayed."""
        ...

    def pixels(self) -> UInt8:
        """The image, (H, W, 3) uint8 RGB; (H, W, 4) RGBA, straight alpha, where some pixel is not opaque."""
        ...

    def write(self, fill: UInt8, mask: NDArray[np.bool_], quality: int | None) -> bytes | Written:
        """The file with other pixels where the mask is True; everything else stays as it is, as far as the codec can.

        Args:
            fill: (H, W, 3) uint8 RGB, which keeps the alpha of the image, or (H, W, 4) RGBA, straight alpha, where
                `pixels` has it; values outside the mask are not read.
            mask: (H, W) bool, True = take the pixel from `fill`.
            quality: 1 to 100, of lossy WebP, AVIF and HEIC; None: about the one that the file was coded with.

        Returns:
            The bytes, or more about them.

        Raises:
            OSError, ValueError and others that `inpaint_core.images.encode` turns into ImageError.
        """
        ...


@runtime_checkable
class FileWithXmp(Protocol):
    """A `SourceFile` of a format that can hold XMP."""

    def with_xmp(self, edit: XmpEdit) -> Self:
        """The file with its XMP packets edited."""
        ...


@dataclass(frozen=True)
class ImageFormat:
    """`FORMAT` of a module of this package: the functions that know a file format. Its names are in `media_types`."""

    sniff: Callable[[bytes], bool]
    """Whether a file starts as one of this format; no two formats say so of the same file."""
    read: Callable[[bytes, int], SourceFile]
    """Take apart a file (all its bytes) of no more than so many pixels.

    Raises:
        ImageError: stage `decode`; too large, damaged, several frames, or not to be written again as it is.
        OSError, ValueError and others that `inpaint_core.images.decode` turns into ImageError.
    """
    pixel_count: Callable[[bytes], int] | None = None
    """Number of pixels of a file by its header; None: Pillow reads the format, and the number."""
