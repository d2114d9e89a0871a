"""One HTML page about a removal job, to look through its results: `inpaint report OUTPUT`.

The page is one file without links to the network: its pictures are small JPEGs inside it. It shows what the records
say, the worst images first, and every failure with its reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from inpaint_core.config import validate
from inpaint_core.errors import ConfigError, ObjectError, StorageError
from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.removal.catalogue.ledger import read_records
from inpaint_core.removal.report.page import Page, render
from inpaint_core.removal.report.pictures import pictures_of
from inpaint_core.storage import S3Options, Storage, open_storage

__all__ = ["MAX_IMAGES", "select", "write_report"]

MAX_IMAGES = 500
# Threads: reading from an object store is mostly waiting, and decoding releases the interpreter. Each holds one whole
# image, which may have 100 megapixels.
READERS = 4

ORDER_RULE = (
    "cleaned images, by most objects that the detector still finds, then the most visible edge (highest seam), then "
    "the lowest SSIM; then unchanged images, those with a note before the rest"
)


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
        ObjectError: a file of records cannot be read, or the report cannot be written.
    """
    layout = Layout.of(dry_run=dry_run)
    if records is None:
        records = read_records(output, dry_run=dry_run)
    if len(records) == 0:
        kind = "dry run" if dry_run else "removal job"
        raise ConfigError(f"{output.uri} holds no records of a {kind}: run one with this output first")
    job, notes = _read_job(output, layout.job)
    source = _readable(source or _source_of(job, notes), notes)
    rows = select(records, max_images).to_pylist()
    look = partial(pictures_of, source=source, output=output, layout=layout, dry_run=dry_run)
    with ThreadPoolExecutor(READERS) as pool:
        pictures = list(pool.map(look, rows))
    key = f"{layout.root}/report.html"
    page = Page(
        records=records,
        output=output.uri,
        input=source.uri if source else job.get("input"),
        job=job,
        notes=notes,
        order_rule=ORDER_RULE,
        dry_run=dry_run,
        links="../" * key.count("/") if to is None and not dry_run else None,
    )
    html = render(page, rows, pictures)
    if to is None:
        output.write(key, html.encode())
        return f"{output.uri.rstrip('/')}/{key}"
    try:
        to.write_text(html, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the report cannot be written to {to}: {error.strerror}") from error
    return str(to)


def select(records: pa.Table, max_images: int) -> pa.Table:
    """The rows that the page shows, in its order: every failure by key, then the worst of the others (`ORDER_RULE`).

    Args:
        records: a table of `records.SCHEMA`.
        max_images: rows that did not fail.
    """
    failed = pc.equal(records["status"], "failed")
    others = records.filter(pc.invert(failed))
    cleaned = pc.is_in(others["status"], pa.array(["cleaned", "held"]))
    rank = pc.if_else(cleaned, 0, pc.if_else(pc.is_valid(others["note"]), 1, 2))
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


def _read_job(output: Storage, key: str) -> tuple[Mapping[str, Any], list[str]]:
    """What a run's `job.json` says, and what is wrong with it."""
    try:
        job = json.loads(output.read(key))
    except (ObjectError, ValueError) as error:
        return {}, [f"{key} cannot be read, so the settings of the job are unknown: {error}"]
    if not isinstance(job, dict):
        return {}, [f"{key} is not the settings file of a removal job, so it is not shown."]
    return job, []


def _source_of(job: Mapping[str, Any], notes: list[str]) -> Storage | None:
    uri = job.get("input")
    if not isinstance(uri, str):
        notes.append("The input is unknown; give it with --input to show the original images.")
        return None
    try:
        return open_storage(uri, validate(S3Options, job.get("s3") or {}))
    except ConfigError as error:
        notes.append(f"The original images are not shown: {error}")
        return None


def _readable(source: Storage | None, notes: list[str]) -> Storage | None:
    if source is None:
        return None
    try:
        source.check_readable()
    except StorageError as error:
        notes.append(f"The original images are not shown: {error}")
        return None
    return source
