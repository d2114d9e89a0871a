"""Whose an object of the output is: what a run may have written, and over which input.

An image that has a record was written by that record's run. What a run that was killed wrote last has none; so a run claims,
before it begins, every image that it will do, and a claim ends when all claimed images have records.

The rule: a run writes over what runs over its own input wrote; with `adopt=true` also over what runs over other inputs
wrote; and over what no run wrote only with `overwrite=true`, where nothing is compared.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass

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


@dataclass(frozen=True)
class _Foreign:
    """Outputs that are not this job's: how many, and the first of their keys."""

    count: int
    first: str


class Owners:
    """Tells whether a job would write over what is not its own.

    Args:
        target: the output.
        layout: of the kind of run.
        source: where the job's images come from: `Storage.place`.
        adopt: whether what runs over other inputs wrote counts as the job's own.
    """

    def __init__(self, target: Storage, layout: Layout, source: str, *, adopt: bool) -> None:
        self._target = target
        self._layout = layout
        self._source = source
        self._adopt = adopt
        self._claims = read_claims(target, layout)
        self._cursor = Cursor(self._claims, SCHEMA)
        self._sources: dict[str, str] = {}  # by run
        self._foreign: dict[str | None, _Foreign] = {}  # by the input of the run that wrote them; None: no run

    def add(self, known: pa.Table, pending: pa.ChunkedArray, existing: pa.ChunkedArray) -> None:
        """Look at some images; all are looked at in key order.

        Args:
            known: `key` and `run_id` of the records of these images.
            pending: keys of those that are to be done.
            existing: keys of those that the output has.
        """
        overwritten = pending.filter(pc.is_in(pending, existing))
        claimed = self._cursor.matching(overwritten)
        own = set(claimed.filter(pc.equal(claimed["source"], self._source))["key"].to_pylist())
        claimant_of = dict(zip(claimed["key"].to_pylist(), claimed["source"].to_pylist(), strict=True))
        run_of = dict(zip(known["key"].to_pylist(), known["run_id"].to_pylist(), strict=True))
        for key in overwritten.to_pylist():
            if key in own:
                continue
            owner = self._source_of(run_of[key]) if key in run_of else claimant_of.get(key)
            if owner == self._source or (owner is not None and self._adopt):
                continue
            before = self._foreign.get(owner, _Foreign(0, key))
            self._foreign[owner] = _Foreign(before.count + 1, before.first)

    def check(self) -> None:
        """After all images.

        Raises:
            ConfigError: some objects that would be written over are not this job's.
        """
        if not self._foreign:
            return
        owner, foreign = min(self._foreign.items(), key=lambda item: item[1].first)
        if owner is None:
            wrote, remedy = "no run of this job wrote", ""
        else:
            wrote = f"a job over {owner} wrote"
            remedy = "if that input was moved or copied to this one, set adopt=true; otherwise "
        raise ConfigError(
            f"output: {self._target.uri} already holds {sum(each.count for each in self._foreign.values()):,} of these keys "
            f"(the first is {foreign.first!r}) that {wrote}; {remedy}choose an empty output, or set overwrite=true"
        )

    def claim(self, pending: SortedRows) -> None:
        """Add what this run is to do to the claims. Before it begins, and after `check`."""
        both = _joined(self._claims, pending, self._source)
        with self._target.open_write(self._layout.claims) as file, pq.ParquetWriter(file, SCHEMA) as writer:
            for rows in regrouped(map(_distinct, both), _ROWS_PER_GROUP):
                writer.write_table(rows)

    def _source_of(self, run_id: str) -> str:
        """Where the images of a run came from; where nothing tells it any more, it counts as a run over this input."""
        if run_id not in self._sources:
            self._sources[run_id] = self._source
            key = self._layout.run(run_id)
            if self._target.exists(key):
                with suppress(ValueError, KeyError, TypeError):  # half written, or by hand
                    self._sources[run_id] = str(json.loads(self._target.read(key))["source"])
        return self._sources[run_id]


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
