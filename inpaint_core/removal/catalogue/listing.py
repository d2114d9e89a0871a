"""From a folder or bucket to the manifest: which objects the job takes, with what identifies their content."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from inpaint_core.errors import ConfigError
from inpaint_core.removal.catalogue.config import ListingConfig
from inpaint_core.removal.catalogue.layout import is_reserved
from inpaint_core.removal.catalogue.selection import LeftOut, Selection
from inpaint_core.removal.catalogue.sorted_rows import SortedRows, regrouped
from inpaint_core.storage import ObjectInfo, Storage

SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("etag", pa.string(), nullable=False),
        pa.field("modified", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("problem", pa.string()),  # why the object cannot be read, where the listing already shows it
    ]
)

KEYS = pa.schema([SCHEMA.field("key")])
OUTPUTS = pa.schema([SCHEMA.field("key"), SCHEMA.field("size")])

_ROWS_PER_GROUP = 50_000
_OBJECTS_AT_A_TIME = 10_000


@dataclass(frozen=True)
class Listing:
    """A manifest (rows of `SCHEMA`), and what of the input is not in it."""

    manifest: SortedRows
    left_out: LeftOut


def list_images(source: Storage, target: Storage, options: ListingConfig, limit: int | None) -> Listing:
    """List the input.

    Objects of other extensions, system files, those that the globs leave out, and whatever lies in the output or in a reserved
    folder (where an earlier job's output is the input, or the output lies inside the input) are counted, not listed. So are
    folders that may not be read; folders of which no object would be listed are not opened.

    Raises:
        StorageError: the input cannot be listed.
        ConfigError: the output lies inside the input by a link.
    """
    selection = Selection(options, prefix_inside(source, target, "output"))
    left_out = LeftOut()

    def taken() -> Iterator[ObjectInfo]:
        for info in source.list(skip=selection.skips_folder, forbidden=left_out.folders.__setitem__):
            kind = selection.why_not(info.key)
            if kind is None:
                yield info
            else:
                left_out.kinds[kind] += 1

    return Listing(_sorted(taken(), SCHEMA, limit), left_out)


def list_outputs(target: Storage) -> SortedRows:
    """Key and size of everything in the output that a job may have written (rows of `OUTPUTS`).

    Raises:
        StorageError: the output cannot be listed.
    """
    return _sorted((info for info in target.list() if not is_reserved(info.key)), OUTPUTS)


def write_manifest(target: Storage, key: str, manifest: SortedRows) -> None:
    """Keep a manifest in the output."""
    with target.open_write(key) as file, pq.ParquetWriter(file, SCHEMA) as writer:
        for rows in regrouped(manifest, _ROWS_PER_GROUP):
            writer.write_table(rows)


def _sorted(infos: Iterator[ObjectInfo], schema: pa.Schema, limit: int | None = None) -> SortedRows:
    rows = SortedRows(schema)
    infos = islice(infos, limit)
    while group := list(islice(infos, _OBJECTS_AT_A_TIME)):
        rows.add(pa.table([[getattr(info, name) for info in group] for name in schema.names], schema=schema))
    return rows


def prefix_inside(source: Storage, inner: Storage, path: str) -> str | None:
    """Prefix of the keys of `inner` in `source`, where it lies inside it.

    Args:
        source: the input.
        inner: the output, or the masks.
        path: config key of `inner`, for the message.

    Raises:
        ConfigError: it lies inside by a link, so that its keys there are not known.
    """
    if not source.contains(inner):
        return None
    inside = inner.uri.removeprefix(source.uri).strip("/")
    if inside == inner.uri.strip("/"):
        raise ConfigError(
            f"{path}: {inner.uri} lies inside the input ({source.uri}) through a link; give its path inside the input"
        )
    return f"{inside}/"
