import errno
import io
import random
import tempfile
import weakref
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest

from inpaint_core.errors import StorageError
from inpaint_core.removal.catalogue import sorted_rows
from inpaint_core.removal.catalogue.sorted_rows import Cursor, SortedRows, regrouped

SCHEMA = pa.schema([pa.field("key", pa.string(), nullable=False), pa.field("value", pa.int64())])


def table(*rows: tuple[str, int]) -> pa.Table:
    return pa.table([[key for key, _ in rows], [value for _, value in rows]], schema=SCHEMA)


def pairs(rows: pa.Table) -> list[tuple[str, int]]:
    return list(zip(rows["key"].to_pylist(), rows["value"].to_pylist(), strict=True))


@pytest.fixture(params=["memory", "disk"])
def small_runs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "disk":
        monkeypatch.setattr(sorted_rows, "_SEQUENCE_BYTES", 500)
        monkeypatch.setattr(sorted_rows, "_PART_BYTES", 60)


@pytest.mark.usefixtures("small_runs")
@pytest.mark.parametrize("order", ["sorted", "nearly sorted", "any"])
def test_rows_come_in_key_order_as_often_as_asked(order: str) -> None:
    rng = random.Random(0)
    rows = [(f"{rng.choice('aÄ𝄞')}/{rng.randrange(150):03}.jpg", number) for number in range(600)]
    if order != "any":
        rows.sort(key=lambda row: row[0] if order == "sorted" else (int(row[0][2:5]) // 40, row[1] % 7))
    sorter = SortedRows(SCHEMA)
    for start in range(0, len(rows), 9):
        sorter.add(table(*rows[start : start + 9]))
    assert len(sorter) == 600
    first, second = list(sorter), list(sorter)
    assert all(one.equals(other) for one, other in zip(first, second, strict=True))
    assert sorted(pairs(sorter.read())) == sorted(rows)
    assert sorter.read()["key"].to_pylist() == sorted(key for key, _ in rows)
    keys = [part["key"].to_pylist() for part in first]
    assert all(before[-1] < after[0] for before, after in pairwise(keys))  # no key in two parts


@pytest.mark.usefixtures("small_runs")
def test_one_key_again_and_again_is_one_part() -> None:
    sorter = SortedRows(SCHEMA)
    for number in range(200):
        sorter.add(table(("same", number)))
    (part,) = sorter
    assert sorted(part["value"].to_pylist()) == list(range(200))


def test_no_rows() -> None:
    sorter = SortedRows(SCHEMA)
    assert (len(sorter), list(sorter), sorter.read().schema) == (0, [], SCHEMA)
    sorter = SortedRows(SCHEMA)
    sorter.add(table())
    assert list(sorter) == []
    assert Cursor([], SCHEMA).up_to("z").num_rows == 0


def test_a_cursor_takes_each_row_once() -> None:
    cursor = Cursor([table(("a", 1), ("b", 2)), table(), table(("d", 3), ("e", 4), ("f", 5))], SCHEMA)
    assert pairs(cursor.up_to("a")) == [("a", 1)]
    assert pairs(cursor.up_to("a")) == []
    assert cursor.last == "b"
    assert pairs(cursor.up_to("d")) == [("b", 2), ("d", 3)]
    assert pairs(cursor.up_to("c")) == []
    assert not cursor.over
    assert pairs(cursor.up_to("z")) == [("e", 4), ("f", 5)]
    assert cursor.over


def test_tables_of_one_size() -> None:
    tables = [table(*((str(number), number) for number in range(size))) for size in (0, 5, 1, 9)]
    regroup = [len(rows) for rows in regrouped(tables, 4)]
    assert regroup == [4, 4, 4, 3]
    assert pa.concat_tables(regrouped(tables, 4)).equals(pa.concat_tables(tables))
    assert list(regrouped([], 4)) == []


class Full(io.BytesIO):
    def write(self, data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_temporary_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorted_rows, "_SEQUENCE_BYTES", 10)
    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    with pytest.raises(StorageError, match=f"^no space left in {tempfile.gettempdir()} .* set TMPDIR$"):
        SortedRows(SCHEMA).add(table(("a", 1)))


def test_a_cursor_gives_the_rows_of_some_keys() -> None:
    cursor = Cursor([table(("a", 1), ("b", 2)), table(), table(("d", 3), ("e", 4), ("e", 5)), table(("f", 6))], SCHEMA)

    def matching(*keys: str) -> list[tuple[str, int]]:
        return pairs(cursor.matching(pa.chunked_array([list(keys)], pa.string())))

    assert matching() == []
    assert matching("0", "b", "c") == [("b", 2)]
    assert matching("cc", "e") == [("e", 4), ("e", 5)]
    assert matching("e", "f", "g") == [("f", 6)]  # an earlier key has been passed
    assert cursor.over
    assert matching("h") == []


def test_rows_that_a_cursor_skips_do_not_stay_in_memory() -> None:
    there: list[weakref.ref[pa.Table]] = []
    most = 0

    def tables() -> Iterator[pa.Table]:
        nonlocal most
        for number in range(50):
            rows = table(*((f"{number:02}{letter}", number) for letter in "abc"))
            there.append(weakref.ref(rows))
            yield rows
            most = max(most, sum(rows() is not None for rows in there))

    cursor = Cursor(tables(), SCHEMA)
    assert pairs(cursor.matching(pa.chunked_array([["03b", "48a"]]))) == [("03b", 3), ("48a", 48)]
    assert len(there) == 49
    assert most < 5
