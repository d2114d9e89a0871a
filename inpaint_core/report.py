"""One HTML page about a removal job, to look through its results: `python -m inpaint_core.report OUTPUT`.

The page is one file without links to the network: pictures are small JPEGs inside it. It shows what the records say,
the worst images first, and every failure with its reason.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup, escape

from inpaint_core.config import validate
from inpaint_core.errors import ConfigError, ObjectError, StorageError, UserError
from inpaint_core.records import SCHEMA, STATUSES
from inpaint_core.removal.layout import JOB, Layout
from inpaint_core.removal.ledger import read_records, totals
from inpaint_core.report_pictures import Pictures, pictures_of
from inpaint_core.storage import S3Options, Storage

MAX_IMAGES = 500
READERS = 8  # threads; reading from an object store is waiting, decoding releases the interpreter

# What the default order and the choice of images mean, for the page.
ORDER_RULE = (
    "cleaned images, by most objects that the detector still finds, then the most visible edge (highest seam), then "
    "the lowest SSIM; then unchanged images, those with a note before the rest"
)

# Columns with figures worth a mean, and how a value is written.
FIGURES: dict[str, tuple[str, str]] = {
    "mask_fraction": ("mask", "{:.2%}"),
    "outside_max_diff": ("changed outside", "{:,.4g}"),
    "residual_objects": ("still found", "{:,.4g}"),
    "seam": ("seam", "{:.2f}"),
    "shifted_pixels": ("shifted hole", "{:,.0f} px"),
    "l1": ("L1", "{:.4f}"),
    "l2": ("L2", "{:.5f}"),
    "psnr": ("PSNR", "{:.2f} dB"),
    "ssim": ("SSIM", "{:.4f}"),
    "seconds": ("time", "{:.2f} s"),
}


@dataclass(frozen=True)
class Statistic:
    """One figure over all images that have it."""

    label: str
    doc: Markup
    images: int
    mean: str
    median: str
    lowest: str
    highest: str


@dataclass(frozen=True)
class Card:
    """One image of the page."""

    number: int
    key: str
    status: str
    headline: str
    stage: str | None
    error: str | None
    note: str | None
    objects: str
    residual: int
    figures: list[tuple[str, str, str]]
    pictures: Pictures
    link: str | None


def write_report(
    output: Storage,
    *,
    source: Storage | None = None,
    records: pa.Table | None = None,
    max_images: int = MAX_IMAGES,
    dry_run: bool = False,
    to: Path | None = None,
) -> str:
    """Write the report of a job; returns where it lies.

    Args:
        output: the job's output.
        source: the job's input, for the pictures before; None: where the job says it was, with the job's S3 options.
        records: a table of `records.SCHEMA`, one row per key; None: those of the output.
        max_images: images that did not fail and are shown, the worst first. Failures are always all shown.
        dry_run: report on the dry run of this output instead.
        to: a local file; None: `report.html` beside the records.

    Raises:
        ConfigError: there are no records, or `to` cannot be written.
        StorageError: the output cannot be used. (Where the input cannot, the page says so and does without.)
    """
    layout = Layout.of(dry_run=dry_run)
    if records is None:
        records = read_records(output, dry_run=dry_run)
    if len(records) == 0:
        kind = "dry run" if dry_run else "removal job"
        raise ConfigError(f"{output.uri} holds no records of a {kind}: run one with this output first.")
    job, notes = _read_job(output)
    if source is None:
        source = _source_of(job, notes)
    source = _reachable(source, notes)
    shown = select(records, max_images)
    report_key = f"{layout.root}/report.html"
    up = "../" * report_key.count("/")
    with ThreadPoolExecutor(READERS) as pool:
        rows = shown.to_pylist()
        pictures = list(
            pool.map(partial(pictures_of, source=source, output=output, layout=layout, dry_run=dry_run), rows)
        )
    cards = [
        _card(number, row, picture, up if to is None and not dry_run else None)
        for number, (row, picture) in enumerate(zip(rows, pictures, strict=True))
    ]
    page = _render(records, cards, rows, output=output, source=source, job=job, notes=notes, dry_run=dry_run)
    if to is None:
        output.write(report_key, page.encode())
        return f"{output.uri.rstrip('/')}/{report_key}"
    try:
        to.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"The report cannot be written to {to}: {error.strerror}.") from error
    return str(to)


def select(records: pa.Table, max_images: int) -> pa.Table:
    """The rows that the page shows, in its order: every failure by key, then the worst of the others (`ORDER_RULE`).

    Args:
        records: a table of `records.SCHEMA`.
        max_images: rows that did not fail.
    """
    failed = pc.equal(records["status"], "failed")
    others = records.filter(pc.invert(failed))
    has_note = pc.and_(pc.is_valid(others["note"]), pc.equal(others["status"], "unchanged"))
    rank = pc.case_when(
        pc.make_struct(pc.equal(others["status"], "cleaned"), has_note), pa.scalar(0), pa.scalar(1), pa.scalar(2)
    )
    order = pc.sort_indices(
        others.select(["residual_objects", "seam", "ssim", "key"]).append_column("rank", rank),
        [
            ("rank", "ascending"),
            ("residual_objects", "descending"),
            ("seam", "descending"),
            ("ssim", "ascending"),
            ("key", "ascending"),
        ],
    )
    return pa.concat_tables([records.filter(failed).sort_by("key"), others.take(order[:max_images])])


def _read_job(output: Storage) -> tuple[dict[str, Any], list[str]]:
    """What `_removal/job.json` says, and what is wrong with it."""
    try:
        job = json.loads(output.read(JOB))
    except (ObjectError, ValueError) as error:
        return {}, [f"{JOB} cannot be read, so the page does not know what the job was asked: {error}"]
    if not isinstance(job, dict):
        return {}, [f"{JOB} does not hold what a removal job writes there, so it is left out of the page."]
    return job, []


def _source_of(job: Mapping[str, Any], notes: list[str]) -> Storage | None:
    if not isinstance(job.get("input"), str):
        notes.append(
            "The job does not say where its input is, so pictures before the removal are left out; name it with --input."
        )
        return None
    try:
        return Storage.open(job["input"], validate(S3Options, job.get("s3") or {}))
    except ConfigError as error:
        notes.append(f"Pictures before the removal are left out: {error}")
        return None


def _reachable(source: Storage | None, notes: list[str]) -> Storage | None:
    if source is None:
        return None
    try:
        source.check_readable()
    except StorageError as error:
        notes.append(f"Pictures before the removal are left out: {error}")
        return None
    return source


def _card(number: int, row: Mapping[str, Any], pictures: Pictures, up: str | None) -> Card:
    figures = []
    for name, (label, form) in FIGURES.items():
        value = _plain(name, row[name])
        if value is not None or row["status"] == "cleaned":
            figures.append((name, label, "–" if value is None else form.format(value)))
    facts = []
    if row["width"] and row["height"]:
        facts.append(f"{row['width']} × {row['height']}")
    if row["format"]:
        facts.append(row["format"])
    facts.append(
        _bytes(row["source_size"])
        + (f" → {_bytes(row['output_size'])}" if row["status"] == "cleaned" and row["output_size"] else "")
    )
    return Card(
        number=number,
        key=row["key"],
        status=row["status"],
        headline=" · ".join(facts),
        stage=row["stage"],
        error=row["error"],
        note=row["note"],
        objects=_objects(row["objects"] or []),
        residual=row["residual_objects"] or 0,
        figures=figures,
        pictures=pictures,
        link=up + quote(row["key"]) if up is not None and row["status"] != "failed" else None,
    )


def _objects(objects: Sequence[Mapping[str, Any]]) -> str:
    by_label: dict[str, list[float]] = {}
    for found in objects:
        by_label.setdefault(found["label"], []).append(found["confidence"])
    return ", ".join(
        f"{len(confidences)} {label} ({', '.join(f'{c:.2f}' for c in sorted(confidences, reverse=True)[:5])}"
        f"{', …' if len(confidences) > 5 else ''})"
        for label, confidences in by_label.items()
    )


def _bytes(size: int | None) -> str:
    if size is None:
        return "–"
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def _plain(name: str, value: Any) -> Any:
    """A value that sorts: numbers of objects and of seconds in all for the nested columns."""
    match name:
        case "objects":
            return None if value is None else len(value)
        case "seconds":
            times = [seconds for seconds in (value or {}).values() if seconds is not None]
            return round(sum(times), 3) if times else None
        case "finished_at":
            return value.isoformat(timespec="milliseconds")
        case _ if isinstance(value, float) and not math.isfinite(value):
            return None  # JSON has no word for it
    return value


def _statistics(records: pa.Table) -> list[Statistic]:
    result = []
    for name, (label, form) in FIGURES.items():
        values = [plain for value in records[name].to_pylist() if (plain := _plain(name, value)) is not None]
        if values:
            summary = (statistics.fmean(values), statistics.median(values), min(values), max(values))
            mean, median, lowest, highest = (form.format(value) for value in summary)
            result.append(Statistic(label, _doc(name), len(values), mean, median, lowest, highest))
    return result


def _doc(name: str) -> Markup:
    """The doc of a record's column, its `code` as HTML."""
    text = str(escape(SCHEMA.field(name).metadata[b"doc"].decode()))
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", text))  # noqa: S704


