"""What is done: reading records back, telling what is missing, and turning a run's journal into records.

Workers write each batch's records to the journal as soon as its images are written, so a run that dies loses at most
the batches in flight. When a run ends (or the next one starts), journal and records are merged into a new generation
of record files with exactly one row per key. Between writing that generation and deleting the old one a crash can
leave a row twice; every reader here takes the latest row of a key, so nothing is ever counted twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from inpaint_core.errors import StorageError
from inpaint_core.records import SCHEMA, STATUSES, Record, to_table
from inpaint_core.removal.entries import name_of
from inpaint_core.removal.layout import Layout
from inpaint_core.storage import Storage

_ROWS_PER_FILE = 100_000
_FILES_PER_GROUP = 1_000
_THREADS = 16  # reading and deleting small objects is waiting


@dataclass(frozen=True)
class Plan:
    """What a run has to do.

    `pending` holds the manifest's rows to process, `done` the number of images that need nothing, `failed_before` the
    number of those whose record says `failed` (they run again with `retry_failed=true`).
    """

    pending: pa.Table
    done: int
    failed_before: int


def journal_key(layout: Layout, run_id: str, keys: Iterable[str]) -> str:
    """Where the records of a batch are journalled: the same keys in the same run always give the same place."""
    return f"{layout.journal}/{run_id}/{name_of(keys)}.parquet"


def write_journal(storage: Storage, key: str, records: Iterable[Record]) -> pa.Table:
    """Write the records of a finished batch, and return them as a table of `records.SCHEMA`."""
    table = to_table(records)
    with storage.open_write(key) as file:
        pq.write_table(table, file)
    return table


def read_journal(storage: Storage, key: str) -> pa.Table | None:
    """The records of a batch that an earlier attempt at it finished, or None."""
    return _read(storage, key) if storage.exists(key) else None


def read_records(storage: Storage, *, dry_run: bool = False) -> pa.Table:
    """All records of an output, from finished and unfinished runs: a table of `records.SCHEMA`, one row per key.

    Rows are in key order; of several rows of one key the latest is taken.
    """
    return _latest(_read_all(storage, _record_files(storage, Layout.of(dry_run=dry_run))))


def merge_journal(
    storage: Storage, layout: Layout, run_id: str, say: Callable[[str], None] = lambda _: None
) -> pa.Table:
    """Turn records and journals into one new generation of record files; returns all records, one row per key."""
    old = _record_files(storage, layout)
    if len(old) > _FILES_PER_GROUP:
        say(f"merging {len(old):,} record files")
    rows = _read_all(storage, old)
    table = _latest(rows)
    journals = [key for key in old if key.startswith(f"{layout.journal}/")]
    if journals or len(table) < len(rows):
        new = []
        for index, start in enumerate(range(0, len(table), _ROWS_PER_FILE)):
            key = f"{layout.records}/{run_id}-{index:05d}.parquet"
            with storage.open_write(key) as file:
                pq.write_table(table.slice(start, _ROWS_PER_FILE), file)
            new.append(key)
        # Old generations before journals: what is left after a crash in between still has a journal, and is merged again.
        _delete_all(storage, sorted(set(old) - set(new) - set(journals)))
        _delete_all(storage, journals)
    return table


def forget(storage: Storage, layout: Layout) -> None:
    """Delete every record and journal, so that the next plan does everything."""
    _delete_all(storage, _record_files(storage, layout))


def plan(
    manifest: pa.Table,
    records: pa.Table,
    outputs: dict[str, int] | None,
    config_hash: str,
    *,
    retry_failed: bool,
) -> Plan:
    """Which images of the manifest have to be processed.

    An image is done when its latest record is of the same object (etag) and config and its output is still there with
    the recorded size. A failed one is done too, unless `retry_failed`.

    Args:
        manifest: table of `listing.SCHEMA`.
        records: table of `records.SCHEMA`, one row per key.
        outputs: size in bytes of every object of the output; None where outputs are not written (dry run).
        config_hash: of the run to come.
        retry_failed: whether failed images are pending.
    """
    known = records.select(["key", "source_etag", "status", "output_size", "config_hash"])
    row_of = {key: row for row, key in enumerate(known["key"].to_pylist())}
    etags, statuses = known["source_etag"].to_pylist(), known["status"].to_pylist()
    sizes, hashes = known["output_size"].to_pylist(), known["config_hash"].to_pylist()
    pending: list[int] = []
    failed_before = 0
    for index, (key, etag) in enumerate(zip(manifest["key"].to_pylist(), manifest["etag"].to_pylist(), strict=True)):
        row = row_of.get(key)
        if row is None or etags[row] != etag or hashes[row] != config_hash:
            pending.append(index)
        elif statuses[row] == "failed":
            failed_before += 1
            if retry_failed:
                pending.append(index)
        elif outputs is not None and outputs.get(key) != sizes[row]:
            pending.append(index)
    done = len(manifest) - len(pending)
    return Plan(manifest.take(pa.array(pending, pa.int64())), done, 0 if retry_failed else failed_before)


@dataclass(frozen=True)
class Totals:
    """Counts over records: images by status, removed objects by label, and unchanged images that hold objects.

    The last are those whose mask would have covered too much (`mask.max_mask_fraction`).
    """

    by_status: dict[Literal["cleaned", "unchanged", "failed"], int]
    by_label: dict[str, int]
    left_alone: int


def totals(records: pa.Table) -> Totals:
    """Counts over a table of `records.SCHEMA`."""
    counted = {row["values"]: row["counts"] for row in pc.value_counts(records["status"]).to_pylist()}
    cleaned = records.filter(pc.equal(records["status"], "cleaned"))
    labels = pc.struct_field(pc.list_flatten(cleaned["objects"]), "label")
    by_label = {row["values"]: row["counts"] for row in pc.value_counts(labels).to_pylist()}
    ordered = dict(sorted(by_label.items(), key=lambda item: (-item[1], item[0])))
    with_objects = records.filter(pc.greater(pc.fill_null(pc.list_value_length(records["objects"]), 0), 0))
    left_alone = pc.sum(pc.equal(with_objects["status"], "unchanged")).as_py() or 0
    return Totals({status: counted.get(status, 0) for status in STATUSES}, ordered, left_alone)


def _record_files(storage: Storage, layout: Layout) -> list[str]:
    prefixes = (layout.records, layout.journal)
    return sorted(info.key for prefix in prefixes for info in storage.list(prefix) if info.key.endswith(".parquet"))


def _read_all(storage: Storage, keys: list[str]) -> pa.Table:
    """All rows of many small files; joined in groups, because a table of eight rows costs as much as one of a thousand."""
    groups = [SCHEMA.empty_table()]
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(keys), _FILES_PER_GROUP):
            tables = pool.map(partial(_read, storage), keys[start : start + _FILES_PER_GROUP])
            groups.append(pa.concat_tables(tables).combine_chunks())
    return pa.concat_tables(groups)


def _delete_all(storage: Storage, keys: list[str]) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        deque(pool.map(storage.delete, keys), maxlen=0)


def _read(storage: Storage, key: str) -> pa.Table:
    try:
        return pq.read_table(pa.BufferReader(storage.read(key)), schema=SCHEMA)
    except pa.ArrowException as error:
        raise StorageError(
            f"{storage.uri}/{key} is not a whole record file; delete it, and its images are done again"
        ) from error


def _latest(table: pa.Table) -> pa.Table:
    """The latest row of each key, in key order."""
    order = pc.sort_indices(table.select(["key", "finished_at"]), [("key", "ascending"), ("finished_at", "ascending")])
    keys = table["key"].take(order)
    if len(keys) == 0:
        return table
    last = pc.not_equal(keys.slice(0, len(keys) - 1), keys.slice(1))
    is_last = pa.concat_arrays([*last.chunks, pa.array([True])])
    return table.take(order.filter(is_last))
