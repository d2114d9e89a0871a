"""Validation of the generator after each epoch: the same images with the same holes, by all workers together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inpaint_core.hole_masks.kinds import HoleKind
from inpaint_core.hole_masks.sampler import evaluation_holes
from inpaint_core.hole_masks.shapes import ObjectShapes
from inpaint_core.images.collections.photographs import middle_square
from inpaint_core.images.tensors import channels_first, from_network, to_network
from inpaint_core.metrics.protocols import MetricSums, measure
from inpaint_core.networks.compositing import hide
from inpaint_core.networks.spec import IMAGE_SIZE
from inpaint_core.training.data.blocks import ImageBlocks
from inpaint_core.training.history import picture_grid
from inpaint_core.training.step import AdversarialStep
from inpaint_core.training.worker_context import WorkerContext

# Holes of the validation do not change with the seed of a run, so that runs can be compared.
_HOLE_SEED = 0
_BATCH = 64


class Validation:
    """The validation images of one worker.

    Args:
        blocks: the images.
        indices: those of `blocks` that are judged by.
        kinds: kinds of holes; image i has the hole i of kind i modulo their number.
        masked: whether the network is given the mask (`full`), or knows its square (`center`).
        objects: shapes of real objects, for holes of that kind.
        size: side in pixels that the images are brought to: that of the network.
        pictures: images in the picture grid.
        context: this worker.
    """

    def __init__(
        self,
        blocks: ImageBlocks,
        indices: NDArray[np.int64],
        *,
        kinds: Sequence[HoleKind],
        masked: bool,
        objects: ObjectShapes | None,
        size: int = IMAGE_SIZE,
        pictures: int,
        context: WorkerContext,
    ) -> None:
        self._context = context
        self._masked = masked

        def samples(numbers: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
            """Images and holes of some of the indices."""
            if not len(numbers):
                return np.zeros((0, size, size, 3), np.uint8), np.zeros((0, size, size), np.bool_)
            holes = np.empty((len(numbers), size, size), dtype=np.bool_)
            for place, kind in enumerate(kinds):
                of_kind = np.flatnonzero(numbers % len(kinds) == place)
                holes[of_kind] = evaluation_holes(
                    kind, numbers[of_kind].tolist(), seed=_HOLE_SEED, objects=objects, size=size
                )
            # As `inpaint evaluate` sees them. A crop of images stored larger would show less of each, enlarged.
            images = np.stack([middle_square(image, size) for image in blocks.gather(indices[numbers])])
            return images, holes

        # Each worker gathers its own part, and the first one those that it shows.
        shown = np.unique(np.linspace(0, len(indices) - 1, pictures).round().astype(np.int64))
        self._shown = samples(shown if context.rank == 0 else shown[:0])
        self._mine = samples(np.arange(context.rank, len(indices), context.ranks))

    def judge(self, networks: AdversarialStep) -> dict[str, float]:
        """Means over all images of what `protocols.measure` gives; every worker gets the same."""
        sums = MetricSums()
        for truth, filled, mask in self._filled(networks, *self._mine):
            sums.add(measure(truth, filled, mask))
        return MetricSums.from_tensor(self._context.sum(sums.to_tensor())).means()

    def grid(self, networks: AdversarialStep) -> NDArray[np.uint8]:
        """What the network is shown, what it makes of it and the truth, image by image: (H, W, 3) uint8."""
        images, holes = self._shown
        filled = (
            torch.cat([filled for _, filled, _ in self._filled(networks, images, holes)])
            .permute(0, 2, 3, 1)
            .cpu()
            .numpy()
        )
        masks = torch.from_numpy(holes)[:, None] if self._masked else None
        return picture_grid([from_network(hide(to_network(images), masks)), filled, images])

    def _filled(
        self, networks: AdversarialStep, images: NDArray[np.uint8], holes: NDArray[np.bool_]
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for start in range(0, len(images), _BATCH):
            part = images[start : start + _BATCH]
            masks = torch.from_numpy(holes[start : start + _BATCH])[:, None].to(self._context.device)
            filled = from_network(
                networks.fill(to_network(part).to(self._context.device), masks if self._masked else None)
            )
            device = self._context.device
            yield channels_first(part).to(device), channels_first(filled).to(device), masks
