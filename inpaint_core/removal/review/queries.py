"""The queries of the page: lists, one image, counts; with the decisions that are known."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

import pyarrow as pa

from inpaint_core.errors import UserError
from inpaint_core.removal.catalogue.database import RecordDatabase, sort_expressions, worst_first
from inpaint_core.removal.catalogue.decisions import SCHEMA as SCHEMA_OF_DECISIONS
from inpaint_core.removal.catalogue.decisions import Decided, latest
from inpaint_core.removal.record import DECISIONS, SCHEMA, STATUSES
from inpaint_core.removal.report.page import sortable

MOST_ROWS = 500

_DECISIONS = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("id", pa.string()),
        pa.field("decision", pa.string()),
        pa.field("mask", pa.string()),
        pa.field("decided_by", pa.string()),
        pa.field("decided_at", pa.timestamp("us", tz="UTC")),
        pa.field("sequence", pa.int64()),
    ]
)

# The decision that counts: the one known here, else the one that was carried out.
_STATE = "CASE WHEN d.key IS NULL THEN r.decision WHEN d.decision = 'none' THEN NULL ELSE d.decision END"

_ADD = """
    INSERT OR REPLACE INTO decisions
    SELECT n.key, n.id, n.decision, n.mask, n.decided_by, n.decided_at, ? + row_number() OVER (ORDER BY n.decided_at, n.id)
    FROM new_decisions n JOIN records r USING (key) LEFT JOIN decisions d USING (key)
    WHERE r.source_etag = n.source_etag AND r.run_id = n.run_id
    AND (d.key IS NULL OR n.decided_at > d.decided_at OR (n.decided_at = d.decided_at AND n.id > d.id))
