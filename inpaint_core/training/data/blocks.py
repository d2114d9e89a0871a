"""Training images in blocks, and the order in which an epoch takes them. Without torch.

A block is a group of images that is stored and fetched as one: on Ray, an object of its object store, with decoded images
(`on_ray/reading.py`: a block of Ray Data) or with files (`on_ray/files.py`). A worker holds few of them at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from inpaint_core.errors import ConfigError
from inpaint_core.prefetch import KeyedPrefetch

_B = TypeVar("_B")

# Images are shuffled within windows of this many: a window of 128x128 images takes 800 MB, and on one node that
# memory is the object store's own. Windows are made of blocks in random order, so that epochs differ throughout.
_WINDOW_IMAGES = 16_384


class File(NamedTuple):
    """A photograph as it was stored: its key, and its bytes or a sentence that says why there are none."""

    key: str
    data: bytes | str


@dataclass(frozen=True)
class EpochOrder:
    """The order of an epoch: windows one after the other."""

    windows: list[NDArray[np.int64]]
    """Indices of images; each window's are shuffled together."""
    blocks: list[list[int]]
    """The blocks that the images of each window lie in."""


class Blocks(Generic[_B]):
    """A cache of blocks, by their number, that holds the most recently used.

    Args:
        sizes: number of images in each block.
        fetch: gives a block, which is only read.
        keep: blocks that are held after their use, most recent first.
        threads: that fetch what is asked for before it is used; 0: nothing is.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        fetch: Callable[[int], _B],
        *,
        keep: int = 64,
        threads: int = 0,
    ) -> None:
        self.sizes = list(sizes)
        self._starts = np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)
        self._prefetch = KeyedPrefetch(fetch, threads)
        self._keep = keep
        self._held: OrderedDict[int, _B] = OrderedDict()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def ask(self, blocks: Sequence[int]) -> None:
        """Begin to fetch blocks that are wanted next, and no others."""
        self._prefetch.expect([block for block in blocks if block not in self._held])

    def close(self) -> None:
        """Fetch nothing more that was asked for."""
        self._prefetch.close()

    def epoch_order(self, rng: np.random.Generator) -> EpochOrder:
        """All indices in random order: blocks first, then images within windows of blocks, so that few blocks are held."""
        windows = self._windows(rng)
        # As many as one window has: those of the last one, used least recently, make room for those of the next.
        self._keep = max(map(len, windows))
        ranges = [[np.arange(self._starts[block], self._starts[block + 1]) for block in window] for window in windows]
        return EpochOrder([rng.permutation(np.concatenate(window)) for window in ranges if window], windows)

    def first_blocks(self, rng: np.random.Generator) -> list[int]:
        """The blocks of the first window of the epoch whose order follows from `rng`."""
        return self._windows(rng)[0]

    def _windows(self, rng: np.random.Generator) -> list[list[int]]:
        windows: list[list[int]] = [[]]
        images = 0
        for block in rng.permutation(len(self.sizes)).tolist():
            if images >= _WINDOW_IMAGES:
                windows.append([])
                images = 0
            windows[-1].append(block)
            images += self.sizes[block]
        return windows

    def _located(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Block and row of each image."""
        blocks = np.searchsorted(self._starts, indices, side="right") - 1
        return blocks, indices - self._starts[blocks]

    def _block(self, block: int) -> _B:
        if block not in self._held:
            self._held[block] = self._prefetch.take(block)
            while len(self._held) > self._keep:
                self._held.popitem(last=False)
        self._held.move_to_end(block)
        return self._held[block]


class ImageBlocks(Blocks[NDArray[np.uint8]]):
    """Decoded images: blocks are (n, side, side, 3) uint8."""

    @classmethod
    def of(cls, images: NDArray[np.uint8], *, size: int = 256) -> ImageBlocks:
        """Blocks of images that are in memory, (n, side, side, 3) uint8."""
        parts = [images[start : start + size] for start in range(0, len(images), size)]
        return cls([len(part) for part in parts], parts.__getitem__)

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images of some indices, in their order: a new array (n, side, side, 3) uint8."""
        blocks, rows = self._located(indices)
        images: NDArray[np.uint8] | None = None
        for block in np.unique(blocks):
            of_block = np.flatnonzero(blocks == block)
            stored = self._block(int(block))
            if images is None:
                images = np.empty((len(indices), *stored.shape[1:]), dtype=np.uint8)
            images[of_block] = stored[rows[of_block]]
        if images is None:
            raise ValueError("No indices are given.")
        return images


class FileBlocks(Blocks[Sequence[File]]):
    """Photographs as their files, which are decoded when they are used.

    Args:
        size: side of the square that a photograph is brought to, in pixels.
        max_pixels: photographs with more pixels cannot be used.
        max_failed: the largest part of the photographs that may turn out to be unusable.
        sizes, fetch, keep, threads: see `Blocks`.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        fetch: Callable[[int], Sequence[File]],
        *,
        size: int,
        max_pixels: int,
        max_failed: float,
        keep: int = 64,
        threads: int = 0,
    ) -> None:
        super().__init__(sizes, fetch, keep=keep, threads=threads)
        self.size = size
        self.max_pixels = max_pixels
        self.max_failed = max_failed

    def gather(self, indices: NDArray[np.int64]) -> list[File]:
        """The files of some indices, in their order."""
        blocks, rows = self._located(indices)
        return [self._block(block)[row] for block, row in zip(blocks.tolist(), rows.tolist(), strict=True)]

    def beside(self, index: int) -> list[int]:
        """The other images of an image's block, nearest first after it: what stands in for one that cannot be used."""
        block = int(self._located(np.array([index]))[0][0])
        start, size = int(self._starts[block]), self.sizes[block]
        return [start + (index - start + step) % size for step in range(1, size)]


def held_out(total: int, images: int) -> NDArray[np.int64]:
    """Indices of `images` images of `total`, evenly spread, that are kept for validation.

    Raises:
        ConfigError: less than half would be left to train on.
    """
    if images > total // 2:
        raise ConfigError(
            f"validation.images: {images} of the {total} images of data would be held out; lower it, or give "
            "validation.data"
        )
    return np.unique(np.linspace(0, total - 1, images).round().astype(np.int64))
