"""Carry decisions out: `inpaint review OUTPUT --apply`.

Each decision leaves a new version of its image's record, which names it; what a record names is not done again. All writes are
whole or not at all, and each step can be done twice: after an interruption the same command goes on.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from inpaint_core.errors import ImageError, ObjectError
from inpaint_core.progress import PrintLine
from inpaint_core.removal.catalogue.decisions import Decided, DecisionReader, Identity, latest
from inpaint_core.removal.catalogue.journal import journal_key
from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.removal.catalogue.lease import JobLease
from inpaint_core.removal.catalogue.ledger import merge_journal, record_tables
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.record import SCHEMA
from inpaint_core.removal.review.one_decision import DecisionApplier, Row
from inpaint_core.storage import Storage

_THREADS = 8
_DECISIONS_PER_JOURNAL = 64


@dataclass
class Applied:
    """What became of the decisions: number carried out by decision, and key and reason of those that could not be."""

    done: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[str, str]] = field(default_factory=list)


def apply_decisions(output: Storage, source: Storage, config: RemoveConfig, print_line: PrintLine) -> Applied:
    """Carry out every decision that waits.

    Args:
        output: of the job.
        source: its input.
        config: its settings.
        print_line: takes what a user should read.

    Raises:
        ConfigError: a job is running in this output.
        UserError: a store, or weights, cannot be used. What was done until then is kept.
    """
    layout = Layout.of(dry_run=False)
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}-review"
    applied = Applied()
    with JobLease(output, layout, run_id, print_line) as lease:
        decisions = latest(DecisionReader(output, layout).new())
        waiting = _waiting(output, layout, decisions)
        carry_out = partial(_attempt, DecisionApplier(output, source, layout, config))
        with ThreadPoolExecutor(_THREADS) as pool:
            while part := list(islice(waiting, _DECISIONS_PER_JOURNAL)):
                lease.check()
                rows: list[Row] = []
                for (decided, _), answer in zip(part, pool.map(carry_out, part), strict=True):
                    if isinstance(answer, str):
                        applied.failed.append((decided.key, answer))
                    else:
                        rows.append(answer)
                        applied.done[decided.decision] += 1
                _journal(output, layout, run_id, rows)
        lease.check()
        merge_journal(output, layout, run_id, print_line)
    return applied


def _waiting(output: Storage, layout: Layout, decisions: Mapping[str, Decided]) -> Iterator[tuple[Decided, Row]]:
    """Decisions that are not carried out, each with the record that it is about, in key order."""
    keys = pa.array(list(decisions), pa.string())
    for table in record_tables(output, layout):
        for row in table.filter(pc.is_in(table["key"], keys)).to_pylist():
            decided = decisions[row["key"]]
            if decided.identity == Identity(row["source_etag"], row["run_id"]) and not _is_done(decided, row):
                yield decided, row


def _is_done(decided: Decided, row: Row) -> bool:
    if decided.decision == "none":
        return row["decision"] is None
    return bool(
        (row["decision"], row["decided_at"], row["decided_by"])
        == (decided.decision, decided.decided_at, decided.decided_by)
    )


def _attempt(apply: DecisionApplier, item: tuple[Decided, Row]) -> Row | str:
    """The new record; or why the decision could not be carried out."""
    try:
        return apply(*item)
    except ImageError as error:
        return error.reason
    except ObjectError as error:
        return str(error)


def _journal(output: Storage, layout: Layout, run_id: str, rows: list[Row]) -> None:
    if rows:
        with output.open_write(journal_key(layout, run_id, [row["key"] for row in rows])) as file:
            pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), file)
