"""From stored images to batches, in an order that follows from the seed alone.

Which images make up a step, how they are flipped and cropped and which holes they get depend on the seed, the epoch
and the step, and not on the number of workers: worker r of N takes the r-th of N parts of each batch. So there is no
random state to keep: a run goes on from any step with the samples that it would have had.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inpaint_core.errors import ConfigError
from inpaint_core.hole_masks.sampler import HoleSampler
from inpaint_core.networks.spec import IMAGE_SIZE
from inpaint_core.prefetch import prefetch

# Images are shuffled within windows of this many: a window of 128x128 images takes 800 MB, and on one node that
# memory is the object store's own. Windows are made of blocks in random order, so that epochs differ throughout.
_WINDOW_IMAGES = 16_384
_PREFETCHED_BATCHES = 4


class ImageBlocks:
    """Images in blocks, of which few are held at a time.

    Args:
        sizes: number of images in each block.
        fetch: gives a block, (n, side, side, 3) uint8, which is only read.
        keep: blocks that are held after their use, most recent first.
    """

    def __init__(self, sizes: Sequence[int], fetch: Callable[[int], NDArray[np.uint8]], *, keep: int = 64) -> None:
        self.sizes = list(sizes)
        self._starts = np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)
        self._fetch = fetch
        self._keep = keep
        self._held: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()

    @classmethod
    def of(cls, images: NDArray[np.uint8], *, size: int = 256) -> ImageBlocks:
        """Blocks of images that are in memory, (n, side, side, 3) uint8."""
        parts = [images[start : start + size] for start in range(0, len(images), size)]
        return cls([len(part) for part in parts], parts.__getitem__)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images of some indices, in their order: a new array (n, side, side, 3) uint8."""
        blocks = np.searchsorted(self._starts, indices, side="right") - 1
        rows = indices - self._starts[blocks]
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

    def _block(self, block: int) -> NDArray[np.uint8]:
        if block not in self._held:
            self._held[block] = self._fetch(block)
            while len(self._held) > self._keep:
                self._held.popitem(last=False)
        self._held.move_to_end(block)
        return self._held[block]

    def shuffled(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """All indices in random order: blocks first, then images within windows of blocks, so that few blocks are held."""
        windows: list[list[NDArray[np.int64]]] = [[]]
        for block in rng.permutation(len(self.sizes)):
            if sum(map(len, windows[-1])) >= _WINDOW_IMAGES:
                windows.append([])
            windows[-1].append(np.arange(self._starts[block], self._starts[block + 1]))
        # As many as one window has: those of the last one, used least recently, make room for those of the next.
        self._keep = max(map(len, windows))
        return np.concatenate([rng.permutation(np.concatenate(window)) for window in windows])


@dataclass(frozen=True)
class Batch:
    """One worker's part of a step, on the CPU.

    `images` is (B, 3, side, side) uint8 (in channels_last memory); `flips` (B,) bool says which are mirrored;
    `corners` (B, 2) int64 is top and left of each 128x128 crop; `masks` (B, 1, 128, 128) bool, True = fill, or None for
    the square in the middle.
    """

    images: Tensor
    flips: Tensor
    corners: Tensor
    masks: Tensor | None

    def pinned(self) -> Batch:
        """The same in page-locked memory, which a GPU copies from while its host goes on."""
        masks = None if self.masks is None else self.masks.pin_memory()
        return Batch(self.images.pin_memory(), self.flips.pin_memory(), self.corners.pin_memory(), masks)


class BatchStream:
    """The batches of one worker.

    Args:
        blocks: all training images.
        held_out: indices of images that are not trained on.
        batch: images of a step over all workers.
        rank, ranks: which worker this is, of how many; `batch` is a multiple of `ranks`.
        seed: everything random follows from it.
        holes: what draws holes; None for the square in the middle.
        pin: whether batches are page-locked (`Batch.pinned`), by the thread that makes them: where a GPU takes them.

    Raises:
        ConfigError: there are fewer images than one batch takes.
    """

    def __init__(
        self,
        blocks: ImageBlocks,
        *,
        held_out: NDArray[np.int64],
        batch: int,
        rank: int,
        ranks: int,
        seed: int,
        holes: HoleSampler | None,
        pin: bool = False,
    ) -> None:
        if batch % ranks:
            raise ConfigError(
                f"batch: {batch} images cannot be divided among {ranks} workers; give a multiple of {ranks}"
            )
        self._blocks = blocks
        self._held_out = held_out
        self._batch = batch
        self._part = slice(rank * (batch // ranks), (rank + 1) * (batch // ranks))
        self._seed = seed
        self._holes = holes
        self._pin = pin
        self.images = len(blocks) - len(held_out)
        self.steps = self.images // batch
        """Steps of an epoch: the same on every worker; what is left over has its turn in another epoch."""
        if self.steps < 1:
            raise ConfigError(
                f"data: {self.images} training images are fewer than one batch of {batch}; give more, or lower batch"
            )

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from a step on, prefetched by a thread."""
        return prefetch(self._batches(epoch, first_step), _PREFETCHED_BATCHES)

    def _batches(self, epoch: int, first_step: int) -> Iterator[Batch]:
        order = self._blocks.shuffled(np.random.default_rng((self._seed, epoch)))
        order = order[~np.isin(order, self._held_out)]
        for step in range(first_step, self.steps):
            positions = np.arange(step * self._batch, (step + 1) * self._batch)[self._part]
            images = self._blocks.gather(order[positions])
            batch = self._augmented(images, epoch, positions)
            yield batch.pinned() if self._pin else batch

    def _augmented(self, images: NDArray[np.uint8], epoch: int, positions: NDArray[np.int64]) -> Batch:
        room = images.shape[1] - IMAGE_SIZE + 1
        flips, corners, masks = [], [], []
        for position in positions:
            # numpy pads seeds with zeros: position 0 would draw the numbers that made the epoch's order.
            rng = np.random.default_rng((self._seed, epoch, 1 + int(position)))
            flips.append(rng.random() < 0.5)
            corners.append(rng.integers(0, room, 2))
            if self._holes is not None:
                masks.append(self._holes(rng))
        return Batch(
            images=torch.from_numpy(images).permute(0, 3, 1, 2),
            flips=torch.tensor(flips),
            corners=torch.from_numpy(np.stack(corners)),
            masks=torch.from_numpy(np.stack(masks))[:, None] if masks else None,
        )


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
