"""The commands that run on Ray: `inpaint remove`, `inpaint train`, `inpaint tune`. Ray is loaded when their work begins.

A fault of Ray ends the process with its line and the exit code 3: to leave a cluster that is gone takes Ray minutes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from inpaint_core.cli import check_extra, run_command
from inpaint_core.progress import PrintLine
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.summary import exit_code, summary_lines
from inpaint_core.training.config import TrainConfig
from inpaint_core.training.sweep.config import TuneConfig

C = TypeVar("C")


def remove(arguments: Sequence[str] | None = None) -> int:
    """Run the removal job; returns the exit code (0, 1: too many failed, 2: config or credentials, 3: Ray, 130: interrupted)."""
    return _on_ray(
        RemoveConfig,
        "inpaint remove",
        "Remove objects from a collection of images.",
        _remove,
        interrupted="the same command continues with the remaining images",
        arguments=arguments,
    )


def train(arguments: Sequence[str] | None = None) -> int:
    """Run a training; returns the exit code (0, 2: config, data or a loss that became NaN or infinite, 3: Ray, 130: interrupted)."""
    return _on_ray(
        TrainConfig,
        "inpaint train",
        "Train a network that fills holes in photographs.",
        _train,
        interrupted="the same command resumes from the last checkpoint",
        arguments=arguments,
    )


def tune(arguments: Sequence[str] | None = None) -> int:
    """Run a sweep; returns the exit code (0, 1: no trial finished, 2: a problem to fix, 3: Ray, 130: interrupted)."""
    return _on_ray(
        TuneConfig,
        "inpaint tune",
        "Train with many mixtures of losses, and compare the results.",
        _tune,
        interrupted="the same command resumes: finished trials are not repeated",
        arguments=arguments,
    )


def _on_ray(
    config_class: type[C],
    name: str,
    description: str,
    work: Callable[[C, PrintLine], int],
    *,
    interrupted: str,
    arguments: Sequence[str] | None,
) -> int:
    """`run_command` for work on Ray, whose own errors become one line."""

    def with_faults(config: C, print_line: PrintLine) -> int:
        from inpaint_core.on_ray.faults import cluster_faults

        with cluster_faults():
            return work(config, print_line)

    code = run_command(config_class, name, description, with_faults, interrupted=interrupted, arguments=arguments)
    if "ray" not in sys.modules:
        return code
    from inpaint_core.on_ray.faults import leave

    return leave(code)


def _remove(config: RemoveConfig, print_line: PrintLine) -> int:
    from inpaint_core.on_ray.removal import run_removal

    summary = run_removal(config, print_line=print_line)
    print_line("\n".join(summary_lines(config, summary)))
    return exit_code(config, summary)


def _train(config: TrainConfig, print_line: PrintLine) -> int:
    check_extra("train", "tensorboard", "tensorboardX")
    from inpaint_core.on_ray.training import run_training

    print_line(run_training(config, print_line=print_line).summary(config))
    return 0


def _tune(config: TuneConfig, print_line: PrintLine) -> int:
    check_extra("train", "tensorboard", "tensorboardX", "optuna", "matplotlib")
    from inpaint_core.on_ray.sweep import run_sweep
    from inpaint_core.storage import open_storage
    from inpaint_core.training.sweep.report import write_report

    run_sweep(config, print_line=print_line)
    report = write_report(config, open_storage(config.output, config.training.s3))
    print_line(report.line)
    return 0 if report.best is not None else 1
