"""Carry decisions out: `inpaint review OUTPUT --apply`.

Each decision leaves a new version of its image's record, which names it; what a record names is not done again. All writes are
whole or not at all, and each step can be done twice: after an interruption the same command goes on.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, assert_never

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from inpaint_core.errors import ImageError, ObjectError, Stage
from inpaint_core.images.decode import decode
from inpaint_core.progress import PrintLine
from inpaint_core.removal.blur import blurred_file
from inpaint_core.removal.catalogue.decisions import Decided, DecisionReader, Identity, latest
from inpaint_core.removal.catalogue.journal import journal_key
from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.removal.catalogue.lease import JobLease
from inpaint_core.removal.catalogue.ledger import merge_journal, record_tables
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.output_writer import mask_png
from inpaint_core.removal.record import MEASURED, NOT_CARRIED_OVER, SCHEMA
from inpaint_core.removal.review.filling import Filler, mask_of
from inpaint_core.storage import MissingObject, Original, Storage

_THREADS = 8
_DECISIONS_PER_JOURNAL = 64

Row = dict[str, Any]


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
        carry_out = partial(_attempt, CarryingOut(output, source, layout, config))
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


def _attempt(work: CarryingOut, item: tuple[Decided, Row]) -> Row | str:
    """The new record; or why the decision could not be carried out."""
    try:
        return work(*item)
    except ImageError as error:
        return error.reason
    except ObjectError as error:
        return str(error)


def _journal(output: Storage, layout: Layout, run_id: str, rows: list[Row]) -> None:
    if rows:
        with output.open_write(journal_key(layout, run_id, [row["key"] for row in rows])) as file:
            pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), file)


class CarryingOut:
    """Carries out one decision at a time; may be called from several threads.

    Args:
        output: of the job.
        source: its input.
        layout: of real runs.
        config: the job's settings.
    """

    def __init__(self, output: Storage, source: Storage, layout: Layout, config: RemoveConfig) -> None:
        self._output = output
        self._source = source
        self._layout = layout
        self._config = config
        self._filler = Filler(config, measured=True)

    def __call__(self, decided: Decided, row: Row) -> Row:
        """Do what was decided about an image; returns its new record.

        Raises:
            ObjectError, ImageError: it cannot be done; what is under the key is as it was, or already as decided.
        """
        ways: dict[str, Callable[[Decided, Row], Row]] = {
            "accept": self._accept,
            "restore": self._restore,
            "hold": self._hold,
            "redo": self._redo,
            "none": self._take_back,
        }
        new = row | ways[decided.decision](decided, row)
        # The latest row of a key counts, also where the clock of this machine is behind.
        new["finished_at"] = max(datetime.now(UTC), row["finished_at"] + timedelta(microseconds=1))
        if decided.decision != "none":
            new |= {"decision": decided.decision, "decided_by": decided.decided_by, "decided_at": decided.decided_at}
        return new

    def _restore(self, decided: Decided, row: Row) -> Row:
        data, original = self._original(row)
        cleaned = self._cleaned(row, data)
        if cleaned is not None:  # kept, so that the decision can be changed
            self._write(self._layout.held(row["key"]), cleaned, original)
        lost = self._write(row["key"], data, original, unchanged=True)
        unchanged: Row = {
            "status": "unchanged",
            "stage": None,
            "error": None,
            "held_for": None,
            "output_size": len(data),
        }
        return unchanged | dict.fromkeys(MEASURED) | _note(row["note"], lost)

    def _hold(self, decided: Decided, row: Row) -> Row:
        data, original = self._original(row)
        cleaned = self._cleaned(row, data)
        if cleaned is None:
            raise ImageError(Stage.WRITE, "there is no cleaned version to hold")
        instead = self._instead(row, data, cleaned)
        if instead is not cleaned:
            self._write(self._layout.held(row["key"]), cleaned, original)
        if instead is None:
            self._output.delete(row["key"])
            lost: tuple[str, ...] = ()
        else:
            lost = self._write(row["key"], instead, original, unchanged=instead is data)
        if instead is cleaned:
            self._output.delete(self._layout.held(row["key"]))
        size = None if instead is None else len(instead)
        return {"status": "held", "output_size": size} | _note(row["note"], lost)

    def _instead(self, row: Row, data: bytes, cleaned: bytes) -> bytes | None:
        """What stands under the key of a held image, as if a rule held it; None: nothing."""
        match self._config.accept.instead:
            case "original":
                return data
            case "cleaned":
                return cleaned
            case "blurred":
                return self._blurred(row, data)
            case "nothing":
                return None
            case _ as never:
                assert_never(never)

    def _blurred(self, row: Row, data: bytes) -> bytes:
        """The input image with what the mask of its record covers blurred."""
        original = decode(data, max_pixels=self._config.listing.max_pixels)
        height, width = original.pixels.shape[:2]
        mask = mask_of(self._output.read(self._layout.mask(row["key"])), (width, height))
        return blurred_file(original, mask, self._config.write).data

    def _accept(self, decided: Decided, row: Row) -> Row:
        if row["status"] == "failed":
            raise ImageError(Stage.WRITE, "it failed, so that there is no version to accept")
        if row["status"] == "cleaned" or (row["status"] == "unchanged" and row["decision"] is None):
            return {}
        data, original = self._original(row)
        cleaned = self._cleaned(row, data)
        if cleaned is None:
            if row["mask_fraction"]:
                raise ImageError(
                    Stage.WRITE, "its cleaned version no longer exists; undo the decision, and run the job"
                )
            return {}  # it was restored, and has no objects
        lost = self._write(row["key"], cleaned, original)
        self._output.delete(self._layout.held(row["key"]))
        return {"status": "cleaned", "held_for": None, "output_size": len(cleaned)} | _note(row["note"], lost)

    def _redo(self, decided: Decided, row: Row) -> Row:
        data, original = self._original(row)
        if decided.mask is None:
            raise ImageError(Stage.MASK, "the decision has no mask")
        return self._filled(row, data, original, self._output.read(self._layout.decision_mask(decided.mask)))

    def _take_back(self, decided: Decided, row: Row) -> Row:
        """No output is known for the record any more, so that the next run of the job does the image again."""
        return {"decision": None, "decided_by": None, "decided_at": None, "output_size": None}

    def _filled(self, row: Row, data: bytes, original: Original, png: bytes) -> Row:
        filled, remade = self._fill(row, data, png)
        lost = self._write(row["key"], filled, original)
        # The image before its mask, as in the job: see `Worker`.
        self._output.write(self._layout.mask(row["key"]), mask_png(mask_of(png, (remade["width"], remade["height"]))))
        self._output.delete(self._layout.held(row["key"]))
        # A person has seen it: no rule holds it.
        return (
            remade | {"status": "cleaned", "held_for": None, "output_size": len(filled)} | _note(remade["note"], lost)
        )

    def _fill(self, row: Row, data: bytes, png: bytes) -> tuple[bytes, Row]:
        """The image filled under a mask, and the columns of its record that follow from that."""
        if row["width"] is None:
            raise ImageError(Stage.MASK, "the size of the image is not known, so that no mask fits it")
        filled, record = self._filler.fill(data, mask_of(png, (row["width"], row["height"])), row["key"])
        made = record.as_row()
        kept = ("key", "source_size", "source_etag", "run_id", "config_hash", "finished_at", "objects")
        added = ("decision", "decided_by", "decided_at")
        return filled, {name: value for name, value in made.items() if name not in (*kept, *added)}

    def _cleaned(self, row: Row, data: bytes) -> bytes | None:
        """The cleaned version of an image, wherever it is, also where an attempt was interrupted; None: there is none.

        Args:
            row: the record.
            data: the input image, from which a cleaned version differs.
        """
        held = self._layout.held(row["key"])
        # Of other records, what is held may be of an earlier run; then the version under the key is the one to take.
        places = (
            [held, row["key"]]
            if row["status"] == "held" or row["decision"] in ("hold", "restore")
            else [row["key"], held]
        )
        if row["status"] != "held" and not row["mask_fraction"]:
            return None
        others = [data]
        if self._config.accept.instead == "blurred":
            with suppress(MissingObject):  # without a mask, nothing was blurred
                others.append(self._blurred(row, data))
        for place in places:
            with suppress(MissingObject):
                found = self._output.read(place)
                if found not in others:
                    return found
        return None

    def _original(self, row: Row) -> tuple[bytes, Original]:
        """The input image.

        Raises:
            ObjectError: it cannot be read, or has another size than in its record.
        """
        data, original = self._source.read_original(row["key"], row["source_size"])
        if self._config.write.times == "now":
            original = replace(original, properties=original.properties.without_time())
        return data, original

    def _write(self, key: str, data: bytes, original: Original, *, unchanged: bool = False) -> tuple[str, ...]:
        return self._output.write_like(key, data, original, unchanged=unchanged)


def _note(note: str | None, lost: tuple[str, ...]) -> Row:
    """The note with what the new output lacks, in place of what an earlier one lacked."""
    parts = [part for part in (note or "").split("; ") if part and not part.startswith(NOT_CARRIED_OVER)]
    parts += [f"{NOT_CARRIED_OVER}{', '.join(lost)}"] if lost else []
    return {"note": "; ".join(parts) or None}
