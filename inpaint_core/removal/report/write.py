"""One HTML page about a removal job, to look through its results: `inpaint report OUTPUT`.

The page is one file without links to the network: its pictures are small JPEGs inside it. It shows what the records
say, the worst images first, and failures with their reasons. The records are queried in a database on the disk, so that a million
of them need no more memory than a few.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from inpaint_core.errors import ConfigError
from inpaint_core.removal.catalogue.database import RecordDatabase, worst_first
from inpaint_core.removal.catalogue.job_file import read_job, readable, source_of
from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.removal.catalogue.ledger import record_tables
from inpaint_core.removal.record import SCHEMA
from inpaint_core.removal.report.page import Page, render
from inpaint_core.removal.report.pictures import pictures_of
from inpaint_core.storage import Storage

__all__ = ["MAX_IMAGES", "select", "write_report"]

MAX_IMAGES = 500
# Threads: reading from an object store is mostly waiting, and decoding releases the interpreter. Each holds one whole
# image, which may have 100 megapixels.
READERS = 4

# Cards of failures are small, but a page of a million would open in no browser.
MAX_FAILED = 2_000

ORDER_RULE = (
    "held images, then cleaned ones, by most objects that the detector still finds, then by how little the fill looks like its "
    "surroundings (lowest likeness); where that is not measured, by the most visible edge (highest seam), then the lowest SSIM; then "
    "unchanged images, those with a note before the rest"
)


def write_report(
    output: Storage,
    *,
    source: Storage | None = None,
    records: Iterable[pa.Table] | None = None,
    max_images: int = MAX_IMAGES,
    dry_run: bool = False,
    to: Path | None = None,
) -> str:
    """Write the report of a job; returns where it lies.

    Args:
        output: the job's output.
        source: the job's input, for the pictures before; None: where the job says it was, with the job's S3 options.
        records: tables of `record.SCHEMA`, one row per key; None: those of the output.
        max_images: images that did not fail and are shown, the worst first, beside the first 2,000 failures.
        dry_run: report on the dry run of this output instead.
        to: a local file; None: `report.html` beside the records.

    Raises:
        ConfigError: there are no records, or `to` cannot be written.
        StorageError: the output cannot be used. (Where the input cannot, the page says so and does without.)
        ObjectError: a file of records cannot be read, or the report cannot be written.
    """
    layout = Layout.of(dry_run=dry_run)
    with RecordDatabase(record_tables(output, layout) if records is None else records) as database:
        return _write(database, output, layout, source, max_images, dry_run, to)


def _write(
    database: RecordDatabase,
    output: Storage,
    layout: Layout,
    source: Storage | None,
    max_images: int,
    dry_run: bool,
    to: Path | None,
) -> str:
    if database.value("SELECT count(*) FROM records") == 0:
        kind = "dry run" if dry_run else "removal job"
        raise ConfigError(f"{output.uri} holds no records of a {kind}: run one with this output first")
    job, notes = read_job(output, layout.job)
    source = readable(source or source_of(job, notes), notes)
    rows = select(database, max_images)
    look = partial(pictures_of, source=source, output=output, layout=layout, dry_run=dry_run)
    with ThreadPoolExecutor(READERS) as pool:
        pictures = list(pool.map(look, rows))
    key = f"{layout.root}/report.html"
    page = Page(
        records=database,
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


def select(records: RecordDatabase, max_images: int, max_failed: int = MAX_FAILED) -> list[dict[str, Any]]:
    """The rows that the page shows, in its order: failures by key, then the worst of the others (`ORDER_RULE`).

    Args:
        records: of the job.
        max_images: rows that did not fail.
        max_failed: rows that failed.
    """
    columns = ", ".join(f'"{name}"' for name in SCHEMA.names)
    failed = records.rows(f"SELECT {columns} FROM records WHERE status = 'failed' ORDER BY key LIMIT ?", [max_failed])
    order = worst_first(failed="last")
    return failed + records.rows(
        f"SELECT {columns} FROM records WHERE status <> 'failed' ORDER BY {order} LIMIT ?", [max_images]
    )
