import random
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inpaint_core.errors import StorageError
from inpaint_core.removal.catalogue import ledger, sorted_rows
from inpaint_core.removal.catalogue.journal import Journal, journal_key, read_journal
from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.removal.catalogue.ledger import merge_journal, pending_images, read_records
from inpaint_core.removal.catalogue.listing import SCHEMA as MANIFEST
from inpaint_core.removal.catalogue.sorted_rows import SortedRows
from inpaint_core.removal.catalogue.totals import totals, totals_of
from inpaint_core.removal.record import SCHEMA, FoundObject, Record, to_table
from inpaint_core.storage import Storage, UnansweredRequest, open_storage

LAYOUT = Layout.of(dry_run=False)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def record(key: str, **changes: object) -> Record:
    plain = Record(key, 10, "etag", "run1", "hash", NOON, status="unchanged", output_size=10)
    return replace(plain, **changes)  # type: ignore[arg-type]


def manifest(*keys: str, etag: str = "etag") -> pa.Table:
    rows = [{"key": key, "size": 10, "etag": etag, "modified": NOON, "problem": None} for key in keys]
    return pa.Table.from_pylist(rows, schema=MANIFEST)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    (tmp_path / "out").mkdir()
    return open_storage(str(tmp_path / "out"))


def journal(storage: Storage, run: str, *records: Record) -> str:
    key = journal_key(LAYOUT, run, [record.key for record in records])
    Journal(storage, key).add(records)
    return key


def listing(*keys: str) -> SortedRows:
    rows = SortedRows(MANIFEST)
    rows.add(manifest(*keys))
    return rows


def files(storage: Storage) -> list[str]:
    return [info.key for info in storage.list("_removal")]


def test_a_record_survives_the_round_trip(storage: Storage) -> None:
    full = record(
        "ü/a b#%.jpg",
        status="cleaned",
        objects=[FoundObject("person", 0.5, (0.0, 1.0, 2.5, 3.0), 7)],
        psnr=None,
        ssim=0.25,
        seconds={"read": 0.5, "decode": 1.0},
    )
    key = journal(storage, "run1", full)
    table = read_journal(storage, key)
    assert table.schema.equals(SCHEMA)
    row = table.to_pylist()[0]
    assert row["objects"] == [{"label": "person", "confidence": 0.5, "box": [0.0, 1.0, 2.5, 3.0], "pixels": 7}]
    assert (row["key"], row["ssim"], row["psnr"], row["finished_at"]) == ("ü/a b#%.jpg", 0.25, None, NOON)
    assert row["seconds"]["decode"] == 1.0
    assert row["seconds"]["write"] is None


def test_no_records_is_an_empty_table(storage: Storage) -> None:
    assert read_records(storage).num_rows == 0
    assert read_records(storage).schema.equals(SCHEMA)
    merge_journal(storage, LAYOUT, "run1")
    assert files(storage) == []
    assert totals(read_records(storage)).by_status == {"cleaned": 0, "unchanged": 0, "held": 0, "failed": 0}


def test_merge_leaves_one_row_per_key_the_latest(storage: Storage) -> None:
    journal(storage, "run1", record("b"), record("a", status="failed"))
    merge_journal(storage, LAYOUT, "run1")
    later = NOON + timedelta(minutes=1)
    journal(storage, "run2", record("a", status="cleaned", finished_at=later))
    journal(storage, "run2", record("c"))
    merge_journal(storage, LAYOUT, "run2")
    merged = read_records(storage)
    assert merged["key"].to_pylist() == ["a", "b", "c"]
    assert merged["status"].to_pylist() == ["cleaned", "unchanged", "unchanged"]
    assert files(storage) == ["_removal/records/run2-00000.parquet"]


def test_a_crash_between_writing_and_deleting_doubles_nothing(storage: Storage) -> None:
    old = journal(storage, "run1", record("a"), record("b"))
    content = storage.read(old)
    merge_journal(storage, LAYOUT, "run1")
    storage.write(old, content)  # the merge died before it deleted the journal
    assert read_records(storage)["key"].to_pylist() == ["a", "b"]
    merge_journal(storage, LAYOUT, "run2")
    assert read_records(storage)["key"].to_pylist() == ["a", "b"]
    assert files(storage) == ["_removal/records/run2-00000.parquet"]


def test_merging_again_with_the_same_run_keeps_the_records(storage: Storage) -> None:
    journal(storage, "run1", record("a"))
    merge_journal(storage, LAYOUT, "run1")
    journal(storage, "run1", record("b"))
    merge_journal(storage, LAYOUT, "run1")
    assert read_records(storage)["key"].to_pylist() == ["a", "b"]


