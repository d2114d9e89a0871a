"""The results table of trained networks: `python jobs/evaluate.py checkpoints=[RUN,...] data=URI [key.path=value ...]`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also runs where the package is not installed

from inpaint_core.cli import run_command
from inpaint_core.progress import PrintLine
from inpaint_core.training.evaluation.config import EvaluateConfig, check_config


def main() -> int:
    """Run the job; returns the exit code (0, 2: config, data, weights or storage, 130: interrupted)."""
    return run_command(
        EvaluateConfig,
        "jobs/evaluate.py",
        "Evaluate networks by how they fill held-out photographs.",
        _evaluate,
        interrupted="nothing is kept, the same command begins again",
    )


def _evaluate(config: EvaluateConfig, print_line: PrintLine) -> int:
    check_config(config)
    from inpaint_core.training.evaluation.job import run_evaluation

    print_line(f"\n{run_evaluation(config, print_line=print_line).rstrip()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