"""

_LISTED = (
    "key",
    "status",
    "width",
    "height",
    "format",
    "residual_objects",
    "likeness",
    "seam",
    "mask_fraction",
    "psnr",
    "ssim",
    "error",
    "note",
    "finished_at",
)


class UnknownValue(UserError):
    """A filter or column that does not exist."""


@dataclass(frozen=True)
class Filter:
    """Which records a list has, and in what order.

    `sort` is a column of `sort_expressions`, empty: worst first. `decided`: empty (all), `no`, `yes` or a decision. `until` is
    the number of the last decision that the filter `decided` takes account of, so that the pages of a list fit together.
    """

    sort: str = ""
    descending: bool = False
    status: str = ""
    label: str = ""
    text: str = ""
    decided: str = ""
    until: int | None = None


class Reviewed:
    """Records and decisions, to be queried from several threads.

    Args:
        database: the records.
    """

    def __init__(self, database: RecordDatabase) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._sequence = 0
        database.connection.register("empty_decisions", _DECISIONS.empty_table())
        database.connection.execute("CREATE TABLE decisions AS SELECT * FROM empty_decisions")
        database.connection.execute("CREATE UNIQUE INDEX by_key ON decisions (key)")

    @property
    def sequence(self) -> int:
        """Number of the last decision."""
        return self._sequence

    def add(self, decisions: Iterable[Decided]) -> None:
        """Take decisions; those about other records than the present ones, or older than what is known, do not count."""
        counting = latest(decisions)
        if not counting:
            return
        with self._lock, self._database.connection.cursor() as cursor:
            rows = [asdict(decided) for decided in counting.values()]
            cursor.register("new_decisions", pa.Table.from_pylist(rows, schema=SCHEMA_OF_DECISIONS))
            cursor.execute(_ADD, [self._sequence])
            self._sequence = cursor.execute("SELECT coalesce(max(sequence), 0) FROM decisions").fetchall()[0][0]

    def page(self, wanted: Filter, offset: int, limit: int) -> dict[str, Any]:
        """Part of a list: `rows`, `total` of the list, and `until` for its other parts.

        Raises:
            UnknownValue: no such column, status or decision.
        """
        until = self._sequence if wanted.until is None else wanted.until
        where, arguments = _where(wanted, until)
        order = _order(wanted)
        table = "records r LEFT JOIN decisions d USING (key)"
        total = self._database.value(f"SELECT count(*) FROM {table} WHERE {where}", arguments)
        columns = ", ".join(f"r.{name}" for name in _LISTED)
        # The keys first, so that only the columns of the order are sorted.
        rows = self._database.rows(
            f"SELECT {columns}, r.object_count AS objects, r.labels, {_decision_columns()} FROM {table} "
            f"WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?",
            [*arguments, min(limit, MOST_ROWS), offset],
        )
        return {"rows": [_plain(row) for row in rows], "total": total, "until": until}

    def record(self, key: str) -> dict[str, Any] | None:
        """All columns of a record and its decision; None: there is no such key."""
        columns = ", ".join(f'r."{name}"' for name in SCHEMA.names if not name.startswith("deci"))
        found = self._database.rows(
            f"SELECT {columns}, r.decision AS carried_out, {_decision_columns()} FROM records r LEFT JOIN decisions d USING (key) WHERE r.key = ?",
            [key],
        )
        return found[0] if found else None

    def changes(self, since: int) -> dict[str, Any]:
        """Decisions with a number above `since`, and the number of the last one."""
        rows = self._database.rows(
            f"SELECT r.key, {_decision_columns()} FROM decisions d JOIN records r USING (key) WHERE d.sequence > ? "
            f"ORDER BY d.sequence LIMIT {MOST_ROWS}",
            [since],
        )
        last = self._sequence if len(rows) < MOST_ROWS else rows[-1]["sequence"]
        return {"rows": [_plain(row) for row in rows], "until": last, "counts": self.counts()}

    def counts(self) -> dict[str, Any]:
        """Number of images, and of those that somebody decided about."""
        (found,) = self._database.rows(
            f"SELECT count(*) AS images, count({_STATE}) AS decided FROM records r LEFT JOIN decisions d USING (key)"
        )
        return found


def _decision_columns() -> str:
    known = "d.key IS NULL"
    return (
        f"{_STATE} AS decision, if({known}, r.decided_by, d.decided_by) AS decided_by, "
        f"if({known}, r.decided_at, d.decided_at) AS decided_at, d.mask, d.id AS decision_id, d.sequence"
    )


def _where(wanted: Filter, until: int) -> tuple[str, list[Any]]:
    conditions, arguments = ["true"], list[Any]()

    def add(condition: str, *values: Any) -> None:
        conditions.append(condition)
        arguments.extend(values)

    if wanted.status:
        _check(wanted.status, STATUSES, "status")
        add("r.status = ?", wanted.status)
    if wanted.label:
        add("list_contains(r.labels, ?)", wanted.label)
    if wanted.text:
        add("contains(lower(r.key), lower(?))", wanted.text)
    decided: Literal["", "no", "yes"] | str = wanted.decided
    if decided == "no":
        add(f"({_STATE} IS NULL OR d.sequence > ?)", until)
    elif decided == "yes":
        add(f"{_STATE} IS NOT NULL")
    elif decided:
        _check(decided, DECISIONS, "decision")
        add(f"{_STATE} = ?", decided)
    return " AND ".join(conditions), arguments


def _order(wanted: Filter) -> str:
    if not wanted.sort:
        return worst_first(failed="last")
    expressions = sort_expressions()
    _check(wanted.sort, expressions, "column")
    expression = expressions[wanted.sort] if wanted.sort in ("objects", "seconds") else f'r."{wanted.sort}"'
    return f"{expression} {'DESC' if wanted.descending else 'ASC'} NULLS LAST, r.key"


def _check(value: str, known: Iterable[str], what: str) -> None:
    if value not in known:
        raise UnknownValue(f"there is no {what} {value!r}")


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row with values that JSON has."""
    return {
        name: value.isoformat()
        if isinstance(value, datetime)
        else value
        if isinstance(value, (list, dict))
        else sortable("", value)
        for name, value in row.items()
    }
