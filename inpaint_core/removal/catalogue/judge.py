"""Rules of `accept` applied to existing records: where a rule changes the status of an image and nothing that was written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from inpaint_core.removal.acceptance import Rule
from inpaint_core.removal.record import SCHEMA


class RecordJudge:
    """Holds the cleaned images of earlier runs that break a rule, and releases held ones that break none.

    Only records of one hash of settings, and not those that a person decided about.

    Args:
        rules: those that apply.
        config_hash: of the settings with which rules change nothing but records (`rule_check.rules_change_outputs`).
    """

    def __init__(self, rules: Sequence[Rule], config_hash: str) -> None:
        self._rules = rules
        self._config_hash = config_hash

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the records that decide."""
        return tuple(
            dict.fromkeys(
                ("status", "held_for", "decision", "config_hash", "output_size", *(rule.column for rule in self._rules))
            )
        )

    def changes(self, records: pa.Table) -> int:
        """Number of records, with `columns` at least, that become held, are released, or are held for other rules."""
        return len(self._new(records))

    def judged(self, records: pa.Table) -> pa.Table:
        """The records, a table of `record.SCHEMA`, with `status` and `held_for` by the rules."""
        new = self._new(records)
        if not new:
            return records
        for name, values in (
            ("status", {row: "held" if broken else "cleaned" for row, broken in new.items()}),
            ("held_for", {row: broken or None for row, broken in new.items()}),
        ):
            column = records[name].to_pylist()
            for row, value in values.items():
                column[row] = value
            field = SCHEMA.field(name)
            records = records.set_column(records.schema.get_field_index(name), field, pa.array(column, field.type))
        return records

    def _new(self, records: pa.Table) -> dict[int, list[str]]:
        """By the number of a record that changes, the rules that it breaks."""
        counts = pc.and_(
            pc.is_in(records["status"], pa.array(["cleaned", "held"])),
            pc.and_(pc.is_null(records["decision"]), pc.equal(records["config_hash"], self._config_hash)),
        )
        counts = pc.and_(
            counts, pc.is_valid(records["output_size"])
        )  # none: a decision was taken back, and the image is done again
        broken = {str(rule): _broken(records[rule.column], rule) for rule in self._rules}
        held = np.asarray(pc.equal(records["status"], "held"), np.bool_)
        looked_at = np.flatnonzero(np.asarray(counts, np.bool_) & np.any([held, *broken.values()], axis=0))
        before = records["held_for"].take(pa.array(looked_at)).to_pylist()
        now = [[name for name, rows in broken.items() if rows[row]] for row in looked_at]
        return {
            int(row): names
            for row, names, old in zip(looked_at, now, before, strict=True)
            if (names or None) != old or bool(names) != held[row]
        }


def _broken(column: pa.ChunkedArray, rule: Rule) -> NDArray[np.bool_]:
    """`Rule.is_broken_by` of each value."""
    beyond = (pc.greater if rule.sign == "<=" else pc.less)(column, rule.bound)
    return np.asarray(pc.fill_null(beyond, False), np.bool_)