def _render(
    records: pa.Table,
    cards: Sequence[Card],
    rows: Sequence[Mapping[str, Any]],
    *,
    output: Storage,
    source: Storage | None,
    job: Mapping[str, Any],
    notes: Sequence[str],
    dry_run: bool,
) -> str:
    counted = totals(records)
    finished = pc.min_max(records["finished_at"]).as_py()
    template = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return template.from_string(files("inpaint_core").joinpath("report_template.html").read_text("utf-8")).render(
        output=output.uri,
        source=source.uri if source else job.get("input"),
        dry_run=dry_run,
        images=len(records),
        by_status=counted.by_status,
        by_label=counted.by_label,
        statuses=STATUSES,
        statistics=_statistics(records),
        runs=sorted(Counter(records["run_id"].to_pylist()).items()),
        configs=sorted(Counter(records["config_hash"].to_pylist()).items()),
        first=finished["min"],
        last=finished["max"],
        config=json.dumps(job["config"], indent=2, ensure_ascii=False) if "config" in job else None,
        notes=notes,
        cards=cards,
        left_out=len(records) - len(cards),
        order_rule=ORDER_RULE,
        columns=[(name, FIGURES.get(name, (None,))[0], _doc(name)) for name in SCHEMA.names],
        data={"columns": SCHEMA.names, "rows": [[_plain(name, row[name]) for name in SCHEMA.names] for row in rows]},
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m inpaint_core.report", description="Write the HTML report of a removal job."
    )
    parser.add_argument("output", metavar="OUTPUT", help="the job's output: folder or URI")
    parser.add_argument("--input", help="the job's input, for the pictures before [where the job says it was]")
    parser.add_argument(
        "--max-images",
        type=int,
        default=MAX_IMAGES,
        help="images shown that did not fail, the worst first [%(default)s]",
    )
    parser.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="local file to write [_removal/report.html in OUTPUT]"
    )
    parser.add_argument("--dry-run", action="store_true", help="report on the dry run of this output")
    parser.add_argument("--s3-endpoint", metavar="URL", help="S3 service other than AWS")
    parser.add_argument("--s3-region", metavar="REGION", help="region of the bucket")
    parser.add_argument("--s3-profile", metavar="PROFILE", help="profile of the AWS config files")
    parser.add_argument("--s3-anonymous", action="store_true", help="send no credentials")
    given = parser.parse_args(arguments)
    if given.max_images < 0:
        parser.error("--max-images must not be negative")
    s3 = S3Options(given.s3_endpoint, given.s3_region, given.s3_profile, given.s3_anonymous)
    try:
        where = write_report(
            Storage.open(given.output, s3),
            source=Storage.open(given.input, s3) if given.input else None,
            max_images=given.max_images,
            dry_run=given.dry_run,
            to=given.out,
        )
    except (UserError, ObjectError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"report: {where}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
