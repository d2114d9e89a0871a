"""Sweep the weights of the losses: `python jobs/tune_losses.py --config configs/tune.yaml training.data=URI output=URI`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also runs where the package is not installed

from inpaint_core.cli import run_command
from inpaint_core.progress import PrintLine
from inpaint_core.training.sweep.config import TuneConfig


def main() -> int:
    """Run the job; returns the exit code (0, 1: no trial finished, 2: a problem to fix, 130: interrupted)."""
    return run_command(
        TuneConfig,
        "jobs/tune_losses.py",
        "Train with many mixtures of losses, and tell which does what.",
        _tune,
        interrupted="the same command resumes: finished trials are not repeated",
    )


def _tune(config: TuneConfig, print_line: PrintLine) -> int:
    from inpaint_core.on_ray.sweep import run_sweep
    from inpaint_core.storage import open_storage
    from inpaint_core.training.sweep.report import write_report

    run_sweep(config, print_line=print_line)
    report = write_report(config, open_storage(config.output, config.training.s3))
    print_line(report.line)
    return 0 if report.best is not None else 1


if __name__ == "__main__":
    sys.exit(main())
