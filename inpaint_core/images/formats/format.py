"""What a module of this package offers to decoding and encoding, and what its reader returns."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inpaint_core.images.formats.samples import Raster, UInt8


class SourceFile(Protocol):
    """A file taken apart, which can put itself together again. Everything is in stored orientation."""

    @property
    def raster(self) -> Raster:
        """The samples as the file stores them."""
        ...

    @property
    def orientation(self) -> int:
        """EXIF orientation, 1 to 8: how the stored image is turned to be displayed."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out or passed over, each as a sentence without its full stop, for the record's note."""
        ...

    def pixels(self) -> UInt8:
        """The image over white, (H, W, 3) uint8 RGB."""
        ...

    def write(self, fill: UInt8, mask: NDArray[np.bool_], quality: int | None) -> bytes:
        """The file with other pixels where the mask is True; everything else stays as it is, as far as the codec can.

        Args:
            fill: (H, W, 3) uint8 RGB; values outside the mask are not read.
            mask: (H, W) bool, True = take the pixel from `fill`.
            quality: 1 to 100, of lossy WebP and AVIF; None: about the one that the file was coded with.

        Raises:
            OSError, ValueError and others that `inpaint_core.images.encode` turns into ImageError.
        """
        ...


class ImageFormat(Protocol):
    """A file format: a module of this package with these names."""

    @property
    def NAME(self) -> str:
        """What records and messages call it: upper case."""
        ...

    @property
    def EXTENSIONS(self) -> tuple[str, ...]:
        """Usual endings of file names, lower case, without the dot. Files are told apart by their content alone."""
        ...

    @property
    def MEDIA_TYPE(self) -> str:
        """Such as `image/png`."""
        ...

    def sniff(self, data: bytes, /) -> bool:
        """Whether a file starts as one of this format; no two formats say so of the same file."""
        ...

    def read(self, data: bytes, max_pixels: int, /) -> SourceFile:
        """Take a file apart.

        Raises:
            ImageError: stage `decode`; too large, damaged, several frames, or not to be written again as it is.
            OSError, ValueError and others that `inpaint_core.images.decode` turns into ImageError.
        """
        ...
