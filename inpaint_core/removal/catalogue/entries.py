"""What driver and workers exchange: rows of the manifest, and the run they are for."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from inpaint_core.removal.catalogue.sorted_rows import SortedRows, regrouped

# Images of a block: enough that its first and last batch, which overlap with nothing, weigh little; few enough that
# progress is seen and that every worker has several.
_IMAGES_PER_BLOCK = 64
_BLOCKS_PER_WORKER = 4
# The driver keeps what it knows of a stream's images and blocks until it ends; each stream starts its own workers.
IMAGES_PER_STREAM = 4_000_000
_BLOCKS_PER_STREAM = 16_000


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


def streams(pending: SortedRows, *, workers: int, images_per_batch: int) -> Iterator[list[pa.Table]]:
    """Rows of a manifest in blocks, and these in lists that are handed to the workers one after the other.

    A block is what is scheduled, journalled and, when its worker dies, retried.
    """
    images = math.ceil(len(pending) / max(math.ceil(len(pending) / IMAGES_PER_STREAM), 1))
    size = block_size(images, workers=workers, images_per_batch=images_per_batch)
    blocks = (rows.combine_chunks() for rows in regrouped(pending, size))
    while stream := list(islice(blocks, math.ceil(images / size))):
        yield stream


def block_size(images: int, *, workers: int, images_per_batch: int) -> int:
    """Images of each block of a stream: whole batches."""
    fair = math.ceil(images / (workers * _BLOCKS_PER_WORKER))
    most = max(_IMAGES_PER_BLOCK, math.ceil(images / _BLOCKS_PER_STREAM))
    return math.ceil(max(min(fair, most), 1) / images_per_batch) * images_per_batch


def name_of(keys: Iterable[str]) -> str:
    """A short name for a group of keys that is the same whenever the group is."""
    return hashlib.sha256("\0".join(keys).encode()).hexdigest()[:32]
