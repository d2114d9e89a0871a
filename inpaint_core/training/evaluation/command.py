"""The results table of trained networks: `inpaint evaluate checkpoints=[RUN,...] data=URI [key.path=value ...]`."""

from __future__ import annotations

from collections.abc import Sequence

from inpaint_core.cli import run_command
from inpaint_core.progress import PrintLine
from inpaint_core.training.evaluation.config import EvaluateConfig, check_config


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the evaluation; returns the exit code (0, 2: config, data, weights or storage, 130: interrupted)."""
    return run_command(
        EvaluateConfig,
        "inpaint evaluate",
        "Evaluate networks by how they fill held-out photographs.",
        _evaluate,
        interrupted="nothing is kept, the same command starts again",
        arguments=arguments,
    )


def _evaluate(config: EvaluateConfig, print_line: PrintLine) -> int:
    check_config(config)
    from inpaint_core.training.evaluation.job import run_evaluation

    print_line(f"\n{run_evaluation(config, print_line=print_line).rstrip()}")
    return 0
