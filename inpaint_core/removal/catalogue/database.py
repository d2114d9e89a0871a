"""Records in a database on the local disk, to be queried: the report and the review are views of it.

DuckDB keeps columns compressed, sorts and counts a million records in a second, and keeps its memory within a limit.
The database is a file of the machine's temporary folder, which ends with the object.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
import pyarrow as pa

from inpaint_core.errors import StorageError
from inpaint_core.removal.catalogue.sorted_rows import regrouped
from inpaint_core.removal.record import DECISIONS, SCHEMA, STATUSES, TIMED_STAGES

MEMORY_LIMIT = 256
"""Megabytes that the database may hold in memory."""

_MOST_THREADS = 4
_ROWS_AT_A_TIME = 20_000

OBJECTS = "object_count"
SECONDS = "total_seconds"
LABELS = "labels"

# Columns beside those of the records: what lists are sorted and filtered by.
_DERIVED = f"""
    len(objects) AS {OBJECTS},
    list_sum([x::DOUBLE FOR x IN [{", ".join(f'seconds."{stage.value}"' for stage in TIMED_STAGES)}]]) AS {SECONDS},
    list_distinct([o.label FOR o IN objects]) AS {LABELS}
"""

_NUMBERS = frozenset({pa.bool_(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.timestamp("us", tz="UTC")})


def sort_expressions() -> dict[str, str]:
    """What records can be sorted by: columns of the records with numbers, times or keys, and their SQL."""
    found = {"key": "key", "objects": OBJECTS, "seconds": SECONDS}
    found |= {field.name: f'"{field.name}"' for field in SCHEMA if field.type in _NUMBERS}
    return {name: found[name] for name in SCHEMA.names if name in found}


def worst_first(*, failed: str) -> str:
    """The order of images, worst first, as SQL after ORDER BY.

    Held and cleaned images, by most objects that the detector still finds, then the lowest likeness, which agrees best with what
    people reject; where it is not known, the highest seam, then the lowest SSIM. Then unchanged images, those with a note before
    the rest.

    Args:
        failed: `first` or `last`: where failed images are, by key.
    """
    rank = {"first": -1, "last": 4}[failed]
    return f"""
        CASE status WHEN 'failed' THEN {rank} WHEN 'held' THEN 0 WHEN 'cleaned' THEN 1 ELSE if(note IS NULL, 3, 2) END,
        CASE WHEN status <> 'failed' THEN residual_objects END DESC NULLS LAST,
        CASE WHEN status <> 'failed' THEN likeness END NULLS LAST,
        CASE WHEN status <> 'failed' THEN seam END DESC NULLS LAST,
        CASE WHEN status <> 'failed' THEN ssim END NULLS LAST, key
    """


class RecordDatabase:
    """Records, one row per key, in a table `records` with the columns of `record.SCHEMA` and `object_count`,
    `total_seconds` and `labels`.

    Args:
        tables: tables of `record.SCHEMA`; each is taken and let go.

    Raises:
        StorageError: no room in the temporary folder.
    """

    def __init__(self, tables: Iterable[pa.Table]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="inpaint-records-")
        self.connection = duckdb.connect(
            str(Path(self._folder.name, "records.duckdb")),
            config={
                "memory_limit": f"{MEMORY_LIMIT}MB",
                "threads": min(os.cpu_count() or 1, _MOST_THREADS),
                "temp_directory": self._folder.name,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "preserve_insertion_order": False,
            },
        )
        try:
            # No query needs more than the tables, whatever a key or an error says.
            self.connection.execute(
                "SET TimeZone = 'UTC'; SET enable_external_access = false; SET lock_configuration = true"
            )
            self._create()
            # One transaction, and large parts: the end of each waits for the disk.
            self.connection.begin()
            for table in regrouped(tables, _ROWS_AT_A_TIME):
                self._insert(table)
            self.connection.commit()
        except duckdb.Error as error:
            self.close()
            raise _room(error) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Delete the database."""
        self.connection.close()
        self._folder.cleanup()

    def rows(self, query: str, arguments: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The answer to a query as plain values, with the names of its columns. May be called from several threads.

        Raises:
            StorageError: no room in the temporary folder.
        """
        with self.connection.cursor() as cursor:
            try:
                found = cursor.execute(query, list(arguments))
                names = [column[0] for column in found.description or ()]
                return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
            except duckdb.IOException as error:
                raise _room(error) from error

    def value(self, query: str, arguments: Sequence[Any] = ()) -> Any:
        """The only value of the only row of an answer."""
        ((value,),) = (row.values() for row in self.rows(query, arguments))
        return value

    def _create(self) -> None:
        self.connection.register("part", SCHEMA.empty_table())
        self.connection.execute(f"CREATE TABLE records AS SELECT *, {_DERIVED} FROM part")
        self.connection.unregister("part")

    def _insert(self, table: pa.Table) -> None:
        self.connection.register("part", table)
        self.connection.execute(f"INSERT INTO records SELECT *, {_DERIVED} FROM part")
        self.connection.unregister("part")


def counts_by_status(database: RecordDatabase) -> dict[str, int]:
    """Number of images by status; every status is there."""
    found = database.rows("SELECT status, count(*) AS images FROM records GROUP BY status")
    return dict.fromkeys(STATUSES, 0) | {row["status"]: row["images"] for row in found}


def counts_by_label(database: RecordDatabase, statuses: Sequence[str] = ("cleaned", "held")) -> dict[str, int]:
    """Number of objects by label in images of some statuses, most first."""
    found = database.rows(
        "SELECT label, count(*) AS objects FROM (SELECT unnest(objects).label AS label FROM records WHERE list_contains(?, status)) "
        "GROUP BY label ORDER BY objects DESC, label",
        [list(statuses)],
    )
    return {row["label"]: row["objects"] for row in found}


def counts_by_decision(database: RecordDatabase) -> dict[str, int]:
    """Number of images by the decision that was carried out; every decision is there."""
    found = database.rows(
        "SELECT decision, count(*) AS images FROM records WHERE decision IS NOT NULL GROUP BY decision"
    )
    return dict.fromkeys(DECISIONS, 0) | {row["decision"]: row["images"] for row in found}


def counts_by_broken_rule(database: RecordDatabase) -> dict[str, int]:
    """Number of held images by the rule that they break, most first."""
    found = database.rows(
        "SELECT rule, count(*) AS images FROM (SELECT unnest(held_for) AS rule FROM records WHERE status = 'held') "
        "GROUP BY rule ORDER BY images DESC, rule"
    )
    return {row["rule"]: row["images"] for row in found}


def counts_of_retries(database: RecordDatabase) -> tuple[int, int]:
    """Number of images that were retried since a rule was broken, and of those that break none since."""
    (found,) = database.rows(
        "SELECT count(retries) AS images, count(*) FILTER (retry_kept IS NOT NULL AND status = 'cleaned' AND decision IS NULL) "
        "AS accepted FROM records"
    )
    return found["images"], found["accepted"]


def _room(error: duckdb.Error) -> StorageError:
    first = str(error).splitlines()[0]
    return StorageError(
        f"the records cannot be kept in {tempfile.gettempdir()} ({first}); free some space there, or set TMPDIR"
    )
