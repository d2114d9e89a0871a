"""Carry out one decision: the version that was decided on under the image's key, and its new record."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, assert_never

from inpaint_core.errors import ImageError, Stage
from inpaint_core.images.decode import decode
from inpaint_core.removal.blur import blurred_file
from inpaint_core.removal.catalogue.decisions import Decided
from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.output_writer import mask_png
from inpaint_core.removal.record import MEASURED, NOT_CARRIED_OVER
from inpaint_core.removal.review.filling import Filler, mask_of
from inpaint_core.storage import MissingObject, Original, Storage

Row = dict[str, Any]
"""A record, or some columns of it."""


class DecisionApplier:
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
        new = row | self._carry_out(decided, row)
        # The latest row of a key counts, also where the clock of this machine is behind.
        new["finished_at"] = max(datetime.now(UTC), row["finished_at"] + timedelta(microseconds=1))
        if decided.decision != "none":
            new |= {"decision": decided.decision, "decided_by": decided.decided_by, "decided_at": decided.decided_at}
        return new

    def _carry_out(self, decided: Decided, row: Row) -> Row:
        """The columns of the record that change."""
        match decided.decision:
            case "accept":
                return self._accept(row)
            case "restore":
                return self._restore(row)
            case "hold":
                return self._hold(row)
            case "redo":
                return self._redo(decided, row)
            case "none":
                # No output is known for the record any more, so that the next run of the job does the image again.
                return {"decision": None, "decided_by": None, "decided_at": None, "output_size": None}
            case _ as never:
                assert_never(never)

    def _restore(self, row: Row) -> Row:
        data, original = self._original(row)
        cleaned = self._cleaned(row, data)
        if cleaned is not None:  # kept, so that the decision can be changed
            self._output.write_like(self._layout.held(row["key"]), cleaned, original)
        lost = self._output.write_like(row["key"], data, original, unchanged=True)
        unchanged: Row = {
            "status": "unchanged",
            "stage": None,
            "error": None,
            "held_for": None,
            "output_size": len(data),
        }
        return unchanged | dict.fromkeys(MEASURED) | _note(row["note"], lost)

    def _hold(self, row: Row) -> Row:
        data, original = self._original(row)
        cleaned = self._cleaned(row, data)
        if cleaned is None:
            raise ImageError(Stage.WRITE, "there is no cleaned version to hold")
        instead = self._instead(row, data, cleaned)
        if instead is not cleaned:
            self._output.write_like(self._layout.held(row["key"]), cleaned, original)
        if instead is None:
            self._output.delete(row["key"])
            lost: tuple[str, ...] = ()
        else:
            lost = self._output.write_like(row["key"], instead, original, unchanged=instead is data)
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

    def _accept(self, row: Row) -> Row:
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
        lost = self._output.write_like(row["key"], cleaned, original)
        self._output.delete(self._layout.held(row["key"]))
        return {"status": "cleaned", "held_for": None, "output_size": len(cleaned)} | _note(row["note"], lost)

    def _redo(self, decided: Decided, row: Row) -> Row:
        data, original = self._original(row)
        if decided.mask is None:
            raise ImageError(Stage.MASK, "the decision has no mask")
        png = self._output.read(self._layout.decision_mask(decided.mask))
        filled, remade = self._fill(row, data, png)
        lost = self._output.write_like(row["key"], filled, original)
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


def _note(note: str | None, lost: tuple[str, ...]) -> Row:
    """The note with what the new output lacks, in place of what an earlier one lacked."""
    parts = [part for part in (note or "").split("; ") if part and not part.startswith(NOT_CARRIED_OVER)]
    parts += [f"{NOT_CARRIED_OVER}{', '.join(lost)}"] if lost else []
    return {"note": "; ".join(parts) or None}
