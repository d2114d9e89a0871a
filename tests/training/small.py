"""Training small enough for tests: real photographs, narrow networks, few steps."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inpaint_core.networks.spec import ContextEncoderSpec
from inpaint_core.storage import Storage, open_storage
from inpaint_core.training.checkpoint import load_state
from inpaint_core.training.config import DiscriminatorConfig, LossConfig, OptimiserConfig, TrainConfig, ValidationConfig
from inpaint_core.training.data.blocks import ImageBlocks, held_out
from inpaint_core.training.data.samples import Batch
from inpaint_core.training.loop import TrainingLoop
from inpaint_core.training.sync_points import Notice
from inpaint_core.training.training_data import TrainingData
from inpaint_core.training.worker_context import WorkerContext
from tests.samples import photograph

CPU = WorkerContext(torch.device("cpu"))
SEEN = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


@cache
def photographs(count: int, size: int = 128) -> NDArray[np.uint8]:
    """(count, size, size, 3) crops of four photographs, read-only."""
    images = np.stack([photograph((size, size), SEEN[number % len(SEEN)], seed=number) for number in range(count)])
    images.flags.writeable = False
    return images


def config(output: str = "unused", **changes: Any) -> TrainConfig:
    """A run of small networks with all parts of the loss that the published models have."""
    small = TrainConfig(
        output=output,
        epochs=2,
        batch=4,
        network=ContextEncoderSpec(bottleneck=16, width=4),
        discriminator=DiscriminatorConfig(width=4),
        loss=LossConfig(l1=0.3, ssim=0.7),
        optimiser=OptimiserConfig(warmup_steps=2),
        validation=ValidationConfig(images=3, pictures=2),
    )
    return replace(small, **changes)


def batch_of(images: NDArray[np.uint8], masks: NDArray[np.bool_] | None = None) -> Batch:
    """The images as they are, with their holes, (n, S, S)."""
    count = len(images)
    return Batch(
        images=torch.from_numpy(images.copy()).permute(0, 3, 1, 2),
        flips=torch.zeros(count, dtype=torch.bool),
        corners=torch.zeros(count, 2, dtype=torch.int64),
        masks=None if masks is None else torch.from_numpy(masks)[:, None],
    )


def data_of(settings: TrainConfig, count: int = 16) -> TrainingData:
    """`count` photographs in blocks of 5, some of them held out for validation."""
    blocks = ImageBlocks.of(photographs(count, settings.reading.stored_size), size=5)
    indices = held_out(len(blocks), settings.validation.images)
    return TrainingData(blocks, indices, blocks, indices, objects=None)


def run_of(
    settings: TrainConfig,
    storage: Storage,
    *,
    context: WorkerContext = CPU,
    count: int = 16,
    print_line: Callable[[str], None] = lambda line: None,
    report: Callable[[dict[str, Any]], None] = lambda row: None,
    check: Callable[[], None] = lambda: None,
    initial: bytes | None = None,
    notice: Callable[[], Notice] = Notice,
) -> TrainingLoop:
    """The run of a config, from where its output stands."""
    data, state = data_of(settings, count), load_state(storage, context.device)
    return TrainingLoop(
        settings,
        context,
        storage,
        data,
        state,
        print_line=print_line,
        report=report,
        check=check,
        initial=initial,
        notice=notice,
    )


def folder(path: Path) -> Storage:
    """The storage of a local folder."""
    return open_storage(str(path))


def copied(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state of a network as it is now."""
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two states agree bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
