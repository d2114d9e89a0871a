"""`python -m tools.results --data URI --validation URI --minutes 60`: see `--help`, and `make results`."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from inpaint_core.cli import CLUSTER_FAULT, print_error
from inpaint_core.errors import ClusterError, ObjectError, TrainingError, UserError
from tools.results.models import MODELS, ROOT, SMALL, Request

_PURPOSE = """\
Train the models of the results table one after the other under one budget, evaluate them with the classical fills, and
write the tables of RESULTS.md (between its `results` markers) and its sheet. What is done is not done again: after an
interruption, the same command goes on. exit codes: as of `inpaint train`.
"""
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the results; returns the exit code (0, 2: a problem to fix, 3: Ray failed, 130: interrupted)."""
    given = _parser().parse_intermixed_args(arguments)
    request = Request(
        data=given.data,
        validation=given.validation,
        document=given.document,
        output=given.output,
        minutes=given.minutes,
        epochs=given.epochs,
        models=tuple(filter(None, given.models.split(","))),
        settings=tuple(given.settings),
        measured=given.measured,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        from tools.results.job import plan_lines, prepare, write_results

        job = prepare(request)
        if given.plan:
            _print_line("\n".join(plan_lines(job)))
        else:
            write_results(job, train_by_command, _print_line)
    except (UserError, ObjectError) as error:
        print_error(error)
        return CLUSTER_FAULT if isinstance(error, ClusterError) else 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on\n")
        return _INTERRUPTED
    return 0


def train_by_command(config: Path, overrides: Sequence[str]) -> None:
    """`inpaint train` in a process of its own: Ray and its memory end with each training.

    Ctrl-C reaches this process only, and is passed on, so that the training ends in good order.

    Raises:
        ClusterError: Ray failed.
        TrainingError: it ended with another exit code than 0; what is wrong, it has told.
        KeyboardInterrupt: it was interrupted.
    """
    command = [sys.executable, str(ROOT / "jobs" / "train.py"), "--config", str(config), *overrides]
    child = subprocess.Popen(command, start_new_session=True)
    try:
        code = child.wait()
    except KeyboardInterrupt:
        child.send_signal(signal.SIGTERM)  # Ctrl-C is ignored by what was started in the background of a shell
        child.wait()
        raise
    finally:
        if child.poll() is None:  # a second Ctrl-C
            child.kill()
    if code == _INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        fault = ClusterError if code == CLUSTER_FAULT else TrainingError
        raise fault(
            f"{config}: its training ended with exit code {code}; the same command goes on, --models leaves it out"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tools.results", description=_PURPOSE)
    add = parser.add_argument
    add("--data", default="", metavar="URI", help="training photographs: folder, bucket or .tar shards")
    add("--validation", default="", metavar="URI", help="photographs of the tables and of the validation")
    add("--minutes", type=float, help="minutes of training per model on this machine; its speed is measured first")
    add("--epochs", type=int, help="epochs per model, instead of --minutes")
    add(
        "--models",
        default=",".join(MODELS),
        metavar="NAME,...",
        help="models to train; NAME:2 with twice the epochs (default: %(default)s)",
    )
    add("--output", default=Request.output, metavar="URI", help="runs and evaluations (default: %(default)s)")
    add("--document", type=Path, default=Request.document, help="Markdown file of the tables (default: RESULTS.md)")
    add("--measured", type=int, default=Request.measured, help="photographs of a measurement (default: %(default)s)")
    add("--plan", action="store_true", help="print what would be trained for how long, and end")
    add(
        "settings",
        nargs="*",
        metavar="key.path=value",
        help=f"settings of every training; they override {' '.join(SMALL)}, which apply where no GPU trains",
    )
    return parser


def _print_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
