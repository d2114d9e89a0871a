"""The command line of the review: `inpaint review OUTPUT`."""

from __future__ import annotations

import argparse
import getpass
import signal
import sys
from collections.abc import Sequence

from inpaint_core.cli import check_extra
from inpaint_core.errors import ConfigError, ObjectError, UserError
from inpaint_core.removal.catalogue.job_file import read_job, readable, settings_of, source_of
from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.removal.command_line import add_s3_arguments, open_stores
from inpaint_core.storage import Storage


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page, or carry decisions out.

    Returns:
        The exit code: 0; 1: some decisions could not be carried out; 2: a problem that the user can fix; 130: interrupted
        while decisions were carried out.
    """
    given = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        output, source = open_stores(given)
        if given.apply:
            return _apply(output, source)
        return _serve(output, source, given.name, given.port)
    except (UserError, ObjectError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        if given.apply:
            sys.stderr.write("interrupted; the same command continues with the remaining decisions\n")
            return 130
        return 0


def _serve(output: Storage, source: Storage | None, name: str | None, port: int) -> int:
    check_extra("review", "starlette", "uvicorn")
    # Here: `--help` need not wait for them.
    from inpaint_core.removal.review.server import Server
    from inpaint_core.removal.review.session import Review

    output.check_readable()
    job, notes = read_job(output, Layout.of(dry_run=False).job)
    source = readable(source or source_of(job, notes), notes)
    try:
        config = settings_of(job)
    except ConfigError as error:
        config = None
        notes.append(f"Masks cannot be filled: {error}")
    for note in notes:
        _print_line(f"warning: {note}")
    review = Review(output, source, config, name or _user())
    try:
        Server(review, port).run(_print_line)
    finally:
        review.close()
    return 0


def _apply(output: Storage, source: Storage | None) -> int:
    from inpaint_core.removal.review.applying import apply_decisions

    output.check_readable()
    job, notes = read_job(output, Layout.of(dry_run=False).job)
    source = readable(source or source_of(job, notes), notes)
    if source is None:
        raise ConfigError(" ".join(notes))
    applied = apply_decisions(output, source, settings_of(job), _print_line)
    counted = ", ".join(f"{count:,} {name}" for name, count in sorted(applied.done.items()))
    _print_line(f"decisions carried out: {counted or 'none pending'}")
    for key, reason in applied.failed:
        sys.stderr.write(f"{key!r}: {reason}\n")
    if applied.failed:
        sys.stderr.write(f"{len(applied.failed):,} decisions could not be carried out; the same command retries them\n")
    return 1 if applied.failed else 0


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        raise ConfigError("--name: this account has no name; give yours, for the records") from error


def _print_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="inpaint review",
        description="Look through the results of a removal job in a local web page, decide, and carry decisions out.",
    )
    parser.add_argument("output", metavar="OUTPUT", help="the job's output: folder or URI")
    parser.add_argument("--name", type=_name, help="who decides, for the records [name of the account]")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0: a free one [%(default)s]")
    parser.add_argument("--input", help="the job's input [as recorded by the job]")
    parser.add_argument("--apply", action="store_true", help="carry out all decisions instead of showing the page")
    add_s3_arguments(parser)
    return parser


def _name(text: str) -> str:
    if not text.strip() or not text.isprintable() or len(text) > 100:
        raise argparse.ArgumentTypeError("must be up to 100 printable characters")
    return text.strip()
