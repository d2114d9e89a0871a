"""The training and validation images of one worker, and what draws from them: batches and the validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inpaint_core.hole_masks.sampler import HoleSampler
from inpaint_core.hole_masks.shapes import ObjectShapes
from inpaint_core.training.config import TrainConfig
from inpaint_core.training.data.blocks import FileBlocks, ImageBlocks
from inpaint_core.training.data.samples import BatchStream
from inpaint_core.training.validation import Validation
from inpaint_core.training.worker_context import WorkerContext


@dataclass(frozen=True)
class TrainingData:
    """Training and validation data of a worker.

    Args:
        training: the images of `data`.
        held_out: indices of those that are kept for validation.
        validation: the images with those of the validation among them.
        validation_indices: which of them these are.
        objects: shapes of real objects, for holes of that kind.
    """

    training: ImageBlocks | FileBlocks
    held_out: NDArray[np.int64]
    validation: ImageBlocks
    validation_indices: NDArray[np.int64]
    objects: ObjectShapes | None

    def build_stream(self, config: TrainConfig, context: WorkerContext, feeders: int) -> BatchStream:
        """The batches of a worker.

        Args:
            config: the run's.
            context: the worker.
            feeders: processes that prepare its batches.

        Raises:
            ConfigError: there are too few images.
        """
        size = config.network.size
        holes = None
        if config.network.output == "full":
            holes = HoleSampler(config.holes.kinds, config.holes.weights, self.objects, size)
        return BatchStream(
            self.training,
            held_out=self.held_out,
            batch=config.global_batch,
            rank=context.rank,
            ranks=context.ranks,
            seed=config.seed,
            holes=holes,
            size=size,
            pin=context.device.type == "cuda",
            feeders=feeders,
        )

    def build_validation(self, config: TrainConfig, context: WorkerContext) -> Validation:
        """The worker's part of the validation."""
        return Validation(
            self.validation,
            self.validation_indices,
            kinds=config.holes.kinds,
            masked=config.network.output == "full",
            objects=self.objects,
            size=config.network.size,
            pictures=config.validation.pictures,
            context=context,
        )
