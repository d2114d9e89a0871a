"""Lists of a hundred thousand records, and of decisions among them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from inpaint_core.removal.catalogue.database import RecordDatabase
from inpaint_core.removal.catalogue.decisions import Decided
from inpaint_core.removal.record import FoundObject, Record, to_table
from inpaint_core.removal.review.queries import Filter, Reviewed

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
IMAGES = 100_000


@pytest.fixture(scope="module")
def reviewed() -> Iterator[Reviewed]:
    found = [FoundObject("person", 0.5, (0, 0, 9, 9), 81)]
    part = to_table(
        Record("", 9, "etag", "run", "hash", NOON, "cleaned", objects=found, seam=index / 1000, ssim=0.5)
        for index in range(1000)
    )

    def tables() -> Iterator[pa.Table]:
        for start in range(0, IMAGES, 1000):
            keys = pa.array([f"{number:06d}.jpg" for number in range(start, start + 1000)])
            yield part.set_column(0, part.schema.field("key"), keys)

    with RecordDatabase(tables()) as database:
        yield Reviewed(database)


def decided(number: int, decision: str = "accept", **changes: str) -> Decided:
    given = {"key": f"{number:06d}.jpg", "source_etag": "etag", "run_id": "run"} | changes
    return Decided(
        id=f"{number}-{decision}",
        decision=decision,  # type: ignore[arg-type]
        mask=None,
        decided_by="Anna",
        decided_at=NOON + timedelta(seconds=number),
        **given,
    )


def test_lists_of_100_000_records_are_quick(reviewed: Reviewed) -> None:
    for wanted, offset, first in (
        (Filter(), 0, "000999.jpg"),
        (Filter(), 50_000, "000499.jpg"),
        (Filter(sort="key", decided="no"), 99_000, "099000.jpg"),
        (Filter(sort="seam", label="person", text="99.j"), 0, "000099.jpg"),
    ):
        start = time.monotonic()
        page = reviewed.page(wanted, offset, 100)
        assert time.monotonic() - start < 1.0  # 0.05 on an idle machine
        assert page["rows"][0]["key"] == first


def test_decisions_about_other_records_or_older_ones_do_not_count(reviewed: Reviewed) -> None:
    reviewed.add(
        [decided(5, "hold"), decided(6, run_id="earlier"), decided(7, source_etag="other"), decided(8, key="no.jpg")]
    )
    assert reviewed.counts() == {"images": IMAGES, "decided": 1}
    reviewed.add([Decided("a", "000005.jpg", "accept", None, "Ben", NOON, "etag", "run")])  # it was made earlier
    (row,) = reviewed.page(Filter(decided="yes"), 0, 9)["rows"]
    assert (row["key"], row["decision"], row["decided_by"]) == ("000005.jpg", "hold", "Anna")
    before = reviewed.sequence
    reviewed.add([decided(number, "restore") for number in range(10, 30)])
    changes = reviewed.changes(before)
    assert [row["key"] for row in changes["rows"]] == [f"{number:06d}.jpg" for number in range(10, 30)]
    assert changes["counts"]["decided"] == 21
    assert reviewed.changes(changes["until"])["rows"] == []
