"""Counts over the records of a job, part by part: the figures of its last lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.removal.catalogue.ledger import open_records
from inpaint_core.removal.catalogue.sorted_rows import SortedRows
from inpaint_core.removal.record import NOT_CARRIED_OVER, RETRY_COLUMNS, SCHEMA, STATUSES, Status
from inpaint_core.storage import Storage

_COUNTED = ("key", "status", "objects", "note", "outside_exact", "held_for", "decision", *RETRY_COLUMNS)


@dataclass(frozen=True)
class Retries:
    """Counts over images whose result broke a rule, and that were retried with the settings of `retry`.

    `images` were retried, in `attempts` attempts that took `seconds`. `accepted` counts the images that break no rule since, by
    the entry of `retry` that did it.
    """

    images: int = 0
    attempts: int = 0
    seconds: float = 0.0
    accepted: dict[int, int] = field(default_factory=dict)

    def __add__(self, other: Retries) -> Retries:
        accepted = Counter(self.accepted) + Counter(other.accepted)
        return Retries(
            self.images + other.images,
            self.attempts + other.attempts,
            self.seconds + other.seconds,
            dict(sorted(accepted.items())),
        )


@dataclass(frozen=True)
class Totals:
    """Counts over records: images by status, objects by label that were found in cleaned and held images, and two kinds of images.

    `left_alone` are unchanged images that hold objects: their mask would have covered too much (`mask.max_mask_fraction`).
    `incomplete` are those whose output lacks a property of the input object, such as its tags. `compared` are the cleaned
    and held images whose record says whether the outside of the mask is identical, `exact` those of them where it is. `by_broken_rule`
    counts the held images by the rules that they break. `retries` is about images that were retried.
    """

    by_status: dict[Status, int]
    by_label: dict[str, int]
    left_alone: int
    exact: int
    compared: int
    incomplete: int = 0
    by_broken_rule: dict[str, int] = field(default_factory=dict)
    retries: Retries = Retries()

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            {status: self.by_status[status] + other.by_status[status] for status in STATUSES},
            _most_first(Counter(self.by_label) + Counter(other.by_label)),
            self.left_alone + other.left_alone,
            self.exact + other.exact,
            self.compared + other.compared,
            self.incomplete + other.incomplete,
            _most_first(Counter(self.by_broken_rule) + Counter(other.by_broken_rule)),
            self.retries + other.retries,
        )


def totals(records: pa.Table) -> Totals:
    """Counts over a table of `record.SCHEMA`."""
    counted = {row["values"]: row["counts"] for row in pc.value_counts(records["status"]).to_pylist()}
    cleaned = records.filter(pc.is_in(records["status"], pa.array(["cleaned", "held"])))
    labels = pc.struct_field(pc.list_flatten(cleaned["objects"]), "label")
    by_label = {row["values"]: row["counts"] for row in pc.value_counts(labels).to_pylist()}
    with_objects = records.filter(pc.greater(pc.fill_null(pc.list_value_length(records["objects"]), 0), 0))
    by_job = with_objects.filter(pc.is_null(with_objects["decision"]))
    left_alone = pc.sum(pc.equal(by_job["status"], "unchanged")).as_py() or 0
    incomplete = pc.sum(pc.match_substring(records["note"], NOT_CARRIED_OVER)).as_py() or 0
    by_status = {status: counted.get(status, 0) for status in STATUSES}
    exact = pc.sum(cleaned["outside_exact"]).as_py() or 0
    compared = pc.count(cleaned["outside_exact"]).as_py()
    held_for = pc.value_counts(pc.list_flatten(records["held_for"])).to_pylist()
    by_rule = _most_first({row["values"]: row["counts"] for row in held_for})
    return Totals(by_status, _most_first(by_label), left_alone, exact, compared, incomplete, by_rule, _retries(records))


def _retries(records: pa.Table) -> Retries:
    again = records.filter(pc.is_valid(records["retries"]))
    passed = again.filter(pc.and_(pc.equal(again["status"], "cleaned"), pc.is_null(again["decision"])))
    return Retries(
        len(again),
        pc.sum(again["retries"]).as_py() or 0,
        pc.sum(again["retry_seconds"]).as_py() or 0.0,
        {row["values"]: row["counts"] for row in pc.value_counts(passed["retry_kept"].drop_null()).to_pylist()},
    )


def totals_of(storage: Storage, layout: Layout, manifest: SortedRows) -> Totals:
    """Counts over the records of the images in a manifest."""
    records = open_records(storage, layout, _COUNTED)
    result = totals(SCHEMA.empty_table())
    for images in manifest:
        result += totals(records.matching(images["key"]))
    return result


def _most_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
