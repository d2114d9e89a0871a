"""The results table of trained networks: `python jobs/evaluate.py checkpoints=[RUN,...] data=URI [key.path=value ...]`."""

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also runs where the package is not installed

from inpaint_core.config import argument_parser, load_config, to_yaml
from inpaint_core.errors import ObjectError, UserError
from inpaint_core.evaluation.config import EvaluateConfig, check_config


def main() -> int:
    """Run the job; returns the exit code (0, 2: config, data, weights or storage, 130: interrupted)."""
    parser = argument_parser(
        EvaluateConfig, "jobs/evaluate.py", "Judge networks by how they fill held-out photographs."
    )
    arguments = parser.parse_intermixed_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stopped job ends as with Ctrl-C
    try:
        config = load_config(EvaluateConfig, arguments.config, arguments.overrides)
        if arguments.print_config:
            print(to_yaml(config), end="")
            return 0
        check_config(config)
        from inpaint_core.evaluation.job import run_evaluation  # seconds to import: not for a wrong key or --help

        table = run_evaluation(config, say=lambda line: print(line, flush=True))
    except (UserError, ObjectError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; nothing is kept, the same command begins again", file=sys.stderr)
        return 130
    print(f"\n{table}", end="", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
