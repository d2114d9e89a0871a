"""What people decided about results: small files below `_removal/decisions`, which are only ever added to.

A process that takes decisions has files of its own, so that several people never write over each other; of the decisions
about one image the latest counts. A decision is about one record: the content of the input (ETag) and the run that made the
record. After a run that processed the image again it counts no longer.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from inpaint_core.errors import StorageError
from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.removal.record import Decision
from inpaint_core.storage import MissingObject, Storage

Choice = Decision | Literal["none"]
"""What can be chosen; `none`: an earlier decision was taken back."""

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("decision", pa.string(), nullable=False),
        pa.field("mask", pa.string()),
        pa.field("decided_by", pa.string(), nullable=False),
        pa.field("decided_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("source_etag", pa.string(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
    ]
)

_DECISIONS_PER_FILE = 500


class Identity(NamedTuple):
    """What tells a record of an image from later ones: the content of the input, and the run."""

    source_etag: str
    run_id: str


@dataclass(frozen=True)
class Decided:
    """One decision: one row of `SCHEMA`.

    `mask` is the ID of the mask that was drawn (`Layout.decision_mask`), None where none was.
    """

    id: str
    key: str
    decision: Choice
    mask: str | None
    decided_by: str
    decided_at: datetime
    source_etag: str
    run_id: str

    @property
    def identity(self) -> Identity:
        """The record that it is about."""
        return Identity(self.source_etag, self.run_id)

    @property
    def order(self) -> tuple[datetime, str]:
        """Of the decisions about an image the one with the largest value counts."""
        return self.decided_at, self.id


class DecisionLog:
    """Keeps the decisions of this process.

    Args:
        storage: the output.
        layout: of real runs.
        decided_by: name of the person.
    """

    def __init__(self, storage: Storage, layout: Layout, decided_by: str) -> None:
        self._storage = storage
        self._folder = layout.decisions
        self._decided_by = decided_by
        self._name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:12]}"
        self._files = 0
        self._rows: list[Decided] = []
        self._lock = threading.Lock()

    def add(self, key: str, decision: Choice, record: Identity, mask: str | None = None) -> Decided:
        """Keep a decision; when this returns, it is stored.

        Args:
            key: of the image.
            decision: what was chosen.
            record: the record that the person saw.
            mask: ID of a mask that is already stored.

        Raises:
            ObjectError, StorageError: it could not be stored, and does not count.
        """
        with self._lock:
            row = Decided(
                uuid.uuid4().hex,
                key,
                decision,
                mask,
                self._decided_by,
                datetime.now(UTC),
                record.source_etag,
                record.run_id,
            )
            rows = [*self._rows, row]
            with self._storage.open_write(f"{self._folder}/{self._name}-{self._files:04d}.parquet") as file:
                pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows], schema=SCHEMA), file)
            self._rows = rows
            if len(rows) == _DECISIONS_PER_FILE:
                self._rows, self._files = [], self._files + 1
            return row


class DecisionReader:
    """Reads decisions, and later those that were added since.

    Args:
        storage: the output.
        layout: of real runs.
    """

    def __init__(self, storage: Storage, layout: Layout) -> None:
        self._storage = storage
        self._folder = layout.decisions
        self._known: dict[str, str] = {}

    def new(self) -> list[Decided]:
        """The decisions in the files that were added or changed since the last call; those before may be among them.

        Raises:
            StorageError: the store cannot be used, or a file is damaged.
            ObjectError: a file cannot be read.
        """
        rows: list[Decided] = []
        for info in self._storage.list(self._folder):
            if not info.key.endswith(".parquet") or self._known.get(info.key) == info.etag:
                continue
            try:
                data = self._storage.read(info.key)
            except MissingObject:
                continue
            try:
                table = pq.ParquetFile(pa.BufferReader(data)).read(SCHEMA.names, use_threads=False).cast(SCHEMA)
            except (pa.ArrowException, ValueError, KeyError) as error:
                raise StorageError(
                    f"{self._storage.uri}/{info.key} is not a complete file of decisions; move it away, and its images are undecided"
                ) from error
            rows += [Decided(**row) for row in table.to_pylist()]
            self._known[info.key] = info.etag
        return rows


def latest(rows: Iterable[Decided]) -> dict[str, Decided]:
    """The decision that counts for each image, by key; also where it was taken back (`none`)."""
    found: dict[str, Decided] = {}
    for row in rows:
        if row.key not in found or row.order > found[row.key].order:
            found[row.key] = row
    return found


def decided_images(storage: Storage, layout: Layout) -> dict[str, Identity]:
    """Images about which a person decided, by key, and the record that the decision is about; carried out or not."""
    decisions = latest(DecisionReader(storage, layout).new())
    return {key: row.identity for key, row in decisions.items() if row.decision != "none"}
