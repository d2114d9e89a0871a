"""Summary of a run: lines for the terminal, and the exit code."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from inpaint_core.removal.acceptance import Instead
from inpaint_core.removal.catalogue.totals import Retries, Totals
from inpaint_core.removal.command_line import s3_arguments
from inpaint_core.removal.config import RemoveConfig

_INSTEAD: Mapping[Instead, str] = {
    "original": "the originals",
    "cleaned": "the cleaned versions",
    "nothing": "nothing",
    "blurred": "the originals with the objects blurred",
}


@dataclass(frozen=True)
class Summary:
    """How a run ended.

    `processed` and the seconds are of this run; `totals` is of the records of all listed images, whichever run made them.
    """

    listed: int
    skipped: int
    failed_before: int
    processed: int
    totals: Totals
    seconds: float
    startup_seconds: float
    interrupted: bool
    records: str

    @property
    def images_per_second(self) -> float:
        """Images per second of this run from the moment the first worker began; start-up is not in it."""
        return self.processed / self.seconds if self.seconds > 0 else 0.0


def summary_lines(config: RemoveConfig, summary: Summary) -> list[str]:
    """The lines that end a run's output."""
    lines = (
        _statuses(config, summary),
        _held(config, summary.totals),
        _retries(summary.totals.retries),
        _objects(summary.totals),
        _left_alone(config, summary.totals),
        _incomplete(summary.totals),
        _identical_outside(summary.totals),
        _speed(summary),
        _failed_before(summary),
        f"records: {summary.records}",
        _ending(config, summary),
    )
    return [line for line in lines if line is not None]


def _statuses(config: RemoveConfig, summary: Summary) -> str:
    statuses = summary.totals.by_status
    verb = "would be cleaned" if config.dry_run else "cleaned"
    held = f"{statuses['held']:,} held, " if statuses["held"] else ""
    return (
        f"{statuses['cleaned']:,} {verb}, {held}{statuses['unchanged']:,} unchanged, {statuses['failed']:,} failed "
        f"of {summary.listed:,} images; {summary.skipped:,} skipped as already processed"
    )


def _held(config: RemoveConfig, totals: Totals) -> str | None:
    if not totals.by_status["held"]:
        return None
    broken = ", ".join(f"{count:,} break {rule}" for rule, count in totals.by_broken_rule.items())
    return (
        f"held: cleaned images that a person should check{f' ({broken})' if broken else ''}; their outputs: "
        f"{_INSTEAD[config.accept.instead]}; `{_review_command(config)}` shows them first"
    )


def _review_command(config: RemoveConfig) -> str:
    options = s3_arguments(config.output_s3 or config.s3) if config.output.startswith("s3://") else []
    return shlex.join(["inpaint", "review", config.output, *options])


def _retries(retries: Retries) -> str | None:
    if not retries.images:
        return None
    accepted = "".join(f", {count:,} by retry.{entry}" for entry, count in retries.accepted.items())
    return (
        f"{retries.images:,} images broke a rule and were retried: {sum(retries.accepted.values()):,} break none now{accepted}; "
        f"{retries.attempts:,} attempts, {retries.seconds:,.0f} s of the workers"
    )


def _objects(totals: Totals) -> str | None:
    if not totals.by_label:
        return None
    return f"objects: {', '.join(f'{count:,} {label}' for label, count in totals.by_label.items())}"


def _left_alone(config: RemoveConfig, totals: Totals) -> str | None:
    if not totals.left_alone:
        return None
    return (
        f"{totals.left_alone:,} of the unchanged images still contain objects: their mask would cover "
        f"more than mask.max_mask_fraction ({config.mask.max_mask_fraction:.0%})"
    )


def _incomplete(totals: Totals) -> str | None:
    if not totals.incomplete:
        return None
    return (
        f"{totals.incomplete:,} outputs lack properties of their input objects, such as tags; see the column "
        "note of the records"
    )


def _identical_outside(totals: Totals) -> str | None:
    if not totals.compared:
        return None
    return (
        f"{totals.exact:,} of {totals.compared:,} cleaned images are identical outside the mask "
        "(column outside_exact of the records; in JPEG outside the blocks that the mask touches)"
    )


def _speed(summary: Summary) -> str | None:
    if not summary.processed:
        return None
    return (
        f"{summary.processed:,} images in {summary.seconds:.1f} s ({summary.images_per_second:.2f} images/s) "
        f"after {summary.startup_seconds:.1f} s of start-up"
    )


def _failed_before(summary: Summary) -> str | None:
    if not summary.failed_before:
        return None
    return f"{summary.failed_before:,} failed in earlier runs and were skipped; retry_failed=true retries them"


def _ending(config: RemoveConfig, summary: Summary) -> str | None:
    """What ended the run early, or makes it fail."""
    if summary.interrupted:
        again = "the same command without overwrite=true" if config.overwrite else "the same command"
        return f"interrupted: {again} continues from here"
    if _too_many_failed(config, summary):
        return (
            f"more than max_failed_fraction ({config.max_failed_fraction:.0%}) failed; "
            "see the columns stage and error of the records"
        )
    return None


def exit_code(config: RemoveConfig, summary: Summary) -> int:
    """0; 1 when more than `max_failed_fraction` of the listed images failed; 130 when interrupted."""
    if summary.interrupted:
        return 130
    return 1 if _too_many_failed(config, summary) else 0


def _too_many_failed(config: RemoveConfig, summary: Summary) -> bool:
    return summary.totals.by_status["failed"] > config.max_failed_fraction * summary.listed
