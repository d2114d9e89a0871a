"""Whose an object of the output is: what a run may have written, and over which input.

An image that has a record was written by that record's run. What a run that was killed wrote last has none; so a run claims,
before it begins, every image that it will do, and a claim ends when all claimed images have records.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from inpaint_core.removal.layout import Layout
from inpaint_core.removal.sorted_rows import Cursor, SortedRows, regrouped
from inpaint_core.storage import Storage

SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),  # where the images come from: `Storage.place`
    ]
)

_ROWS_PER_GROUP = 50_000


class Owners:
    """Tells which objects of an output are not a job's own. Keys are asked for in key order.

    Args:
        target: the output.
        layout: of the kind of run.
        source: where the job's images come from: `Storage.place`.
    """

    def __init__(self, target: Storage, layout: Layout, source: str) -> None:
        self._target = target
        self._layout = layout
        self._source = source
        self._claims = read_claims(target, layout)
        self._cursor = Cursor(self._claims, SCHEMA)
        self._source_of: dict[str, str | None] = {}

    def foreign(self, keys: pa.ChunkedArray, run_of: dict[str, str]) -> dict[str, str | None]:
        """Those of some existing objects that this job did not write, and the source of the job that did, if any.

        Args:
            keys: of the objects, in key order.
            run_of: the run of each of those keys that has a record.
        """
        claimed = self._cursor.matching(keys)
        own = set(claimed.filter(pc.equal(claimed["source"], self._source))["key"].to_pylist())
        others = dict(zip(claimed["key"].to_pylist(), claimed["source"].to_pylist(), strict=True))
        found: dict[str, str | None] = {}
        for key in keys.to_pylist():
            if key in own:
                continue
            if key not in run_of:
                found[key] = others.get(key)
            elif (source := self._run_source(run_of[key])) not in (None, self._source):
                found[key] = source
        return found

    def claim(self, pending: SortedRows) -> None:
        """Add what this run is to do to the claims. Before it begins, and after the last call of `foreign`."""
        both = _joined(self._claims, pending, self._source)
        if not len(both):
            return
        with self._target.open_write(self._layout.claims) as file, pq.ParquetWriter(file, SCHEMA) as writer:
            for rows in regrouped(map(_distinct, both), _ROWS_PER_GROUP):
                writer.write_table(rows)

    def _run_source(self, run_id: str) -> str | None:
        """Where the images of a run came from; None where nothing tells it."""
        if run_id not in self._source_of:
            self._source_of[run_id] = None
            key = self._layout.run(run_id)
            if self._target.exists(key):
                with suppress(ValueError, KeyError, TypeError):  # half written, or by hand
                    self._source_of[run_id] = str(json.loads(self._target.read(key))["source"])
        return self._source_of[run_id]


def read_claims(target: Storage, layout: Layout) -> SortedRows:
    """The claims (rows of `SCHEMA`) of the runs that have not ended."""
    claims = SortedRows(SCHEMA)
    if target.exists(layout.claims):
        with target.open_read(layout.claims) as file:
            for batch in pq.ParquetFile(file).iter_batches():
                claims.add(pa.Table.from_batches([batch]))
    return claims


def settle(target: Storage, layout: Layout, records: Callable[[], Cursor]) -> None:
    """End the claims, where all claimed images have records.

    Args:
        target: the output.
        layout: of the kind of run.
        records: opens the records; called only where there are claims.
    """
    claims = read_claims(target, layout)
    if not len(claims):
        return
    cursor = records()
    for rows in claims:
        known = cursor.matching(rows["key"])["key"]
        if not pc.all(pc.is_in(rows["key"], known)).as_py():
            return
    target.delete(layout.claims)


def _joined(claims: SortedRows, pending: SortedRows, source: str) -> SortedRows:
    both = SortedRows(SCHEMA)
    for rows in claims:
        both.add(rows)
    for rows in pending:
        both.add(pa.table([rows["key"], pa.array([source] * len(rows), pa.string())], schema=SCHEMA))
    return both


def _distinct(rows: pa.Table) -> pa.Table:
    return rows.group_by(["key", "source"]).aggregate([]).sort_by("key").cast(SCHEMA)
