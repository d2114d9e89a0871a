"""The program `inpaint` and its commands, and what each command does around its work: arguments, config, exit codes."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import NoReturn, TypeVar

from inpaint_core import __version__
from inpaint_core.config import argument_parser, load_config, to_yaml
from inpaint_core.errors import ClusterError, ObjectError, UserError
from inpaint_core.progress import PrintLine

C = TypeVar("C")

CLUSTER_FAULT = 3
"""Exit code of a command that the cluster failed."""

_RAY_PACKAGE = f"{os.sep}_ray_pkg_"  # in the path of what `ray job submit --working-dir` has sent


@dataclass(frozen=True)
class Command:
    """A command of `inpaint`: a sentence for `--help`, and its function as `module:name`, imported when it is called.

    The function takes the arguments after the command's name and returns the exit code.
    """

    summary: str
    function: str


COMMANDS = {
    "remove": Command("remove objects from a collection of images", "inpaint_core.on_ray.commands:remove"),
    "report": Command("write an HTML page about a removal job", "inpaint_core.removal.report.command:main"),
    "review": Command("look through results in a local page, and decide", "inpaint_core.removal.review.command:main"),
    "train": Command("train an inpainting network", "inpaint_core.on_ray.commands:train"),
    "tune": Command("sweep the weights of the training losses", "inpaint_core.on_ray.commands:tune"),
    "evaluate": Command("compare inpainting networks", "inpaint_core.training.evaluation.command:main"),
    "shapes": Command("collect object shapes for training holes", "inpaint_core.training.object_shapes.command:main"),
    "export": Command("write a trained network as a smaller file", "inpaint_core.networks.weights.export:main"),
    "detector": Command("train a small detector", "inpaint_core.training.detector.command:main"),
}


def program() -> NoReturn:
    """The process `inpaint`: `main`, and the process ends with its exit code.

    After a command that used Ray, the interpreter is not finalised: a thread of Ray's C++ that calls Python meanwhile ends the
    process with SIGSEGV (in `PyThreadState_New`; Ray 2.60), instead of with the exit code.
    """
    code = main()
    ray = sys.modules.get("ray")
    if ray is not None:
        with suppress(KeyboardInterrupt):  # once more: at once
            ray.shutdown()  # what Ray does when the interpreter ends
        end_process(code)
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command of `inpaint`.

    Args:
        arguments: those of the command line; None: `sys.argv`.

    Returns:
        The exit code of the command (each documents its own).

    Raises:
        SystemExit: `--help`, `--version` (code 0), or there is no such command (code 2).
    """
    width = max(map(len, COMMANDS))
    parser = argparse.ArgumentParser(
        prog="inpaint",
        usage="inpaint COMMAND [argument ...]",
        description="Remove objects from image collections, and train the networks that fill the holes.",
        epilog="commands (`inpaint COMMAND --help` says more):\n"
        + "\n".join(f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items())
        + "\n\nexit codes: 0 finished, 1 too much failed, 2 an error to correct, 3 Ray failed, 130 interrupted;\n"
        "after 3 and 130, the same command goes on (docs/settings.md)",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"inpaint {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="command to run")
    # Not argparse's own sub-commands: those would import every command's config, and take no intermixed arguments.
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = COMMANDS[parser.parse_args(given[:1]).command]
    module, _, name = command.function.partition(":")
    function: Callable[[Sequence[str]], int] = getattr(importlib.import_module(module), name)
    return function(given[1:])


def check_extra(extra: str, *modules: str) -> None:
    """Refuse work whose libraries are not installed, before it begins.

    Args:
        extra: the extra of this package that brings them.
        modules: top-level modules that the work imports.

    Raises:
        UserError: names what is missing and how to install it.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise UserError(f"{', '.join(missing)}: not installed; run: pip install 'inpaint-core[{extra}]'")


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
        The exit code: what `work` returned; 2: a problem that the user can fix, printed on stderr; 3: the same, of the
        cluster, after which the command goes on; 130: interrupted.
    """
    from inpaint_core.storage import refuse_relative_paths  # not needed for `inpaint --help`

    given = argument_parser(config_class, name, description).parse_intermixed_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        config = load_config(config_class, given.config, given.overrides)
        if given.print_config:
            sys.stdout.write(to_yaml(config))
            return 0
        refuse_relative_paths(_RAY_PACKAGE, "a submitted job runs in a copy of the project that Ray deletes afterwards")
        return work(config, _print_line)
    except (UserError, ObjectError) as error:
        print_error(error)
        return CLUSTER_FAULT if isinstance(error, ClusterError) else 2
    except KeyboardInterrupt:
        sys.stderr.write(f"interrupted; {interrupted}\n")
        return 130


def end_process(code: int) -> NoReturn:
    """End this process with an exit code and without finalising the interpreter; what was printed is shown."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def print_error(error: Exception) -> None:
    """Show a person the line that ends a command."""
    sys.stderr.write(f"error: {error}\n")
    sys.stderr.flush()


def _print_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
