"""Whose an object of the output is: what a run may have written, and over which input.

An image that has a record was written by that record's run. What a run that was killed wrote last has none; so a run claims,
before it begins, every image that it will do, and a claim ends when all claimed images have records.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from functools import cache

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from inpaint_core.errors import ConfigError
from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.removal.catalogue.ledger import open_records
from inpaint_core.removal.catalogue.sorted_rows import Cursor, SortedRows, regrouped
from inpaint_core.storage import Storage

SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),  # where the images come from: `Storage.place`
    ]
)

_ROWS_PER_GROUP = 50_000


class Owners:
    """Tells whether a job would write over what is not its own.

    Its own is what a run over the same input wrote; or over another one, where more images of this input are as they were in
    that one than not: it was moved, or copied.

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
        self._done: Counter[str] = Counter()  # by run
        self._written: Counter[str] = Counter()  # by run
        self._claimed: Counter[str | None] = Counter()  # by source
        self._first: dict[tuple[str, str | None], str] = {}

    def add(self, known: pa.Table, pending: pa.ChunkedArray, existing: pa.ChunkedArray) -> None:
        """Look at some images; all are looked at in key order.

        Args:
            known: `key` and `run_id` of the records of these images.
            pending: keys of those that are to be done.
            existing: keys of those that the output has.
        """
        done = known.filter(pc.invert(pc.is_in(known["key"], pending)))
        self._done.update({row["values"]: row["counts"] for row in pc.value_counts(done["run_id"]).to_pylist()})
        at_risk = pending.filter(pc.is_in(pending, existing))
        claimed = self._cursor.matching(at_risk)
        own = set(claimed.filter(pc.equal(claimed["source"], self._source))["key"].to_pylist())
        others = dict(zip(claimed["key"].to_pylist(), claimed["source"].to_pylist(), strict=True))
        run_of = dict(zip(known["key"].to_pylist(), known["run_id"].to_pylist(), strict=True))
        for key in at_risk.to_pylist():
            if key in own:
                continue
            if key in run_of:
                self._written[run_of[key]] += 1
                self._first.setdefault(("run", run_of[key]), key)
            else:
                self._claimed[others.get(key)] += 1
                self._first.setdefault(("claim", others.get(key)), key)

    def check(self) -> None:
        """After all images.

        Raises:
            ConfigError: some objects that would be written over are not this job's.
        """
        source_of = cache(self._source_of)
        foreign = Counter(self._claimed)
        first = {source: key for (kind, source), key in self._first.items() if kind == "claim"}
        for run_id, count in self._written.items():
            source = source_of(run_id)
            if source not in (None, self._source):
                foreign[source] += count
                first[source] = min(self._first["run", run_id], first.get(source, self._first["run", run_id]))
        if not foreign:
            return
        same: Counter[str | None] = Counter()
        for run_id, count in self._done.items():
            same[source_of(run_id)] += count
        foreign = Counter(
            {source: count for source, count in foreign.items() if source is None or count >= same[source]}
        )
        if not foreign:
            return
        source = min(foreign, key=lambda one: first[one])
        raise ConfigError(
            f"output: {self._target.uri} already holds {foreign.total():,} of these keys (the first is {first[source]!r}) that "
            f"{'no run of this job' if source is None else f'a job over {source}'} wrote; choose an empty place, or "
            "say overwrite=true"
        )

    def claim(self, pending: SortedRows) -> None:
        """Add what this run is to do to the claims. Before it begins, and after `check`."""
        both = _joined(self._claims, pending, self._source)
        with self._target.open_write(self._layout.claims) as file, pq.ParquetWriter(file, SCHEMA) as writer:
            for rows in regrouped(map(_distinct, both), _ROWS_PER_GROUP):
                writer.write_table(rows)

    def _source_of(self, run_id: str) -> str | None:
        """Where the images of a run came from; None where nothing tells it."""
        key = self._layout.run(run_id)
        if self._target.exists(key):
            with suppress(ValueError, KeyError, TypeError):  # half written, or by hand
                return str(json.loads(self._target.read(key))["source"])
        return None


def read_claims(target: Storage, layout: Layout) -> SortedRows:
    """The claims (rows of `SCHEMA`) of the runs that have not ended."""
    claims = SortedRows(SCHEMA)
    if target.exists(layout.claims):
        with target.open_read(layout.claims) as file:
            for batch in pq.ParquetFile(file).iter_batches():
                claims.add(pa.Table.from_batches([batch]))
    return claims


def settle(target: Storage, layout: Layout) -> None:
    """End the claims, where all claimed images have records."""
    claims = read_claims(target, layout)
    if not len(claims):
        return
    records = open_records(target, layout, ["key"])
    for rows in claims:
        known = records.matching(rows["key"])["key"]
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
