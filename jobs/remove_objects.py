"""Remove objects from a collection of images: `python jobs/remove_objects.py input=URI output=URI [key.path=value ...]`."""

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also runs where the package is not installed

from inpaint_core.config import argument_parser, load_config, to_yaml
from inpaint_core.errors import ObjectError, UserError
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.summary import exit_code, summary_lines


def main() -> int:
    """Run the job; returns the exit code (0, 1: too many failed, 2: config or credentials, 130: interrupted)."""
    parser = argument_parser(RemoveConfig, "jobs/remove_objects.py", "Remove objects from a collection of images.")
    arguments = parser.parse_intermixed_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stopped job ends as with Ctrl-C
    try:
        config = load_config(RemoveConfig, arguments.config, arguments.overrides)
        if arguments.print_config:
            print(to_yaml(config), end="")
            return 0
        from inpaint_core.on_ray.removal import run_removal  # seconds to import: not for a wrong key or --help

        summary = run_removal(config, say=lambda line: print(line, flush=True))
    except (UserError, ObjectError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from what is finished", file=sys.stderr)
        return 130
    print("\n".join(summary_lines(config, summary)), flush=True)
    return exit_code(config, summary)


if __name__ == "__main__":
    sys.exit(main())
