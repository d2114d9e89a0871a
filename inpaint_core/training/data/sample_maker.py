"""What a sample needs besides its stored image: a hole, and the decoding of its file. Without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inpaint_core.errors import ImageError
from inpaint_core.hole_masks.keyed_random import Keys
from inpaint_core.hole_masks.sampler import HoleSampler

FileFailure = tuple[int, str]
"""Row of a file that cannot be used, and the reason in a sentence."""


@dataclass(frozen=True)
class Made:
    """Parts of samples."""

    masks: NDArray[np.bool_] | None
    """(n, size, size) bool, True = hole; None where all have the same."""
    images: NDArray[np.uint8] | None
    """(n, side, side, 3) uint8; None where they were decoded before."""
    failures: list[FileFailure]
    """Rows of `images` that hold nothing."""


@dataclass(frozen=True)
class SampleMaker:
    """Draws holes and decodes files. May be pickled.

    Args:
        holes: what draws the holes; None: none are needed.
        side: of the decoded images in pixels; None: there are no files to decode.
        max_pixels: photographs with more pixels are refused.
    """

    holes: HoleSampler | None
    side: int | None = None
    max_pixels: int = 0

    def nbytes(self, samples: int) -> int:
        """Bytes of what is made of so many samples."""
        masks = self.holes.size**2 if self.holes is not None else 0
        return samples * (masks + (3 * self.side**2 if self.side is not None else 0))

    def empty(self, samples: int, buffer: memoryview | None = None) -> Made:
        """Arrays for so many samples, in a buffer of at least `nbytes`, or in new memory."""
        space = np.frombuffer(buffer, np.uint8) if buffer is not None else np.empty(self.nbytes(samples), np.uint8)
        masks, images, used = None, None, 0
        if self.side is not None:
            used = samples * 3 * self.side**2
            images = space[:used].reshape(samples, self.side, self.side, 3)
        if self.holes is not None:
            size = self.holes.size
            masks = space[used : used + samples * size**2].view(np.bool_).reshape(samples, size, size)
        return Made(masks, images, [])

    def __call__(self, keys: Keys, files: Sequence[bytes | str], made: Made) -> None:
        """Fill what `empty` gave for as many samples as there are keys.

        Args:
            keys: (n,) of the holes.
            files: of the images; a text is the reason why there is none. Empty where nothing is decoded.
            made: its arrays and its list are written.
        """
        if self.holes is not None and made.masks is not None:
            made.masks[:] = self.holes(keys)
        if self.side is None or made.images is None:
            return
        from inpaint_core.images.collections.photographs import decode_square  # the decoders, where there are files

        for row, data in enumerate(files):
            if isinstance(data, str):
                made.failures.append((row, data))
                continue
            try:
                made.images[row] = decode_square(data, self.side, max_pixels=self.max_pixels)
            except ImageError as error:
                made.failures.append((row, error.reason))
