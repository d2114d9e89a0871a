"""The command line of the report: `inpaint report OUTPUT`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from inpaint_core.errors import ObjectError, UserError
from inpaint_core.removal.command_line import add_s3_arguments, open_stores
from inpaint_core.removal.report.write import MAX_IMAGES, write_report


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a report; returns the exit code: 0, or 2 with one line that names the problem."""
    given = _parser().parse_args(arguments)
    try:
        output, source = open_stores(given)
        where = write_report(output, source=source, max_images=given.max_images, dry_run=given.dry_run, to=given.out)
    except (UserError, ObjectError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"report: {where}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="inpaint report",
        description="Write one HTML page about a removal job: totals, failures, and pictures of the worst images.",
    )
    parser.add_argument("output", metavar="OUTPUT", help="the job's output: folder or URI")
    parser.add_argument("--input", help="the job's input, for the original images [as recorded by the job]")
    parser.add_argument(
        "--max-images",
        type=_count,
        default=MAX_IMAGES,
        metavar="N",
        help="maximum number of images shown besides the failed ones, worst first [%(default)s]",
    )
    parser.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="local file to write [_removal/report.html in OUTPUT]"
    )
    parser.add_argument("--dry-run", action="store_true", help="report on the dry run of this output")
    add_s3_arguments(parser)
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return number
