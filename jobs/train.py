"""Train a network that fills holes: `python jobs/train.py --config configs/train/base.yaml data=URI output=URI`."""

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also runs where the package is not installed

from inpaint_core.config import argument_parser, load_config, to_yaml
from inpaint_core.errors import ObjectError, UserError
from inpaint_core.training.config import TrainConfig


def main() -> int:
    """Run the job; returns the exit code (0, 2: config, data or a loss that is not finite, 130: interrupted)."""
    parser = argument_parser(TrainConfig, "jobs/train.py", "Train a network that fills holes in photographs.")
    arguments = parser.parse_intermixed_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stopped job ends as with Ctrl-C
    try:
        config = load_config(TrainConfig, arguments.config, arguments.overrides)
        if arguments.print_config:
            print(to_yaml(config), end="")
            return 0
        from inpaint_core.on_ray.training import run_training  # seconds to import: not for a wrong key or --help

        result = run_training(config, say=lambda line: print(line, flush=True))
    except (UserError, ObjectError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    print(result.summary(config), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
