"""The progress lines of a run: one now and then within an epoch, and one at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inpaint_core.training.config import TrainConfig


def progress_line(
    config: TrainConfig,
    *,
    epoch: int,
    step: int,
    steps: int,
    steps_per_second: float,
    data_wait: float,
    losses: Mapping[str, float],
) -> str:
    """Where a run is.

    Args:
        config: the run's.
        epoch: from 0.
        step: steps of the epoch that are done, of `steps`.
        steps: of an epoch.
        steps_per_second: since the start, or since the epoch began.
        data_wait: part of that time in which the step waited for data.
        losses: means over the epoch so far.
    """
    left = (steps - step) / steps_per_second
    return (
        f"epoch {epoch + 1} of {config.epochs}, step {step:,} of {steps:,}, "
        f"{steps_per_second * config.global_batch:.0f} images/s, {data_wait:.0%} of the time without data, "
        f"{duration(left)} left in the epoch: {', '.join(f'{name} {value:.4f}' for name, value in losses.items())}"
    )


def epoch_line(row: Mapping[str, Any], config: TrainConfig, *, best: bool) -> str:
    """An epoch that is done: `row` has the columns of `history.SCHEMA`."""
    if row["epoch"]:
        begin = f"epoch {row['epoch']} of {config.epochs} done in {duration(row['seconds'])} "
        begin += f"({row['images_per_second']:.0f} images/s, {row['data_wait']:.0%} of the time without data)"
    else:
        begin = "before the first step"
    return (
        f"{begin}: table L1 {row['table_l1']:.4f}, L2 {row['table_l2']:.4f}, "
        f"PSNR {row['table_psnr']:.2f}, SSIM {row['table_ssim']:.4f}; sharpness {row['sharpness']:.2f}"
        + (f"; best {config.checkpoint.metric}" if best else "")
    )


def duration(seconds: float) -> str:
    """Such as `2 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
