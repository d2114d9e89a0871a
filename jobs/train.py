"""Train a network that fills holes: `python jobs/train.py --config configs/train/base.yaml data=URI output=URI`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also runs where the package is not installed

from inpaint_core.cli import run_command
from inpaint_core.progress import PrintLine
from inpaint_core.training.config import TrainConfig


def main() -> int:
    """Run the job; returns the exit code (0, 2: config, data or a loss that became NaN or infinite, 130: interrupted)."""
    return run_command(
        TrainConfig,
        "jobs/train.py",
        "Train a network that fills holes in photographs.",
        _train,
        interrupted="the same command resumes from the last checkpoint",
    )


def _train(config: TrainConfig, print_line: PrintLine) -> int:
    from inpaint_core.on_ray.training import run_training

    print_line(run_training(config, print_line=print_line).summary(config))
    return 0


if __name__ == "__main__":
    sys.exit(main())
