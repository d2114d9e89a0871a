"""What is done: reading records, finding what is missing, and turning a run's journal into records.

Workers write their records to the journal once a batch's images are written, or a second later, so a run that dies loses
at most the batches of that second and those in flight. When a run ends (or the next one starts), journal and records
are merged into a new generation of record files with exactly one row per key, in key order. Between writing that
generation and deleting the old one a crash can leave a row twice; every reader here takes the latest row of a key, so
nothing is ever counted twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from types import MappingProxyType
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from inpaint_core.errors import Stage
from inpaint_core.progress import PrintLine
from inpaint_core.removal.catalogue.decisions import Identity
from inpaint_core.removal.catalogue.journal import parse, read_file, schema_of
from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.removal.catalogue.sorted_rows import Cursor, SortedRows, regrouped
from inpaint_core.removal.record import SCHEMA
from inpaint_core.storage import ObjectInfo, Storage

_ROWS_PER_FILE = 100_000
_FILES_PER_GROUP = 1_000
_BYTES_PER_GROUP = 16 * 2**20
_THREADS = 16  # reading and deleting small objects is waiting

PLANNED_BY = ("key", "source_etag", "status", "stage", "output_size", "config_hash", "run_id", "decision")
PASSING_STAGES = frozenset({Stage.READ, Stage.WRITE})
"""A failure in one of these says nothing about the image: every run takes it again."""


@dataclass(frozen=True)
class Pending:
    """What of some images a job has to do.

    `images` holds the manifest's rows to process, `done` the number of images that need nothing, `failed_before` the
    number of those of them whose record says `failed` (they run again with `retry_failed=true`).
    """

    images: pa.Table
    done: int
    failed_before: int


def read_records(storage: Storage, *, dry_run: bool = False) -> pa.Table:
    """All records of an output, from finished and unfinished runs, in memory: a table of `record.SCHEMA`.

    Rows are in key order, one per key; of several the latest is taken.
    """
    layout = Layout.of(dry_run=dry_run)
    return pa.concat_tables([SCHEMA.empty_table(), *_in_order(storage, _record_files(storage, layout), SCHEMA.names)])


def record_tables(storage: Storage, layout: Layout) -> Iterator[pa.Table]:
    """All records, the latest of each key, in key order: tables of `record.SCHEMA` of about a megabyte."""
    return _in_order(storage, _record_files(storage, layout), SCHEMA.names)


def open_records(storage: Storage, layout: Layout, columns: Sequence[str]) -> Cursor:
    """Some columns of all records, the latest of each key, in key order."""
    return Cursor(_in_order(storage, _record_files(storage, layout), columns), schema_of(columns))


def merge_journal(
    storage: Storage,
    layout: Layout,
    run_id: str,
    print_line: PrintLine = lambda _: None,
    *,
    without: SortedRows | None = None,
    changed: Callable[[pa.Table], pa.Table] | None = None,
) -> None:
    """Turn records and journals into one new generation of record files.

    Args:
        storage: the output.
        layout: of the kind of run.
        run_id: names the new files.
        print_line: takes a line for a person where it will take long.
        without: images whose records are forgotten, so that the next plan does them.
        changed: what becomes of records, a table of `record.SCHEMA` at a time; None: they stay as they are.
    """
    files = _record_files(storage, layout)
    journals = [info for info in files if info.key.startswith(f"{layout.journal}/")]
    old = [info.key for info in files if info.key.startswith(f"{layout.records}/")]
    generations = {_generation(key) for key in old}
    if not journals and len(generations) < 2 and without is None and changed is None:
        return
    if len(files) > _FILES_PER_GROUP:
        print_line(f"merging {len(files):,} record files")
    # A name of its own also where the same run has merged before: the files that are read must not be written over.
    names = (f"{layout.records}/{run_id}{f'.{again}' if again else ''}" for again in count())
    name = next(name for name in names if name not in generations)
    rows = _in_order(storage, files, SCHEMA.names)
    if without is not None:
        rows = _less(rows, Cursor((images.select(["key"]) for images in without), schema_of(["key"])))
    if changed is not None:
        rows = map(changed, rows)
    for index, part in enumerate(regrouped(rows, _ROWS_PER_FILE)):
        with storage.open_write(f"{name}-{index:05d}.parquet") as file:
            pq.write_table(part, file)
    # Old generations before journals: what is left after a crash in between still has a journal, and is merged again.
    _delete_all(storage, old)
    # Not a journal that another run has written again since it was read: its new records are in no generation yet.
    merged = {info.key: info.etag for info in journals}
    _delete_all(storage, [info.key for info in storage.list(layout.journal) if merged.get(info.key) == info.etag])


def pending_images(
    manifest: pa.Table,
    records: pa.Table,
    outputs: dict[str, int] | None,
    config_hash: str,
    *,
    retry_failed: bool,
    decided: Mapping[str, Identity] = MappingProxyType({}),
) -> Pending:
    """Which images of the manifest have to be processed.

    An image is done when its latest record is of the same object (etag) and config and its output is still there with
    the recorded size. Where a person decided about that record, its config does not matter. A failed one is done too, unless `retry_failed`, or unless it could not be read or written.

    Args:
        manifest: table of `listing.SCHEMA`.
        records: table of `record.SCHEMA`, one row per key.
        outputs: size in bytes of every object of the output that has a key of the manifest; None where outputs are not written (dry run).
        config_hash: of the run to come.
        retry_failed: whether all failed images are pending.
        decided: of images about which a person decided, and whose decision waits to be carried out: the record that it is about.
    """
    keys, *columns = (records[name].to_pylist() for name in PLANNED_BY)
    latest = dict(zip(keys, map(_Latest, *columns), strict=True))
    pending: list[int] = []
    failed_before = 0
    for index, (key, etag) in enumerate(zip(manifest["key"].to_pylist(), manifest["etag"].to_pylist(), strict=True)):
        record = latest.get(key)
        if record is None or _is_outdated(record, key, etag, outputs, config_hash, decided.get(key)):
            pending.append(index)
        elif record.status == "failed":
            failed_before += 1
            if retry_failed:
                pending.append(index)
    done = len(manifest) - len(pending)
    return Pending(manifest.take(pa.array(pending, pa.int64())), done, 0 if retry_failed else failed_before)


class _Latest(NamedTuple):
    """What planning asks of the latest record of a key: the columns of `PLANNED_BY` after it."""

    etag: str
    status: str
    stage: str | None
    output_size: int | None
    config_hash: str
    run_id: str
    decision: str | None


def _is_outdated(
    record: _Latest,
    key: str,
    etag: str,
    outputs: Mapping[str, int] | None,
    config_hash: str,
    decided: Identity | None,
) -> bool:
    """The rule of planning: whether an image has to be processed although it has a record; arguments as of `pending_images`."""
    if record.etag != etag:
        return True
    waits = decided == Identity(record.etag, record.run_id)
    if record.config_hash != config_hash and record.decision is None and not waits:
        return True
    if record.status == "failed" and waits:
        return False
    if record.status == "failed":
        return record.stage in PASSING_STAGES
    return outputs is not None and outputs.get(key) != record.output_size


def _record_files(storage: Storage, layout: Layout) -> list[ObjectInfo]:
    """Record files, then journals in the order in which they were written, which is nearly that of the keys."""
    records, journals = (
        [info for info in storage.list(prefix) if info.key.endswith(".parquet")]
        for prefix in (layout.records, layout.journal)
    )
    return sorted(records, key=lambda info: info.key) + sorted(journals, key=lambda info: info.modified)


def _generation(key: str) -> str:
    return key.rpartition("-")[0]


def _in_order(storage: Storage, files: Sequence[ObjectInfo], columns: Sequence[str]) -> Iterator[pa.Table]:
    """The latest row of each key of many files, in key order."""
    with_time = list(dict.fromkeys([*columns, "finished_at"]))
    rows = SortedRows(schema_of(with_time))
    with ThreadPoolExecutor(_THREADS) as pool:
        for group in _groups(files):
            # Read by threads and parsed by one: each thread that parses would keep memory of its own. Joined, because a
            # table of eight rows costs as much as one of a thousand.
            files_of_group = zip(group, pool.map(partial(read_file, storage), group), strict=True)
            tables = [parse(data, with_time, f"{storage.uri}/{key}") for key, data in files_of_group]
            rows.add(pa.concat_tables(tables).combine_chunks())
    for part in rows:
        yield _latest(part).select(columns)


def _less(rows: Iterable[pa.Table], without: Cursor) -> Iterator[pa.Table]:
    """Rows less those with a key of `without`; both in key order."""
    for part in rows:
        dropped = without.matching(part["key"])["key"]
        yield part.filter(pc.invert(pc.is_in(part["key"], dropped)))


def _groups(files: Iterable[ObjectInfo]) -> Iterator[list[str]]:
    """Keys of files that are read at a time."""
    group: list[str] = []
    size = 0
    for info in files:
        group.append(info.key)
        size += info.size
        if len(group) == _FILES_PER_GROUP or size >= _BYTES_PER_GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group


def _delete_all(storage: Storage, keys: list[str]) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(keys), _FILES_PER_GROUP):  # one that waits takes a kilobyte or two
            deque(pool.map(storage.delete, keys[start : start + _FILES_PER_GROUP]), maxlen=0)


def _latest(rows: pa.Table) -> pa.Table:
    """The latest row of each key, in key order."""
    order = pc.sort_indices(rows.select(["key", "finished_at"]), [("key", "ascending"), ("finished_at", "ascending")])
    keys = rows["key"].take(order)
    last = pc.not_equal(keys.slice(0, len(keys) - 1), keys.slice(1))
    if pc.all(last).as_py():
        return rows
    return rows.take(order.filter(pa.concat_arrays([*last.chunks, pa.array([True])])))
