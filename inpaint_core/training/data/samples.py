"""From stored images to batches, in an order that follows from the seed alone.

Which images make up a step, how they are flipped and cropped and which holes they get depend on the seed, the epoch
and the step, and not on the number of workers: worker r of N takes the r-th of N parts of each batch. So there is no
random state to keep: a run goes on from any step with the samples that it would have had.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inpaint_core.errors import ConfigError
from inpaint_core.hole_masks.keyed_random import child_keys, integers, sample_keys
from inpaint_core.hole_masks.sampler import HoleSampler
from inpaint_core.images.collections.sources import check_failures
from inpaint_core.networks.spec import IMAGE_SIZE
from inpaint_core.prefetch import prefetch
from inpaint_core.training.data.blocks import FileBlocks, ImageBlocks
from inpaint_core.training.data.feeders import Feeders, Inline, start_feeders
from inpaint_core.training.data.sample_maker import Made, SampleMaker

_PREFETCHED_BATCHES = 4


@dataclass(frozen=True)
class Batch:
    """One worker's part of a step, on the CPU.

    `images` is (B, 3, side, side) uint8 (in channels_last memory); `flips` (B,) bool says which are mirrored;
    `corners` (B, 2) int64 is top and left of each crop of size x size; `masks` (B, 1, size, size) bool, True = fill, or
    None for the square in the middle.
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
        blocks: all training images, decoded or as files.
        held_out: indices of images that are not trained on.
        batch: images of a step over all workers.
        rank, ranks: which worker this is, of how many; `batch` is a multiple of `ranks`.
        seed: everything random follows from it.
        holes: what draws holes; None for the square in the middle.
        size: side of the crops in pixels, as of the holes; no image is stored smaller.
        pin: whether batches are page-locked (`Batch.pinned`), by the thread that makes them: where a GPU takes them.
        feeders: processes that draw holes and decode files; 0: the thread that prefetches does. Samples are the same.

    Raises:
        ConfigError: there are fewer images than one batch takes.
    """

    def __init__(
        self,
        blocks: ImageBlocks | FileBlocks,
        *,
        held_out: NDArray[np.int64],
        batch: int,
        rank: int,
        ranks: int,
        seed: int,
        holes: HoleSampler | None,
        size: int = IMAGE_SIZE,
        pin: bool = False,
        feeders: int = 0,
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
        self._size = size
        self._pin = pin
        self.images = len(blocks) - len(held_out)
        self.steps = self.images // batch
        """Steps of an epoch: the same on every worker; what is left over has its turn in another epoch."""
        if self.steps < 1:
            raise ConfigError(
                f"data: {self.images} training images are fewer than one batch of {batch}; give more, or lower batch"
            )
        self._maker = SampleMaker(holes)
        if isinstance(blocks, FileBlocks):
            self._maker = SampleMaker(holes, blocks.size, blocks.max_pixels)
        self._start = partial(start_feeders, self._maker, feeders, batch // ranks)
        self._feeders: Feeders | Inline | None = None
        self.failures: dict[int, tuple[str, str]] = {}
        """Images that turned out to be unusable, so far on this worker: key and reason. Others stand in for them."""

    def close(self) -> None:
        """End the feeders, and what fetches blocks; the next epoch would start them again."""
        if self._feeders is not None:
            self._feeders.close()
            self._feeders = None
        self._blocks.close()

    def check_failures(self) -> None:
        """Raise ConfigError where more images are unusable than `FileBlocks.max_failed` allows."""
        if isinstance(self._blocks, FileBlocks):
            check_failures(len(self._blocks), list(self.failures.values()), self._blocks.max_failed)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from a step on, prefetched by a thread."""
        return prefetch(self._batches(epoch, first_step), _PREFETCHED_BATCHES)

    def _batches(self, epoch: int, first_step: int) -> Iterator[Batch]:
        feeders = self._feeders = self._feeders or self._start()
        wanted = self._indices(epoch, first_step)
        waiting: deque[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8] | None]] = deque()
        try:
            for step in range(first_step, self.steps):
                positions = np.arange(step * self._batch, (step + 1) * self._batch)[self._part]
                indices = next(wanted)
                images, files = None, []
                if isinstance(self._blocks, FileBlocks):
                    files = [file.data for file in self._blocks.gather(indices)]
                else:
                    images = self._blocks.gather(indices)
                feeders.submit(child_keys(self._keys(epoch, positions), 0), files)
                waiting.append((positions, indices, images))
                if len(waiting) >= feeders.room:
                    batch = self._batch_of(feeders.result(), epoch, *waiting.popleft())
                    yield batch.pinned() if self._pin else batch
            while waiting:
                batch = self._batch_of(feeders.result(), epoch, *waiting.popleft())
                yield batch.pinned() if self._pin else batch
        finally:
            feeders.drop()

    def _indices(self, epoch: int, first_step: int) -> Iterator[NDArray[np.int64]]:
        """The images of this worker's part of each step."""
        order = self._blocks.epoch_order(np.random.default_rng((self._seed, epoch)))
        left = first_step * self._batch  # to be skipped
        windows: list[tuple[NDArray[np.int64], list[int]]] = []
        for window, blocks in zip(order.windows, order.blocks, strict=True):
            indices = window[~np.isin(window, self._held_out)]
            if left < len(indices):
                windows.append((indices[left:], blocks))
            left = max(0, left - len(indices))
        rest = np.zeros(0, np.int64)
        following = [blocks for _, blocks in windows[1:]]
        following.append(self._blocks.first_blocks(np.random.default_rng((self._seed, epoch + 1))))
        for (indices, blocks), next_blocks in zip(windows, following, strict=True):
            self._blocks.ask([*blocks, *next_blocks])
            rest = np.concatenate([rest, indices])
            while len(rest) >= self._batch:
                yield rest[: self._batch][self._part]
                rest = rest[self._batch :]

    def _keys(self, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.uint64]:
        # Not (seed, epoch), which the order of the epoch is drawn from.
        return sample_keys((self._seed, epoch, 1), positions)

    def _batch_of(
        self,
        made: Made,
        epoch: int,
        positions: NDArray[np.int64],
        indices: NDArray[np.int64],
        images: NDArray[np.uint8] | None,
    ) -> Batch:
        self._replace_failures(made, indices)
        images = images if images is not None else made.images
        assert images is not None
        keys = self._keys(epoch, positions)
        corners = integers(keys[:, None], np.array([2, 3]), 0, images.shape[1] - self._size + 1)
        return Batch(
            images=torch.from_numpy(images).permute(0, 3, 1, 2),
            flips=torch.from_numpy(integers(keys, 1, 0, 2) == 1),
            corners=torch.from_numpy(corners),
            masks=torch.from_numpy(made.masks)[:, None] if made.masks is not None else None,
        )

    def _replace_failures(self, made: Made, indices: NDArray[np.int64]) -> None:
        """Put other images of the same blocks where files cannot be decoded: the same ones on any number of workers."""
        for row, reason in made.failures:
            assert isinstance(self._blocks, FileBlocks)
            assert made.images is not None
            index = int(indices[row])
            self._note(index, reason)
            for other in self._blocks.beside(index):
                if other in self._held_out or other in self.failures:
                    continue
                (file,) = self._blocks.gather(np.array([other]))
                alone = SampleMaker(None, self._maker.side, self._maker.max_pixels)
                found = alone.empty(1)
                alone(np.zeros(1, np.uint64), [file.data], found)
                if not found.failures and found.images is not None:
                    made.images[row] = found.images[0]
                    break
                self._note(other, found.failures[0][1])
            else:
                key, reason = self.failures[index]
                raise ConfigError(
                    f"data: none of the photographs next to {key} can be used ({reason.rstrip('.')}); repair or remove them"
                )

    def _note(self, index: int, reason: str) -> None:
        assert isinstance(self._blocks, FileBlocks)
        self.failures[index] = (self._blocks.gather(np.array([index]))[0].key, reason)
