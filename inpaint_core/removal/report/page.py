"""From records and pictures to the HTML of the report."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup, escape

from inpaint_core.removal.catalogue.database import (
    SECONDS,
    RecordDatabase,
    counts_by_broken_rule,
    counts_by_decision,
    counts_by_label,
    counts_by_status,
    counts_of_retries,
)
from inpaint_core.removal.record import RETRY_COLUMNS, SCHEMA, STATUSES
from inpaint_core.removal.report.pictures import Picture

# Columns with figures worth a mean: what the page calls them, and how a value is written.
FIGURES: dict[str, tuple[str, str]] = {
    "mask_fraction": ("mask", "{:.2%}"),
    "outside_max_diff": ("changed outside", "{:,.4g}"),
    "residual_objects": ("still found", "{:,.4g}"),
    "likeness": ("likeness", "{:.2f}"),
    "seam": ("seam", "{:.2f}"),
    "shifted_pixels": ("shifted hole", "{:,.0f} px"),
    "l1": ("L1", "{:.4f}"),
    "l2": ("L2", "{:.5f}"),
    "psnr": ("PSNR", "{:.2f} dB"),
    "ssim": ("SSIM", "{:.4f}"),
    "retries": ("retries", "{:,.4g}"),
    "retry_seconds": ("time of retries", "{:.2f} s"),
    "seconds": ("time", "{:.2f} s"),
}


@dataclass(frozen=True)
class Page:
    """What the page is about, beside the images on it.

    `records` holds those of all images; `output` and `input` are URIs; `job` is what
    `_removal/job.json` holds; `notes` are sentences for the top of the page; `links` is the way from the page to the
    output's root, None where links would lead nowhere.
    """

    records: RecordDatabase
    output: str
    input: str | None
    job: Mapping[str, Any]
    notes: Sequence[str]
    order_rule: str
    dry_run: bool
    links: str | None


@dataclass(frozen=True)
class Statistic:
    """One figure over all images that have it, as text."""

    label: str
    doc: Markup
    images: int
    mean: str
    median: str
    lowest: str
    highest: str


@dataclass(frozen=True)
class Card:
    """One image on the page: its record, and what is not simply a column of it.

    `figures` are column, label and text, None for a figure that a cleaned image lacks.
    """

    row: Mapping[str, Any]
    size: str
    objects: str
    figures: list[tuple[str, str, str | None]]
    pictures: Sequence[Picture]
    link: str | None


def render(page: Page, rows: Sequence[Mapping[str, Any]], pictures: Sequence[Sequence[Picture]]) -> str:
    """The page as HTML.

    Args:
        page: what it is about.
        rows: the records on it as plain values, in the order of the page.
        pictures: those of each row.
    """
    (about,) = page.records.rows(
        "SELECT count(*) AS images, min(finished_at) AS first, max(finished_at) AS last FROM records"
    )
    by_status = counts_by_status(page.records)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(
        files("inpaint_core.removal.report").joinpath("template.html").read_text("utf-8")
    )
    return template.render(
        page=page,
        images=about["images"],
        by_status=by_status,
        by_label=counts_by_label(page.records),
        statuses=[status for status in STATUSES if status != "held" or by_status[status]],
        decisions={name: count for name, count in counts_by_decision(page.records).items() if count},
        broken=counts_by_broken_rule(page.records),
        retries=counts_of_retries(page.records),
        statistics=statistics_of(page.records),
        runs=_counts(page.records, "run_id"),
        configs=_counts(page.records, "config_hash"),
        first=about["first"],
        last=about["last"],
        config=json.dumps(page.job["config"], indent=2, ensure_ascii=False) if "config" in page.job else None,
        cards=[_card(row, shown, page.links) for row, shown in zip(rows, pictures, strict=True)],
        failed_left_out=by_status["failed"] > sum(row["status"] == "failed" for row in rows),
        columns=[(name, FIGURES[name][0] if name in FIGURES else None, _doc(name)) for name in SCHEMA.names],
        data={
            "columns": SCHEMA.names,
            "rows": [[sortable(name, row[name]) for name in SCHEMA.names] for row in rows],
        },
    )


def sortable(column: str, value: Any) -> Any:
    """A record's value as one number or text: of `objects` how many, of `seconds` the sum, of times ISO 8601."""
    match column:
        case "objects":
            return None if value is None else len(value)
        case "seconds":
            times = [seconds for seconds in (value or {}).values() if seconds is not None]
            return round(sum(times), 3) if times else None
        case "finished_at" | "decided_at":
            return None if value is None else value.isoformat(timespec="milliseconds")
        case _ if isinstance(value, float) and not math.isfinite(value):
            return None  # JSON has no word for it
    return value


def statistics_of(records: RecordDatabase) -> list[Statistic]:
    """Mean, median and range of each figure that any of the records has."""
    result = []
    for name, (label, form) in FIGURES.items():
        value = SECONDS if name == "seconds" else f"{name}::DOUBLE"
        # A query for each: a median holds all values of its column in memory.
        (found,) = records.rows(
            "SELECT count(x) AS images, favg(x) AS mean, median(x) AS median, min(x) AS low, max(x) AS high "
            f"FROM (SELECT {value} AS x FROM records) WHERE isfinite(x)"
        )
        if found["images"]:
            texts = (form.format(found[part]) for part in ("mean", "median", "low", "high"))
            result.append(Statistic(label, _doc(name), found["images"], *texts))
    return result


def _counts(records: RecordDatabase, column: str) -> list[tuple[str, int]]:
    """Number of images by the values of a column, in their order."""
    found = records.rows(f"SELECT {column} AS value, count(*) AS images FROM records GROUP BY value ORDER BY value")
    return [(row["value"], row["images"]) for row in found]


def _card(row: Mapping[str, Any], pictures: Sequence[Picture], links: str | None) -> Card:
    cleaned = row["status"] in ("cleaned", "held")
    figures: list[tuple[str, str, str | None]] = []
    for name, (label, form) in FIGURES.items():
        value = sortable(name, row[name])
        if value is not None or (cleaned and name not in RETRY_COLUMNS):
            figures.append((name, label, None if value is None else form.format(value)))
    sizes = (
        [row["source_size"], row["output_size"]] if cleaned and row["output_size"] is not None else [row["source_size"]]
    )
    return Card(
        row=row,
        size=" → ".join(_bytes(size) for size in sizes),
        objects=_objects(row["objects"] or []),
        figures=figures,
        pictures=pictures,
        link=links + quote(row["key"]) if links is not None and row["output_size"] is not None else None,
    )


def _objects(objects: Sequence[Mapping[str, Any]]) -> str:
    """Such as `2 person (0.91, 0.40), 1 car (0.70)`: of each label the number and the best confidences."""
    by_label: dict[str, list[float]] = {}
    for found in objects:
        by_label.setdefault(found["label"], []).append(found["confidence"])
    parts = []
    for label, confidences in by_label.items():
        best = [f"{confidence:.2f}" for confidence in sorted(confidences, reverse=True)[:5]]
        parts.append(f"{len(confidences)} {label} ({', '.join(best)}{', …' if len(confidences) > 5 else ''})")
    return ", ".join(parts)


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def _doc(column: str) -> Markup:
    """The doc of a record's column, its `code` as HTML."""
    text = str(escape(SCHEMA.field(column).metadata[b"doc"].decode()))
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", text))
