"""Rows in key order, however many: sorted in sequences that lie on the local disk, merged and joined part by part.

The listing and the records of a large collection do not fit into memory, and nothing needs them whole. What is held is
one sequence while it fills up, and then one part of each sequence that the merging has reached. Rows that come in key order, as
those of most listings do, are a single sequence.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from inpaint_core.errors import StorageError
from inpaint_core.storage.base import NO_ROOM

_SEQUENCE_BYTES = 32 * 2**20
_PART_BYTES = 2**20


@dataclass(frozen=True)
class _Sequence:
    """Rows in key order in the file: parts `begin` to `end`, keys `first` to `last`."""

    first: str
    last: str
    begin: int
    end: int


class SortedRows:
    """Takes rows in any order, then gives them in key order, any number of times.

    A few rows stay in memory; more wait in a file of the machine's temporary folder, which ends with this object.

    Args:
        schema: of the rows; its column `key` is a string.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._length = 0
        self._new: list[pa.Table] = []
        self._new_bytes = 0
        self._sequences: list[_Sequence] = []
        self._file: IO[bytes] | None = None
        self._writer: pa.RecordBatchFileWriter | None = None

    def __len__(self) -> int:
        return self._length

    def add(self, rows: pa.Table) -> None:
        """Take rows, until they are read for the first time.

        Raises:
            StorageError: no room in the temporary folder.
        """
        self._length += len(rows)
        self._new.append(rows)
        self._new_bytes += rows.nbytes
        if self._new_bytes >= _SEQUENCE_BYTES:
            self._write_sequence()

    def __iter__(self) -> Iterator[pa.Table]:
        """The rows in parts of about a megabyte; those of one key are in one part."""
        if self._file is None:
            self._new = [self._sorted_new()]
            return _parts(self._new[0])
        if self._writer is not None:
            self._write_sequence()
            with _room():
                self._writer.close()
            self._writer = None
        return self._merged(self._file)

    def read(self) -> pa.Table:
        """All rows, in memory."""
        return pa.concat_tables([self._schema.empty_table(), *self])

    def _sorted_new(self) -> pa.Table:
        return _by_key(pa.concat_tables([self._schema.empty_table(), *self._new]))

    def _write_sequence(self) -> None:
        """Move what is in memory to the file: a sequence of its own, or more of the last one where it follows that."""
        rows = self._sorted_new()
        self._new, self._new_bytes = [], 0
        if not len(rows):
            return
        first, last = rows["key"][0].as_py(), rows["key"][-1].as_py()
        begin = end = self._sequences[-1].end if self._sequences else 0
        with _room():
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115
                self._writer = pa.ipc.new_file(
                    self._file, self._schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
                )
            assert self._writer is not None
            for part in _parts(rows):
                for batch in part.combine_chunks().to_batches():
                    self._writer.write_batch(batch)
                    end += 1
        if self._sequences and self._sequences[-1].last < first:
            self._sequences[-1] = replace(self._sequences[-1], last=last, end=end)
        else:
            self._sequences.append(_Sequence(first, last, begin, end))

    def _merged(self, file: IO[bytes]) -> Iterator[pa.Table]:
        with _room():
            reader = pa.ipc.open_file(file)  # writes what the file had not yet put on the disk

        def rows_of(sequence: _Sequence) -> Cursor:
            parts = (pa.Table.from_batches([reader.get_batch(index)]) for index in range(sequence.begin, sequence.end))
            return Cursor(parts, self._schema)

        waiting = sorted(self._sequences, key=lambda sequence: sequence.first, reverse=True)
        reached: list[Cursor] = []
        while waiting or reached:
            if not reached:
                reached.append(rows_of(waiting.pop()))
            # Up to here every row is at hand: in the parts that are open, and in sequences that begin before.
            last = min(cursor.last for cursor in reached)
            while waiting and waiting[-1].first <= last:
                reached.append(rows_of(waiting.pop()))
                last = min(last, reached[-1].last)
            yield _by_key(pa.concat_tables([cursor.up_to(last) for cursor in reached]))
            reached = [cursor for cursor in reached if not cursor.over]


class Cursor:
    """Walks through rows that are in key order.

    Args:
        tables: the rows; those of one key are in one table.
        schema: of the rows.
    """

    def __init__(self, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
        self._tables = (table for table in tables if len(table))
        self._empty = schema.empty_table()
        self._rows: pa.Table | None = next(self._tables, None)

    @property
    def over(self) -> bool:
        """Whether all rows were taken."""
        return self._rows is None

    @property
    def last(self) -> str:
        """Last key of the rows that are in memory."""
        assert self._rows is not None
        last: str = self._rows["key"][-1].as_py()
        return last

    def up_to(self, key: str) -> pa.Table:
        """The rows not yet taken whose keys are not above `key`."""
        return pa.concat_tables([self._empty, *self._taken(key)])

    def matching(self, keys: pa.ChunkedArray) -> pa.Table:
        """The rows with one of these keys, which are in key order; those of other keys on the way there are skipped.

        However many are skipped, only a table or two of them are in memory.
        """
        if not len(keys):
            return self._empty
        first, last = keys[0].as_py(), keys[-1].as_py()
        matching = (
            rows.filter(pc.is_in(rows["key"], keys))
            for rows in self._taken(last)
            if len(rows) and rows["key"][-1].as_py() >= first
        )
        return pa.concat_tables([self._empty, *matching])

    def _taken(self, key: str) -> Iterator[pa.Table]:
        """What `up_to` gives, table by table."""
        while self._rows is not None:
            rows = self._rows
            if self.last > key:
                count = pc.sum(pc.less_equal(rows["key"], key)).as_py()
                self._rows = rows.slice(count)
                yield rows.slice(0, count)
                return
            self._rows = next(self._tables, None)
            yield rows


def regrouped(tables: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """The same rows in tables of `size` rows; the last may have fewer."""
    held: list[pa.Table] = []
    count = 0
    for table in tables:
        held.append(table)
        count += len(table)
        while count >= size:
            rows = pa.concat_tables(held)
            yield rows.slice(0, size)
            held, count = [rows.slice(size)], count - size
    if count:
        yield pa.concat_tables(held)


def _by_key(rows: pa.Table) -> pa.Table:
    keys = rows["key"]
    in_order = pc.all(pc.less_equal(keys.slice(0, max(len(keys) - 1, 0)), keys.slice(1))).as_py()
    return rows if in_order else rows.take(pc.sort_indices(keys))


def _parts(rows: pa.Table) -> Iterator[pa.Table]:
    """Rows in key order in parts of about `_PART_BYTES`, cut only where another key begins."""
    if not len(rows):
        return
    keys = rows["key"]
    begins = np.flatnonzero(pc.not_equal(keys.slice(0, len(keys) - 1), keys.slice(1))) + 1
    wanted = np.arange(1, rows.nbytes // _PART_BYTES + 1) * len(rows) * _PART_BYTES // rows.nbytes
    places = np.searchsorted(begins, wanted)
    cuts = np.unique(begins[places[places < len(begins)]]).tolist()
    for begin, end in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        yield rows.slice(begin, end - begin)


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise StorageError(
                f"no space left in {tempfile.gettempdir()} for the lists of a large collection; free some, or set TMPDIR"
            ) from error
        if isinstance(error, FileNotFoundError):  # what `tempfile` raises where no folder will do
            raise StorageError(f"a large collection needs a temporary folder: {error.strerror}; set TMPDIR") from error
        raise
