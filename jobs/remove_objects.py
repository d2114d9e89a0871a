"""Remove objects from a collection of images: `python jobs/remove_objects.py input=URI output=URI [key.path=value ...]`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also runs where the package is not installed

from inpaint_core.cli import run_command
from inpaint_core.progress import PrintLine
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.summary import exit_code, summary_lines


def main() -> int:
    """Run the job; returns the exit code (0, 1: too many failed, 2: config or credentials, 130: interrupted)."""
    return run_command(
        RemoveConfig,
        "jobs/remove_objects.py",
        "Remove objects from a collection of images.",
        _remove,
        interrupted="the same command continues with the remaining images",
    )


def _remove(config: RemoveConfig, print_line: PrintLine) -> int:
    from inpaint_core.on_ray.removal import run_removal

    summary = run_removal(config, print_line=print_line)
    print_line("\n".join(summary_lines(config, summary)))
    return exit_code(config, summary)


if __name__ == "__main__":
    sys.exit(main())
