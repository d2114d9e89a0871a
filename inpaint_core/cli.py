"""What every command that has a config does around its work: arguments, config, lines for a person, exit codes."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from inpaint_core.config import argument_parser, load_config, to_yaml
from inpaint_core.errors import ObjectError, UserError
from inpaint_core.progress import PrintLine

C = TypeVar("C")


def run_command(
    config_class: type[C],
    name: str,
    description: str,
    work: Callable[[C, PrintLine], int],
    *,
    interrupted: str,
    arguments: Sequence[str] | None = None,
) -> int:
    """Read a command's arguments and do its work. SIGTERM ends it as Ctrl-C does.

    Args:
        config_class: the dataclass of its config.
        name: how it is called, for `--help`.
        description: a sentence for `--help`.
        work: takes the config and what shows a person a line; returns the exit code. What takes seconds to import
            belongs into it, which `--help` and a wrong key should not wait for.
        interrupted: what becomes of an interrupted run.
        arguments: those of the command line; None: `sys.argv`.

    Returns:
        The exit code: what `work` returned; 2: a problem that the user can fix, printed on stderr; 130: interrupted.
    """
    given = argument_parser(config_class, name, description).parse_intermixed_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        config = load_config(config_class, given.config, given.overrides)
        if given.print_config:
            sys.stdout.write(to_yaml(config))
            return 0
        return work(config, _print_line)
    except (UserError, ObjectError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(f"interrupted; {interrupted}\n")
        return 130


def _print_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
