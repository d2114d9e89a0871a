"""What driver and workers say to each other: rows of the manifest, and the run they are for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Entry:
    """One row of the manifest."""

    key: str
    size: int
    etag: str
    problem: str | None


@dataclass(frozen=True)
class RunId:
    """What every record of a run carries."""

    run_id: str
    config_hash: str


def as_entries(table: pa.Table) -> list[Entry]:
    """The rows of a manifest (a table of `listing.SCHEMA`)."""
    return [Entry(**row) for row in table.select(["key", "size", "etag", "problem"]).to_pylist()]


def name_of(keys: Iterable[str]) -> str:
    """A short name for a group of keys that is the same whenever the group is."""
    return hashlib.sha256("\0".join(keys).encode()).hexdigest()[:32]