def test_a_crash_in_the_second_merge_of_a_run_loses_nothing(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_ROWS_PER_FILE", 2)
    journal(storage, "run1", *(record(key) for key in "bdfh"))
    merge_journal(storage, LAYOUT, "run1")
    journal(storage, "run1", *(record(key) for key in "aceg"))
    open_write, written = storage.open_write, list[str]()

    def dies_at_the_third(key: str) -> Any:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(key)
        return open_write(key)

    with monkeypatch.context() as dying:
        dying.setattr(storage, "open_write", dies_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            merge_journal(storage, LAYOUT, "run1")
    assert read_records(storage)["key"].to_pylist() == list("abcdefgh")
    merge_journal(storage, LAYOUT, "run1")
    assert read_records(storage)["key"].to_pylist() == list("abcdefgh")
    assert len(files(storage)) == 4


def test_two_generations_become_one(storage: Storage) -> None:
    journal(storage, "run1", record("a"), record("b"))
    merge_journal(storage, LAYOUT, "run1")
    old = files(storage)[0]
    content = storage.read(old)
    journal(storage, "run2", record("b", status="failed", finished_at=NOON + timedelta(minutes=1)))
    merge_journal(storage, LAYOUT, "run2")
    storage.write(old, content)  # the merge died before it deleted the generation before
    assert read_records(storage)["status"].to_pylist() == ["unchanged", "failed"]
    merge_journal(storage, LAYOUT, "run3")
    assert files(storage) == ["_removal/records/run3-00000.parquet"]
    assert read_records(storage)["status"].to_pylist() == ["unchanged", "failed"]
    merge_journal(storage, LAYOUT, "run4")  # nothing to merge: nothing is written
    assert files(storage) == ["_removal/records/run3-00000.parquet"]


def test_many_records_are_merged_in_parts(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorted_rows, "_SEQUENCE_BYTES", 20_000)
    monkeypatch.setattr(sorted_rows, "_PART_BYTES", 3_000)
    monkeypatch.setattr(ledger, "_ROWS_PER_FILE", 70)
    monkeypatch.setattr(ledger, "_FILES_PER_GROUP", 3)
    rng = random.Random(0)
    latest: dict[str, Record] = {}
    for number in range(60):
        found = [FoundObject("car", 0.5, (number, 0, 1, 1), number)] * (number % 3)
        changes = {"objects": found, "note": f"{number}", "finished_at": NOON + timedelta(seconds=number)}
        records = {key: record(key, **changes) for key in (f"{rng.randrange(250):03}" for _ in range(10))}
        latest |= records
        journal(storage, f"run{number % 2}", *records.values())
        if number == 30:
            merge_journal(storage, LAYOUT, "between")
    assert read_records(storage).num_rows == len(latest)
    merge_journal(storage, LAYOUT, "end")
    assert [info.key for info in storage.list("_removal")] == [
        f"_removal/records/end-{number:05}.parquet" for number in range(-(-len(latest) // 70))
    ]
    rows = read_records(storage)
    assert rows.equals(to_table(latest[key] for key in sorted(latest)))
    listed = SortedRows(MANIFEST)
    listed.add(manifest(*sorted(latest)[:100], "no record of this"))
    assert totals_of(storage, LAYOUT, listed).by_status == {"cleaned": 0, "unchanged": 100, "held": 0, "failed": 0}


def test_a_journal_is_one_object(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    key = journal_key(LAYOUT, "run1", "abcdef")
    assert read_journal(storage, key).num_rows == 0
    attempt = Journal(storage, key)

    def add(*keys: str) -> list[list[str]]:
        return [batch["key"].to_pylist() for batch in attempt.add([record(key) for key in keys])]

    assert add("a", "b") == [["a", "b"]]
    assert add("c") == []  # not yet: stores allow about one write a second of the same object
    assert read_journal(storage, key)["key"].to_pylist() == ["a", "b"]
    later = time.monotonic() + 2
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert add("d", "e") == [["c"], ["d", "e"]]
    assert add("f") == []
    assert [batch["key"].to_pylist() for batch in attempt.write()] == [["f"]]
    assert attempt.write() == []
    assert files(storage) == [key]
    assert read_journal(storage, key)["key"].to_pylist() == list("abcdef")
    assert journal_key(LAYOUT, "run1", "abcdef", attempt="2") != key


def test_a_journal_that_is_not_answered_waits_and_the_work_goes_on(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = journal_key(LAYOUT, "run1", "abc")
    attempt = Journal(storage, key)
    write, refusals = storage.write, iter(range(2))

    def unanswered(key: str, data: bytes) -> None:
        if next(refusals, None) is not None:
            raise UnansweredRequest("no answer in time")
        write(key, data)

    monkeypatch.setattr(storage, "write", unanswered)
    assert attempt.add([record("a")]) == []
    assert attempt.add([record("b")]) == []
    assert [batch["key"].to_pylist() for batch in attempt.write_all()] == [["a"], ["b"]]
    assert read_journal(storage, key)["key"].to_pylist() == ["a", "b"]
    refusals = iter(range(10**6))
    storage.retry_seconds = 0.05
    with pytest.raises(StorageError, match="no answer in time"):
        attempt.add([record("c")]) + attempt.write_all()


def test_a_record_file_that_is_damaged_is_named(storage: Storage) -> None:
    journal(storage, "run1", record("a"))
    storage.write("_removal/records/run0-00000.parquet", b"PAR1 half")
    with pytest.raises(
        StorageError, match=r"_removal/records/run0-00000\.parquet is not a complete record file; delete it"
    ):
        read_records(storage)


def test_records_can_be_forgotten(storage: Storage) -> None:
    journal(storage, "run1", *(record(key) for key in "abcd"))
    merge_journal(storage, LAYOUT, "run1")
    journal(storage, "run2", record("b"), record("e"))
    merge_journal(storage, LAYOUT, "run2", without=listing("b", "d", "x"))
    assert read_records(storage)["key"].to_pylist() == ["a", "c", "e"]
    merge_journal(storage, LAYOUT, "run3", without=listing("a", "c", "e"))
    assert files(storage) == []


def test_dry_runs_keep_their_own(storage: Storage) -> None:
    dry = Layout.of(dry_run=True)
    Journal(storage, journal_key(dry, "run1", ["a"])).add([record("a")])
    merge_journal(storage, dry, "run1")
    assert read_records(storage).num_rows == 0
    assert read_records(storage, dry_run=True).num_rows == 1


def pending(
    table: pa.Table, records: list[Record], outputs: dict[str, int] | None, *, retry_failed: bool = False
) -> list[str]:
    keys: list[str] = (
        pending_images(table, to_table(records), outputs, "hash", retry_failed=retry_failed).images["key"].to_pylist()
    )
    return keys


def test_what_is_done_is_not_pending() -> None:
    assert pending(manifest("a", "b"), [record("a")], {"a": 10}) == ["b"]


@pytest.mark.parametrize(
    "changes",
    [{"source_etag": "other"}, {"config_hash": "other"}, {"output_size": 11}],
    ids=lambda item: next(iter(item)),
)
def test_what_changed_is_pending(changes: dict[str, object]) -> None:
    assert pending(manifest("a"), [record("a", **changes)], {"a": 10}) == ["a"]


def test_a_missing_output_is_pending_unless_none_is_written() -> None:
    assert pending(manifest("a"), [record("a")], {}) == ["a"]
    assert pending(manifest("a"), [record("a", output_size=None)], None) == []


def test_failures_wait_for_retry_failed() -> None:
    failed = [record("a", status="failed", output_size=None)]
    first = pending_images(manifest("a"), to_table(failed), {}, "hash", retry_failed=False)
    assert (len(first.images), first.done, first.failed_before) == (0, 1, 1)
    again = pending_images(manifest("a"), to_table(failed), {}, "hash", retry_failed=True)
    assert (len(again.images), again.done, again.failed_before) == (1, 0, 0)


def test_totals_count_images_and_removed_objects() -> None:
    person, car = FoundObject("person", 0.9, (0, 0, 1, 1), 5), FoundObject("car", 0.9, (0, 0, 1, 1), 5)
    counted = totals(
        to_table(
            [
                record("a", status="cleaned", objects=[person, car], outside_exact=True),
                record("b", status="cleaned", objects=[person], outside_exact=False),
                record("c", status="unchanged", objects=[car]),
                record("d", status="failed"),
            ]
        )
    )
    assert counted.by_status == {"cleaned": 2, "unchanged": 1, "held": 0, "failed": 1}
    assert counted.by_label == {"person": 2, "car": 1}
    assert counted.left_alone == 1
    assert (counted.exact, counted.compared) == (1, 2)
    twice = counted + totals(to_table([record("e", status="cleaned", objects=[car, car, car], outside_exact=True)]))
    assert twice.by_status == {"cleaned": 3, "unchanged": 1, "held": 0, "failed": 1}
    assert list(twice.by_label.items()) == [("car", 4), ("person", 2)]
    assert twice.left_alone == 1
    assert (twice.exact, twice.compared) == (2, 3)
    assert counted + totals(to_table([])) == counted


def test_records_without_a_later_column_are_read(storage: Storage) -> None:
    earlier = to_table([record("a", status="cleaned", objects=[])]).drop_columns(["outside_exact"])
    with storage.open_write("_removal/records/1-00000.parquet") as file:
        pq.write_table(earlier, file)
    table = read_records(storage)
    assert table.schema == SCHEMA
    assert table["outside_exact"].to_pylist() == [None]
    assert table["status"].to_pylist() == ["cleaned"]
