"""Where the workers of a run write their records down, batch by batch, until the run's end."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from inpaint_core.errors import ObjectError, StorageError
from inpaint_core.removal.catalogue.entries import name_of
from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.removal.record import SCHEMA, Record, to_table
from inpaint_core.storage import MissingObject, Storage, UnansweredRequest

# Stores of objects allow about one write a second of the same object; and each costs.
_SECONDS_BETWEEN_WRITES = 1.0


class Journal:
    """The records of one attempt at a block of images: one object, written anew with every batch, at most once a second.

    An object for each batch would leave millions of them behind a large run.
    """

    def __init__(self, storage: Storage, key: str) -> None:
        self._storage = storage
        self._key = key
        self._written = SCHEMA.empty_table()
        self._waiting: list[pa.Table] = []
        self._next = -math.inf
        self._failing: float | None = None  # since when it cannot be written

    def add(self, records: Iterable[Record]) -> list[pa.Table]:
        """Take the records of a finished batch; returns the batches (tables of `record.SCHEMA`) written since the last call."""
        self._waiting.append(to_table(records))
        return self.write() if time.monotonic() >= self._next else []

    def write(self) -> list[pa.Table]:
        """Write what waits, and return it; nothing, where the store does not answer this request but others: try again."""
        if not self._waiting:
            return []
        table = pa.concat_tables([self._written, *self._waiting]).combine_chunks()
        content = pa.BufferOutputStream()
        pq.write_table(table, content)
        try:
            self._storage.write(self._key, content.getvalue().to_pybytes())
        except UnansweredRequest as error:
            now = time.monotonic()
            self._failing = now if self._failing is None else self._failing
            if now - self._failing > self._storage.retry_seconds:
                raise StorageError(str(error)) from error
            return []
        except ObjectError as error:  # without its records the work would be for nothing
            raise StorageError(str(error)) from error
        batches, self._waiting, self._written, self._failing = self._waiting, [], table, None
        self._next = time.monotonic() + _SECONDS_BETWEEN_WRITES
        return batches

    def write_all(self) -> list[pa.Table]:
        """Write what waits, in as many attempts as it takes, and return it."""
        batches: list[pa.Table] = []
        while self._waiting:
            batches += self.write()
        return batches


def journal_key(layout: Layout, run_id: str, keys: Iterable[str], attempt: str = "1") -> str:
    """Where an attempt at a block is journalled: the same keys in the same run always give the same place.

    Each attempt has its own, since an earlier one that is taken for dead may still be writing.
    """
    return f"{layout.journal}/{run_id}/{name_of(keys)}-{attempt}.parquet"


def read_journal(storage: Storage, key: str) -> pa.Table:
    """The records that an earlier attempt at a block has finished: a table of `record.SCHEMA`."""
    try:
        data = storage.read(key)
    except MissingObject:
        return SCHEMA.empty_table()
    except ObjectError as error:
        raise StorageError(str(error)) from error
    return parse(data, SCHEMA.names, f"{storage.uri}/{key}")


def read_file(storage: Storage, key: str) -> bytes:
    """The bytes of a record file that was listed.

    Raises:
        StorageError: it cannot be read: without all records nothing can be planned.
    """
    try:
        return storage.read(key)
    except MissingObject as error:
        raise StorageError(
            f"{error}: another run is using this output; wait until it ends, then run the job again"
        ) from error
    except ObjectError as error:
        raise StorageError(str(error)) from error


def parse(data: bytes, columns: Sequence[str], uri: str) -> pa.Table:
    """Some columns of the records in a file's bytes; `uri` is for the message.

    Columns that an earlier version did not write are null.

    Raises:
        StorageError: the file is damaged.
    """
    try:
        # Not `pq.read_table`: for files of a few rows its threads cost most of the time.
        file = pq.ParquetFile(pa.BufferReader(data))
        table = file.read(columns, use_threads=False)  # passes over those that the file lacks
        for column in schema_of(columns):
            if column.nullable and column.name not in table.column_names:
                table = table.append_column(column, pa.nulls(len(table), column.type))
        return table.select([name for name in columns if name in table.column_names]).cast(schema_of(columns))
    except (pa.ArrowException, ValueError) as error:
        raise StorageError(
            f"{uri} is not a complete record file; delete it, and its images are processed again"
        ) from error


def schema_of(columns: Sequence[str]) -> pa.Schema:
    """The part of `record.SCHEMA` with these columns."""
    return pa.schema([SCHEMA.field(name) for name in columns])
