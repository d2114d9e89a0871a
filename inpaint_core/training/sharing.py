"""How the workers of a run share its batch, and what follows from its size. Loads no torch."""

from __future__ import annotations

import math
from dataclasses import replace

from inpaint_core.errors import ConfigError
from inpaint_core.training.config import OptimiserConfig, TrainConfig
from inpaint_core.training.scaling_config import TrainScalingConfig

LEAST_SHARE = 16
"""Images of a worker from which BatchNorm does without those of the others (`scaling.sync_batchnorm=auto`): its error grows
quickly below (Wu and He 2018, "Group Normalization", figure 1)."""


def check_scaling(config: TrainConfig) -> None:
    """Refuse settings of workers and batch that do not go together, as far as that does not depend on the cluster.

    Raises:
        ConfigError: names them.
    """
    scaling, numbers = config.scaling, config.scaling.worker_range
    if config.batch is None and config.batch_per_worker is None:
        raise ConfigError("batch: null requires batch_per_worker; set one of them")
    if scaling.gpus_per_worker is not None and scaling.gpus_per_worker < 1 and scaling.workers not in (None, 1):
        raise ConfigError(
            f"scaling.gpus_per_worker: {scaling.gpus_per_worker:g} is for runs of one worker, since NCCL connects no two workers "
            "on one GPU; set scaling.workers=1, or gpus_per_worker=1"
        )
    if isinstance(scaling.workers, int):
        with_batch(config, scaling.workers)
    if numbers is None:
        return
    if config.batch_per_worker is not None:
        raise ConfigError(
            f"batch_per_worker: with scaling.workers={scaling.workers} the batch would change in the middle of the run; give "
            "batch alone"
        )
    least, most = numbers
    if any(config.global_batch % workers for workers in range(least, most + 1)):
        raise ConfigError(
            f"batch: {config.global_batch} images cannot be divided among each number of scaling.workers={scaling.workers}; "
            f"give a multiple of {math.lcm(*range(least, most + 1))}"
        )


def with_batch(config: TrainConfig, workers: int) -> TrainConfig:
    """The config with its `batch` as a number, and without `batch_per_worker`.

    Raises:
        ConfigError: `batch` is another than `batch_per_worker` times the workers.
    """
    if config.batch_per_worker is None:
        return config
    batch = config.batch_per_worker * workers
    if config.batch not in (None, batch):
        raise ConfigError(
            f"batch: {config.batch} contradicts batch_per_worker={config.batch_per_worker}, which is {batch} with {workers} "
            f"worker{'s' if workers > 1 else ''}; set batch=null, or batch_per_worker=null"
        )
    return replace(config, batch=batch, batch_per_worker=None)


def check_workers(config: TrainConfig, workers: int, *, gpu: bool) -> None:
    """Refuse a number of workers that the batch cannot be shared by.

    Args:
        config: the run's, with its batch as a number.
        workers: how many.
        gpu: whether they are on GPUs.

    Raises:
        ConfigError: names both.
    """
    batch = config.global_batch
    if batch % workers:
        raise ConfigError(
            f"batch: {batch} images cannot be divided among {workers} workers; give a multiple of {workers}"
        )
    if batch // workers < 2 and not synchronised(config.scaling, batch, workers, gpu=gpu):
        raise ConfigError(
            f"batch: {batch} images leave one for each of {workers} workers, but BatchNorm needs two; raise batch, or "
            "lower scaling.workers"
        )


def synchronised(scaling: TrainScalingConfig, batch: int, workers: int, *, gpu: bool) -> bool:
    """Whether BatchNorm sees the whole batch: as `scaling.sync_batchnorm` says, with `auto` where shares are small.

    Args:
        scaling: the settings.
        batch: images per step, over all workers.
        workers: how many.
        gpu: whether they are on GPUs, which alone can.
    """
    if scaling.sync_batchnorm == "auto":
        return gpu and workers > 1 and batch // workers < LEAST_SHARE
    return scaling.sync_batchnorm


def scaled_optimiser(config: TrainConfig) -> OptimiserConfig:
    """The optimiser with learning rates and EMA for the run's batch, by `optimiser.batch_scaling`.

    With k = `batch` / `reference_batch`, rates are multiplied by k (Goyal et al. 2017, "Accurate, Large Minibatch SGD") or by
    the square root of k (Malladi et al. 2022, "On the SDEs and Scaling Rules for Adaptive Gradient Algorithms"; Adam's own
    coefficients stay). The average forgets as much per image: its decay becomes `ema` ** k (Busbridge et al. 2023, "How to
    Scale Your EMA").
    """
    optimiser = config.optimiser
    if optimiser.batch_scaling == "none":
        return optimiser
    ratio = config.global_batch / optimiser.reference_batch
    factor = ratio if optimiser.batch_scaling == "linear" else math.sqrt(ratio)
    return replace(
        optimiser,
        generator_rate=optimiser.generator_rate * factor,
        discriminator_rate=optimiser.discriminator_rate * factor,
        ema=None if optimiser.ema is None else optimiser.ema**ratio,
    )
