"""One review: records, decisions of all reviewers, pictures, and fills of drawn masks. What the server's answers are made of."""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from inpaint_core.errors import ConfigError, ObjectError, UserError
from inpaint_core.removal.catalogue.database import RecordDatabase
from inpaint_core.removal.catalogue.decisions import Choice, Decided, DecisionLog, DecisionReader, Identity
from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.removal.catalogue.ledger import record_tables
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.review.pictures import Pictures
from inpaint_core.removal.review.queries import Reviewed
from inpaint_core.storage import Storage

if TYPE_CHECKING:
    from inpaint_core.removal.review.filling import Filler

_FILLS_KEPT = 12

Row = dict[str, Any]


class Conflict(UserError):
    """Somebody else decided in the meantime, or the image allows no such decision."""


class Unknown(UserError):
    """There is no image or fill of this name."""


@dataclass(frozen=True)
class Fill:
    """A drawn mask, (H, W) bool, and the image that was filled under it."""

    id: str
    key: str
    mask: NDArray[np.bool_]
    data: bytes


class Review:
    """A review of one output.

    Args:
        output: of the job.
        source: its input; None: it cannot be read.
        config: the job's settings; None: they are not known, and masks cannot be filled.
        decided_by: name of the reviewer.
        seconds_between_looks: how often decisions of other reviewers are read, at most.

    Raises:
        ConfigError: there are no records.
        StorageError: the output cannot be used.
    """

    def __init__(
        self,
        output: Storage,
        source: Storage | None,
        config: RemoveConfig | None,
        decided_by: str,
        *,
        seconds_between_looks: float = 2.0,
    ) -> None:
        layout = Layout.of(dry_run=False)
        self.output, self.source, self.decided_by = output, source, decided_by
        self._layout = layout
        self.seconds_between_looks = seconds_between_looks
        self._config = config
        self._database = RecordDatabase(record_tables(output, layout))
        try:
            if self._database.value("SELECT count(*) FROM records") == 0:
                raise ConfigError(f"{output.uri} holds no records of a removal job: run one with this output first")
            self.records = Reviewed(self._database)
            self._reader = DecisionReader(output, layout)
            self.records.add(self._reader.new())
        except BaseException:
            self._database.close()
            raise
        self.database = self._database
        self.pictures = Pictures(output, source, layout)
        self._log = DecisionLog(output, layout, decided_by)
        self._looked = time.monotonic()
        self._looking = threading.Lock()
        self._deciding = threading.Lock()
        self._filler: Filler | None = None
        self._filling = threading.Lock()
        self._fills: OrderedDict[str, Fill] = OrderedDict()

    def close(self) -> None:
        """Let go of the records."""
        self._database.close()

    @property
    def can_fill(self) -> bool:
        """Whether masks can be filled: that needs the settings and the input."""
        return self._config is not None and self.source is not None

    def look(self) -> None:
        """Take the decisions of other reviewers, but not more often than agreed."""
        if not self._looking.acquire(blocking=False):
            return
        try:
            if time.monotonic() - self._looked >= self.seconds_between_looks:
                self.records.add(self._reader.new())
                self._looked = time.monotonic()
        finally:
            self._looking.release()

    def row(self, key: str) -> Row:
        """The record of an image.

        Raises:
            Unknown: there is none.
        """
        found = self.records.record(key)
        if found is None:
            raise Unknown("there is no record of this key")
        return found

    def decide(self, key: str, decision: Choice, *, fill: str | None, mask: str | None, seen: str | None) -> Decided:
        """Keep a decision.

        Args:
            key: of the image.
            decision: what was chosen.
            fill: ID of the fill to be made for good; only for `redo`.
            mask: ID of the mask of an earlier decision to come back to; only for `redo`.
            seen: ID of the decision that the reviewer saw, None where there was none.

        Raises:
            Conflict: somebody else has decided since, or the image allows no such decision.
            Unknown: no such image or fill.
            ObjectError, StorageError: it could not be stored.
        """
        with self._deciding:
            with self._looking:  # what counts is what is stored now
                self.records.add(self._reader.new())
            row = self.row(key)
            if row["decision_id"] != seen:
                what = row["decision"] or "took the decision back"
                raise Conflict(
                    f"{row['decided_by']} has decided in the meantime: {what}. Decide again to replace that."
                )
            if decision in ("accept", "hold") and row["status"] == "failed":
                raise Conflict("The image failed: there is no cleaned version. Restore the original, or draw a mask.")
            if decision == "hold" and row["status"] == "unchanged" and row["decision"] is None:
                raise Conflict("The image is unchanged: there is nothing to hold.")
            mask = self._mask_for(key, fill, mask) if decision == "redo" else None
            decided = self._log.add(key, decision, Identity(row["source_etag"], row["run_id"]), mask)
            self.records.add([decided])
            return decided

    def fill(self, key: str, png: bytes) -> Fill:
        """Fill a drawn mask, to be shown before anything is decided.

        Raises:
            ImageError: the mask does not fit, or the image cannot be filled.
            Unknown, Conflict: no such image, or none that can be filled.
            UserError: weights cannot be had.
        """
        from inpaint_core.removal.review.filling import mask_of  # torch

        row = self.row(key)
        if row["width"] is None:
            raise Conflict("The size of the image is not known, since it could not be decoded: no mask fits it.")
        mask = mask_of(png, (row["width"], row["height"]))
        return self._filled(uuid.uuid4().hex, row, mask)

    def filled(self, key: str, fill: str) -> Fill:
        """A fill that was made before, or the one of a decision's mask, which is made now.

        Raises:
            Unknown: there is none of this name.
            ObjectError, ImageError, UserError: as of `fill`.
        """
        with self._filling:
            if fill in self._fills and self._fills[fill].key == key:
                return self._fills[fill]
        row = self.row(key)
        if row["mask"] != fill:
            raise Unknown("this fill is not kept any more; draw again")
        from inpaint_core.removal.review.filling import mask_of

        return self._filled(fill, row, mask_of(self.pictures.drawn_mask(fill), (row["width"], row["height"])))

    def _filled(self, name: str, row: Row, mask: NDArray[np.bool_]) -> Fill:
        from inpaint_core.removal.review.filling import Filler

        if self._config is None or self.source is None:
            raise Conflict("Masks cannot be filled without the settings and the input of the job.")
        data = self.pictures.original(row)
        with self._filling:
            if self._filler is None:
                self._filler = Filler(self._config, measured=False)
            filled, _ = self._filler.fill(data, mask, row["key"])
            found = Fill(name, row["key"], mask, filled)
            self._fills[name] = found
            while len(self._fills) > _FILLS_KEPT:
                self._fills.popitem(last=False)
        return found

    def _mask_for(self, key: str, fill: str | None, mask: str | None) -> str:
        """The ID of a mask that lies in the output."""
        from inpaint_core.removal.output_writer import mask_png

        if mask is not None:
            if not _is_id(mask) or not self.output.exists(self._layout.decision_mask(mask)):
                raise Unknown("there is no such mask")
            return mask
        with self._filling:
            found = self._fills.get(fill or "")
        if found is None or found.key != key:
            raise Unknown("this fill is not kept any more; draw again")
        try:
            self.output.write(self._layout.decision_mask(found.id), mask_png(found.mask))
        except ObjectError as error:
            raise Conflict(f"The mask could not be stored: {error}") from error
        return found.id


def _is_id(text: str) -> bool:
    return len(text) == 32 and all(character in "0123456789abcdef" for character in text)
